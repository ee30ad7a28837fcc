//! Where the cgroup v2 hierarchy is. Owns finding it; not what is attached to it.

use std::fs;
use std::path::{Path, PathBuf};

use super::ConnectError;

/// The directory that was asked for, which must be one of cgroup v2, or else the root of the hierarchy.
pub fn directory(asked: Option<&Path>) -> Result<PathBuf, ConnectError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(ConnectError::Mounts)?;
    let mounted = mount_points(&mounts);
    match asked {
        // A cgroup of v2 has this file, whether or not the hierarchy has controllers.
        Some(path) if path.join("cgroup.procs").is_file() && mounted.iter().any(|m| path.starts_with(m)) => {
            Ok(path.to_owned())
        }
        Some(path) => Err(ConnectError::NoCgroup { path: path.to_owned() }),
        None => mounted.into_iter().next().ok_or(ConnectError::NoHierarchy),
    }
}

/// The mount points of cgroup v2, the first first. See proc_pid_mountinfo(5).
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        (file_system.split(' ').next() == Some("cgroup2")).then(|| unescape(mount.split(' ').nth(4).unwrap_or("/")))
    };
    mountinfo.lines().filter_map(point).collect()
}

/// Blanks, newlines and backslashes in paths are written as three octal digits.
fn unescape(path: &str) -> PathBuf {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (written, meant)| path.replace(written, meant))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_whatever_else_is_mounted() {
        let v1 = "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "41 30 0:36 / /sys/fs/cgroup/unified\\040v2 rw - cgroup2 none rw";
        for (lines, expected) in [
            (vec![v1], vec![]),
            (vec![pure], vec!["/sys/fs/cgroup"]),
            (vec![v1, hybrid], vec!["/sys/fs/cgroup/unified v2"]),
            (vec!["", "nonsense", "a - cgroup2"], vec!["/"]),
        ] {
            let expected: Vec<PathBuf> = expected.into_iter().map(PathBuf::from).collect();
            assert_eq!(mount_points(&lines.join("\n")), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused_by_name() {
        let error = directory(Some("/tmp".as_ref())).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("/tmp is no directory of a cgroup v2 hierarchy"));
    }
}
