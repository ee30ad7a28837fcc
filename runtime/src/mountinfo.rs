//! The mounts of a mount namespace, as /proc/<pid>/mountinfo lists them.

use std::path::{Path, PathBuf};

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The directory of the file system that is mounted, usually `/`.
    pub root: PathBuf,
    /// Where, as seen from the process's root.
    pub mountpoint: PathBuf,
    /// The file system's type.
    pub kind: &'a str,
    /// The superblock's options.
    pub options: &'a str,
}

/// proc_pid_mountinfo(5): root and mount point are fields 4 and 5; after " - " come type, source, super options.
pub fn parse(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Mount {
            root: unescape(left.next()?),
            mountpoint: unescape(left.next()?),
            kind: right.next()?,
            options: right.nth(1).unwrap_or_default(),
        })
    })
}

fn unescape(field: &str) -> PathBuf {
    if !field.contains('\\') {
        return PathBuf::from(field);
    }
    Path::new(&field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_and_escapes_are_read() {
        let text =
            "30 29 0:26 /a\\040b /mnt/c\\134d rw,relatime shared:1 master:2 - resctrl none rw,mba_MBps\nnonsense\n";
        let expected = Mount {
            root: PathBuf::from("/a b"),
            mountpoint: PathBuf::from("/mnt/c\\d"),
            kind: "resctrl",
            options: "rw,mba_MBps",
        };
        assert_eq!(parse(text).collect::<Vec<_>>(), [expected]);
    }
}
