//! Opening a path beneath a root, making what is missing: symlinks of the image are followed as a process in the
//! container would, to places that need not exist yet.
//!
//! Every component is opened in the directory opened for the one before, without following it, so nothing that is
//! swapped meanwhile leads out of the root (CVE-2021-30465, CVE-2024-45310).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use nix::sys::stat::{Mode, fstat, mkdirat};
use pintle_sys::{Errno, Result, open};

/// What the last component becomes if it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// A directory, 0755.
    Dir,
    /// An empty file, 0644.
    File,
}

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MOST: usize = 40;

/// Opens `path` beneath `root` (O_PATH) and makes its missing components.
pub fn open_or_make(root: impl AsFd, path: &CStr, last: Last) -> Result<OwnedFd> {
    let mut ahead = Vec::new();
    push(&mut ahead, path.to_bytes());
    let mut dirs = vec![open::in_root(root, c"/", libc::O_PATH | libc::O_DIRECTORY)?];
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name.as_c_str() == c".." {
            dirs.truncate((dirs.len() - 1).max(1));
            continue;
        }
        let here = dirs.last().ok_or(Errno::EINVAL)?;
        let make = if ahead.is_empty() { last } else { Last::Dir };
        let fd = step(here, &name, make)?;
        match fstat(&fd)?.st_mode & libc::S_IFMT {
            libc::S_IFLNK => {
                refuse_magic(&fd, &name)?;
                links += 1;
                if links > LINKS_MOST {
                    return Err(Errno::ELOOP);
                }
                let to = nix::fcntl::readlinkat(&fd, c"")?.into_vec();
                if to.starts_with(b"/") {
                    dirs.truncate(1);
                }
                push(&mut ahead, &to);
            }
            libc::S_IFDIR => dirs.push(fd),
            _ if ahead.is_empty() => return Ok(fd),
            _ => return Err(Errno::ENOTDIR),
        }
    }
    dirs.pop().ok_or(Errno::EINVAL)
}

/// The links of procfs that are no text but doors (`fd/7`, `cwd`, `root`) are never followed.
fn refuse_magic(link: &OwnedFd, name: &CStr) -> Result<()> {
    let plain = [c"self", c"thread-self", c"mounts", c"net"].contains(&name);
    let procfs = nix::sys::statfs::fstatfs(link)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC;
    if procfs && !plain { Err(Errno::ELOOP) } else { Ok(()) }
}

/// Puts a path's components on the stack, the first on top.
fn push(ahead: &mut Vec<CString>, path: &[u8]) {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    ahead.extend(parts.rev().filter_map(|part| CString::new(part).ok()));
}

/// One component, made if missing; a symlink is opened itself.
fn step(parent: &OwnedFd, name: &CStr, make: Last) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    match open::beneath(parent, name, flags) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let made = match make {
        Last::Dir => mkdirat(parent, name, Mode::from_bits_truncate(0o755)),
        Last::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            open::at(parent, name, flags, 0o644).map(drop)
        }
    };
    match made {
        Ok(()) | Err(Errno::EEXIST) => open::beneath(parent, name, flags),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn missing_places_are_made_inside_wherever_links_point() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("real")).unwrap();
        for (link, to) in [
            ("absolute", "/made/by/absolute"),
            ("out", "../../../../made/out"),
            ("chain", "absolute/further"),
            ("real/up", "../made/up"),
            ("round", "round"),
        ] {
            symlink(to, root.join(link)).unwrap();
        }
        let handle = std::fs::File::open(&root).unwrap();
        let table: &[(&CStr, Last, std::result::Result<&str, Errno>)] = &[
            (c"/absolute", Last::Dir, Ok("made/by/absolute")),
            (c"/out", Last::File, Ok("made/out")),
            (c"/chain/x", Last::Dir, Ok("made/by/absolute/further/x")),
            (c"/real/up", Last::Dir, Ok("made/up")),
            (c"/new/./a/../b", Last::File, Ok("new/b")),
            (c"/../../../etc2", Last::Dir, Ok("etc2")),
            (c"/round", Last::Dir, Err(Errno::ELOOP)),
            (c"/made/out/below", Last::Dir, Err(Errno::ENOTDIR)),
        ];
        for (path, last, expected) in table {
            let made = open_or_make(&handle, path, *last).map(drop);
            assert_eq!(made, expected.map(drop), "{path:?}");
            if let Ok(at) = expected {
                let meta = std::fs::symlink_metadata(root.join(at)).unwrap();
                assert_eq!(meta.is_dir(), *last == Last::Dir, "{path:?}");
            }
        }
        let outside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside, ["root"], "nothing is made outside of the root");
    }
}
