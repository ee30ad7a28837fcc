//! Looks for what a program should have taken with it.

use crate::Machine;
use std::fs;
use std::path::{Path, PathBuf};

/// What belongs to the thing under test: everything that names one of these is a left-over once it is down.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Directories that processes, mounts and namespaces name: state and run directories.
    pub paths: Vec<PathBuf>,
    /// Name of a directory below any cgroup hierarchy.
    pub cgroup: String,
}

impl Scope {
    /// Everything of this scope that still exists, one readable line each: processes whose command line names one of
    /// the paths, mounts (of any process) below them, cgroups; and in `host`: interfaces other than `lo` and those in
    /// `links_before`, nftables tables, and routes of our protocol.
    pub fn leftovers(&self, host: &Machine, links_before: &[&str]) -> Vec<String> {
        let mut found = self.processes();
        found.extend(self.mounts(host));
        found.extend(self.cgroups());
        for line in host.sh("ip -o link show").lines() {
            let name = line.split_whitespace().nth(1).unwrap_or(line).trim_end_matches(':');
            let name = name.split('@').next().unwrap_or(name);
            if name != "lo" && !links_before.contains(&name) {
                found.push(format!("interface {name}"));
            }
        }
        found.extend(host.sh("nft list tables").lines().map(|l| format!("nftables {l}")));
        found.extend(host.sh("ip route show table all proto 112").lines().map(|l| format!("route {l}")));
        found
    }

    /// Processes whose command line names one of the paths.
    pub fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pid in pids() {
            // A process that ended meanwhile is none.
            let Ok(raw) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
            let line = String::from_utf8_lossy(&raw).replace('\0', " ");
            if pid != std::process::id() && self.paths.iter().any(|p| line.contains(&*p.to_string_lossy())) {
                found.push(format!("process {pid}: {line}"));
            }
        }
        found
    }

    fn mounts(&self, host: &Machine) -> Vec<String> {
        // Mount points a `Machine` hides with a tmpfs are its own.
        let of = fs::read_to_string(format!("/proc/{}/mountinfo", host.pid())).unwrap_or_default();
        of.lines()
            .filter_map(|l| l.split(' ').nth(4))
            .filter(|point| self.paths.iter().any(|p| Path::new(point).starts_with(p) && Path::new(point) != p))
            .map(|point| format!("mount {point}"))
            .collect()
    }

    fn cgroups(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots.extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path()));
        for root in roots {
            let path = root.join(&self.cgroup);
            if path.is_dir() {
                found.push(format!("cgroup {}", path.display()));
            }
        }
        found
    }
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str().and_then(|n| n.parse().ok())).collect()
}
