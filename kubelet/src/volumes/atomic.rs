//! A directory of files that readers see change all at once.
//!
//! ```text
//! volume/..2026_01_01_00_00_00.5/{a,b/c}     the files
//! volume/..data -> ..2026_01_01_00_00_00.5   replaced by rename
//! volume/{a,b}  -> ..data/{a,b}              made once
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use pintle_kubelet_plan::payload::File;

use crate::disk;
use crate::error::{At as _, FileError};

/// Makes `dir` hold exactly these files. Writing the same files again changes nothing.
pub(super) fn write(dir: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> Result<(), FileError> {
    let data = dir.join("..data");
    let old = match fs::read_link(&data) {
        Ok(target) => Some(target),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e).at("read", &data),
    };
    if old.is_some() && same(&data, files) {
        return Ok(());
    }
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%N").to_string();
    let new = dir.join(&stamp);
    disk::make_dir(&new, 0o755)?;
    own(&new, None, group)?;
    for (path, file) in files {
        write_one(&new, path, file, group)?;
    }
    let next = dir.join("..data_tmp");
    disk::remove_file(&next)?;
    symlink(&stamp, &next).at("link", &next)?;
    fs::rename(&next, &data).at("replace", &data)?;
    link_tops(dir, files)?;
    if let Some(old) = old {
        disk::remove_tree(&dir.join(old))?;
    }
    Ok(())
}

fn write_one(root: &Path, path: &str, file: &File, group: Option<u32>) -> Result<(), FileError> {
    let target = root.join(path);
    if let Some(parent) = target.parent() {
        disk::make_dir(parent, 0o755)?;
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).at("make", &target)?;
    out.write_all(&file.data).at("write", &target)?;
    own(&target, file.user, group)?;
    // Modes are set apart from creation, which the umask narrows; after chown, which clears setuid bits.
    out.set_permissions(fs::Permissions::from_mode(file.mode)).at("set the mode of", &target)
}

fn own(path: &Path, user: Option<u32>, group: Option<u32>) -> Result<(), FileError> {
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, user, group).at("give to its owner", path)
}

fn same(data: &Path, files: &BTreeMap<String, File>) -> bool {
    let equal = |(path, file): (&String, &File)| {
        let target = data.join(path);
        let like = |m: fs::Metadata| {
            m.permissions().mode() & 0o7777 == file.mode & 0o7777 && file.user.is_none_or(|user| user == m.uid())
        };
        fs::metadata(&target).is_ok_and(like) && fs::read(&target).is_ok_and(|d| d == file.data)
    };
    let tops: BTreeSet<&str> = files.keys().map(|p| top(p)).collect();
    let present = disk::names(data).unwrap_or_default();
    files.iter().all(equal) && present.iter().all(|n| tops.contains(n.as_str()))
}

fn link_tops(dir: &Path, files: &BTreeMap<String, File>) -> Result<(), FileError> {
    let wanted: BTreeSet<&str> = files.keys().map(|p| top(p)).collect();
    for name in disk::names(dir)? {
        let is_link = !name.starts_with("..");
        if is_link && !wanted.contains(name.as_str()) {
            disk::remove_file(&dir.join(&name))?;
        }
    }
    for name in wanted {
        let link = dir.join(name);
        match symlink(Path::new("..data").join(name), &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).at("link", &link),
            _ => {}
        }
    }
    Ok(())
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, File> {
        let file = |text: &str| File { mode: 0o640, user: None, data: text.as_bytes().to_vec() };
        pairs.iter().map(|(p, t)| ((*p).to_owned(), file(t))).collect()
    }

    #[test]
    fn files_change_together_and_stale_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1"), ("b/c", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("b/c")).unwrap(), "2");
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let first = fs::read_link(dir.path().join("..data")).unwrap();
        write(dir.path(), &files(&[("a", "1"), ("b/c", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), first);
        write(dir.path(), &files(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        let names = disk::names(dir.path()).unwrap();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(!names.contains(&"b".to_owned()));
    }
}
