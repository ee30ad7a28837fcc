//! Stdio that is not the container's own: pipes, and files that are nowhere in its mount namespace.

use std::fmt;

use pintle_criu::InheritFd;

/// A FIFO or a regular file outside the container. CRIU would look for its mount inside and fail, unless told that it is
/// external (criu(8), --external).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideFile {
    /// Id of its mount (proc_pid_fdinfo(5)).
    pub mount: u64,
    /// Inode number.
    pub inode: u64,
}

/// The name CRIU has for it: both numbers are hexadecimal.
impl fmt::Display for OutsideFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file[{:x}:{:x}]", self.mount, self.inode)
    }
}

/// What a restore must know of stdio: what each was, as /proc shows it, or CRIU's name for what is outside.
pub fn descriptors(shown: &[String], outside: &[Option<OutsideFile>]) -> Vec<String> {
    let named = |(at, shown): (usize, &String)| {
        outside.get(at).copied().flatten().map_or_else(|| shown.clone(), |file| file.to_string())
    };
    shown.iter().enumerate().map(named).collect()
}

/// Stdio that was a pipe, or outside, becomes ours of the same number.
pub(super) fn inherited(descriptors: &[String]) -> impl Iterator<Item = InheritFd> + '_ {
    let ours = |(_, name): &(i32, &String)| name.starts_with("pipe:") || name.starts_with("file[");
    (0..).zip(descriptors).filter(ours).map(|(fd, key)| InheritFd { key: key.clone(), fd })
}
