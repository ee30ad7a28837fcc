//! Small operations on files: whole or not at all, gone is gone.
//!
//! Owns: writing by rename, removing without crossing a mount, unmounting below a directory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::error::{At as _, FileError};

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).at("make directory", path)
}

/// Writes a file by rename, so that readers see the old or the new contents.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new).at("create", &new)?;
    file.write_all(contents).at("write", &new)?;
    fs::rename(&new, path).at("replace", path)
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", path),
        _ => Ok(()),
    }
}

/// Mount points at or below a directory, deepest last.
pub(crate) fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).at("read", table)?;
    let points = text.lines().filter_map(|l| l.split(' ').nth(4)).map(unescape);
    Ok(points.filter(|p| p.starts_with(dir)).collect())
}

/// Unmounts everything at or below a directory.
pub(crate) fn unmount_below(dir: &Path) -> Result<(), FileError> {
    for point in mounts_below(dir)?.iter().rev() {
        unmount(point)?;
    }
    Ok(())
}

/// Unmounts one mount point; not mounted is fine.
pub(crate) fn unmount(point: &Path) -> Result<(), FileError> {
    match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(e) => Err(e).at("unmount", point),
    }
}

/// Removes a tree without entering another file system: a volume that is still mounted keeps its data.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FileError> {
    let Some(meta) = metadata(path)? else { return Ok(()) };
    match remove_on_device(path, &meta, meta.dev()) {
        // A mount point of the administrator's is emptied and stays (rmdir(2): EBUSY).
        Err(e) if e.path == path && e.source.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        other => other,
    }
}

fn remove_on_device(path: &Path, meta: &fs::Metadata, device: u64) -> Result<(), FileError> {
    if !meta.is_dir() {
        return remove_file(path);
    }
    if meta.dev() != device {
        let busy = io::Error::other("another file system is mounted here");
        return Err(busy).at("remove", path);
    }
    for entry in fs::read_dir(path).at("list", path)? {
        let child = entry.at("list", path)?.path();
        if let Some(meta) = metadata(&child)? {
            remove_on_device(&child, &meta, device)?;
        }
    }
    match fs::remove_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", path),
        _ => Ok(()),
    }
}

fn metadata(path: &Path) -> Result<Option<fs::Metadata>, FileError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("look at", path),
    }
}

/// Names in a directory; a directory that is not there is empty.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("list", dir),
    };
    let mut out = Vec::new();
    for entry in entries {
        out.push(entry.at("list", dir)?.file_name().to_string_lossy().into_owned());
    }
    out.sort();
    Ok(out)
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(field: &str) -> PathBuf {
    PathBuf::from(field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_tree_is_removed_whole_and_once_more_without_complaint() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("a");
        make_dir(&tree.join("b/c"), 0o755).unwrap();
        replace(&tree.join("b/f"), b"x", 0o600).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
        assert_eq!(names(&tree).unwrap(), Vec::<String>::new());
    }
}
