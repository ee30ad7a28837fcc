//! A cgroup of v2 for the calling process.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup of v2 with `kubepods` in it, in which this process is: to programs on its hooks, the process' sockets are
/// the node's in the node's network namespace, and pods' in others. nextest runs every test in its own process.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
    home: PathBuf,
}

impl Cgroup {
    /// Makes it, below the one this process is in, and moves the process there.
    ///
    /// # Panics
    /// Without root, or where no cgroup v2 hierarchy is mounted.
    pub fn enter() -> Self {
        let mounts = read("/proc/self/mountinfo");
        let mounted = mounts.lines().find(|l| l.contains(" - cgroup2 ")).and_then(|l| l.split(' ').nth(4));
        let own = read("/proc/self/cgroup");
        let own = own.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default();
        let home = Path::new(mounted.expect("a mounted cgroup v2 hierarchy is needed")).join(own);
        let cgroup = Self { dir: home.join(format!("pintle-test-{}", std::process::id())), home };
        fs::create_dir(&cgroup.dir).expect("make a cgroup of v2");
        cgroup.make_pods();
        cgroup
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of `kubepods`.
    pub fn pods(&self) -> PathBuf {
        self.dir.join("kubepods")
    }

    /// Makes `kubepods` and moves this process there.
    ///
    /// # Panics
    /// When it is there.
    pub fn make_pods(&self) {
        fs::create_dir(self.pods()).expect("make a cgroup of v2");
        join(&self.pods());
    }

    /// Removes `kubepods`; this process is above it then.
    ///
    /// # Panics
    /// When others are in it.
    pub fn remove_pods(&self) {
        join(&self.dir);
        fs::remove_dir(self.pods()).expect("remove a cgroup of v2");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("/proc is mounted")
}

fn join(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).expect("move this process to a cgroup");
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        join(&self.home);
        for dir in [self.pods(), self.dir.clone()].iter().filter(|d| d.exists()) {
            if let Err(error) = fs::remove_dir(dir) {
                eprintln!("{} is left behind: {error}", dir.display());
            }
        }
    }
}
