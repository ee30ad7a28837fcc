//! Opening and removing things beneath a directory without ever leaving it.
//!
//! openat2(2) resolves a path inside a root as chroot(2) would, symlinks included. Removing never follows a symlink and
//! never crosses into another mount, so that clean-up cannot delete what a container had mounted.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens a directory as a root.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` with `root` as its root: `/`, `..` and symlinks all stay inside.
pub(crate) fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // openat2(2): the kernel could not rule out a concurrent rename; asking again is what it asks for.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Removes a file or a whole tree. Nothing there is success.
pub(crate) fn remove_all(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(dir.as_fd(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut levels = vec![(open_child(dir.as_fd(), name)?, name.to_vec())];
    while let Some((level, _)) = levels.last() {
        match empty_until_directory(level)? {
            Some(child) => {
                let child = child.into_bytes();
                let fd = open_child(level.as_fd(), &child)?;
                levels.push((fd, child));
            }
            None => {
                let name = levels.pop().map(|(_, name)| name).unwrap_or_default();
                let parent = levels.last().map_or(dir.as_fd(), |(fd, _)| fd.as_fd());
                rustix::fs::unlinkat(parent, name.as_slice(), AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

/// Opens a directory to be emptied: not through a symlink, not on another mount.
fn open_child(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)?)
}

/// Unlinks everything in a directory that is none, and gives the name of a directory in it, if there is one.
fn empty_until_directory(dir: &OwnedFd) -> io::Result<Option<CString>> {
    let mut found = None;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            found = Some(name.to_owned());
            continue;
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => found = Some(name.to_owned()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Removes the tree at `path`, which must not be a root of a file system.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match open_root(parent) {
        Ok(dir) => remove_all(dir, name.as_encoded_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::fs;

    #[test]
    fn removing_a_tree_leaves_what_its_symlinks_point_at() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/b/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_path_stays_inside_its_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("root/link")).unwrap();
        let root = open_root(&dir.path().join("root")).unwrap();
        for path in ["../secret", "/../secret", "link"] {
            assert_eq!(open(&root, path.as_bytes(), OFlags::RDONLY).unwrap_err(), Errno::NOENT, "{path}");
        }
    }
}
