//! Cgroups as the kubelet needs them: the QoS parents, and killing and removing what was left behind.
//!
//! Owns: finding the hierarchies (v1 controllers and v2), making, killing, removing a path in all of them.
//! Does not own: pods' and containers' limits (the runtime writes them).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{At as _, FileError};

/// How long killed processes may take to vanish.
const DEATH_MS_MAX: u64 = 5000;

/// Where the cgroup file systems are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    v1: Vec<(String, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Cgroups {
    /// Reads the mount table.
    pub(crate) fn detect() -> Result<Cgroups, FileError> {
        let table = Path::new("/proc/self/mountinfo");
        Ok(Cgroups::parse(&fs::read_to_string(table).at("read", table)?))
    }

    fn parse(table: &str) -> Cgroups {
        let mut out = Cgroups::default();
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => drop(out.v2.get_or_insert(point)),
                (Some("cgroup"), Some(options)) => {
                    let name = options.split(',').rfind(|o| *o != "rw" && *o != "ro" && !o.starts_with("xattr"));
                    let name = name.unwrap_or_default().to_owned();
                    if !out.v1.iter().any(|(n, _)| *n == name) {
                        out.v1.push((name, point));
                    }
                }
                _ => {}
            }
        }
        out
    }

    fn dirs<'a>(&'a self, path: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        let relative = path.trim_start_matches('/');
        self.v1.iter().map(|(_, p)| p).chain(&self.v2).map(move |root| root.join(relative))
    }

    /// Makes a path in every hierarchy that limits something; on v2 its controllers are passed down.
    pub(crate) fn ensure(&self, path: &str) -> Result<(), FileError> {
        for (name, root) in &self.v1 {
            if matches!(name.as_str(), "cpu" | "cpuacct" | "memory" | "pids") || name.contains("cpu,") {
                let dir = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(&dir).at("make cgroup", &dir)?;
            }
        }
        if let (Some(root), true) = (&self.v2, self.v1.is_empty()) {
            let mut dir = root.clone();
            pass_controllers_down(&dir);
            for part in path.split('/').filter(|p| !p.is_empty()) {
                dir.push(part);
                fs::create_dir_all(&dir).at("make cgroup", &dir)?;
                pass_controllers_down(&dir);
            }
        }
        Ok(())
    }

    /// Writes CPU shares of a path that [`Cgroups::ensure`] made.
    pub(crate) fn set_shares(&self, path: &str, shares: u64) -> Result<(), FileError> {
        for dir in self.dirs(path) {
            let v1 = dir.join("cpu.shares");
            if v1.exists() {
                fs::write(&v1, shares.to_string()).at("write", &v1)?;
            }
            let v2 = dir.join("cpu.weight");
            if v2.exists() {
                let weight = 1 + (shares.saturating_sub(2) * 9999) / 262_142;
                fs::write(&v2, weight.to_string()).at("write", &v2)?;
            }
        }
        Ok(())
    }

    /// Kills every process at and below a path, waits for their end, removes the path everywhere.
    pub(crate) fn remove(&self, path: &str) -> Result<(), FileError> {
        let started = Instant::now();
        loop {
            let mut left = 0;
            for dir in self.dirs(path).filter(|d| d.exists()) {
                left += kill_below(&dir)?;
            }
            if left == 0 {
                break;
            }
            if started.elapsed() > Duration::from_millis(DEATH_MS_MAX) {
                let stuck = io::Error::other(format!("{left} process(es) do not die"));
                return Err(stuck).at("empty cgroup", Path::new(path));
            }
            // Death is not announced to a stranger of the process; this path runs only after crashes.
            std::thread::sleep(Duration::from_millis(5));
        }
        for dir in self.dirs(path) {
            remove_dirs(&dir)?;
        }
        Ok(())
    }

    /// Removes a path in which nothing is left; one that is in use, or the root, stays.
    pub(crate) fn prune(&self, path: &str) {
        for dir in self.dirs(path).filter(|_| !path.trim_matches('/').is_empty()) {
            // Busy or gone: in both cases there is nothing to do.
            let _ = fs::remove_dir(&dir);
        }
    }
}

fn pass_controllers_down(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        // A controller that a parent keeps for itself is none of ours; the runtime reports what it misses.
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn kill_below(dir: &Path) -> Result<usize, FileError> {
    let all_at_once = dir.join("cgroup.kill");
    if all_at_once.exists() {
        fs::write(&all_at_once, "1").at("write", &all_at_once)?;
    }
    let mut count = 0;
    for pid in processes(dir)? {
        count += 1;
        // It may have ended since; then there is nothing to do.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for child in subdirs(dir)? {
        count += kill_below(&child)?;
    }
    Ok(count)
}

fn processes(dir: &Path) -> Result<Vec<i32>, FileError> {
    let file = dir.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0).collect()),
        Err(e) if gone(&e) => Ok(Vec::new()),
        Err(e) => Err(e).at("read", &file),
    }
}

fn subdirs(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e).at("list", dir),
    };
    Ok(entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect())
}

fn remove_dirs(dir: &Path) -> Result<(), FileError> {
    for child in subdirs(dir)? {
        remove_dirs(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(e) if !gone(&e) => Err(e).at("remove cgroup", dir),
        _ => Ok(()),
    }
}

fn gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::Error::ENODEV as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hierarchy_are_found_in_the_mount_table() {
        let table = "30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                     31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                     32 24 0:28 / /proc rw - proc proc rw\n";
        let wanted = Cgroups {
            v1: vec![("memory".to_owned(), PathBuf::from("/sys/fs/cgroup/memory"))],
            v2: Some(PathBuf::from("/sys/fs/cgroup/unified")),
        };
        assert_eq!(Cgroups::parse(table), wanted);
    }
}
