//! The container's own /etc/passwd, read beneath its root: no NSS, no host files.

use std::io::Read as _;
use std::path::Path;

use oci_spec::runtime::Process;

/// The home directory for a process whose environment has none.
pub fn home_if_unset(process: &Process, root: &Path) -> Option<String> {
    let has_home = |v: &String| v.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
    if process.env().iter().flatten().any(has_home) {
        return None;
    }
    let text = read(root)?;
    home(&text, process.user().uid())
}

fn read(root: &Path) -> Option<String> {
    let root = std::fs::File::open(root).ok()?;
    let file = pintle_sys::open::in_root(&root, c"/etc/passwd", libc::O_RDONLY | libc::O_NONBLOCK).ok()?;
    let mut text = String::new();
    // An image may ship a passwd of any size; a megabyte is more than any real one.
    std::fs::File::from(file).take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

/// passwd(5): name:password:uid:gid:gecos:home:shell.
fn home(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let found = fields.get(2)?.parse() == Ok(uid);
        found.then(|| fields.get(5).map(|home| (*home).to_owned()))?.filter(|home| !home.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_comes_from_the_sixth_field() {
        let text = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\nbroken\n";
        assert_eq!(home(text, 33).as_deref(), Some("/var/www"));
        assert_eq!(home(text, 1), None);
    }
}
