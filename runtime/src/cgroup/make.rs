//! Making the directories of a cgroup.

use std::path::Path;

use oci_spec::runtime::LinuxResources;
use pintle_runtime_plan::cgroup::domain_controllers;
use pintle_sys::Errno;

use super::layout::{CgroupMount, Layout};
use super::{BESIDE, Cgroups, Driver, Need, put};
use crate::error::{Doing as _, Error, Result};

impl Cgroups {
    /// Makes the directories and missing ancestors.
    pub fn create(&self, layout: &Layout) -> Result<()> {
        self.clone().create_for(layout, None)
    }

    /// Makes the directories for a container with these limits. A rootless caller loses the hierarchies that are not
    /// open to him, provided that nobody asked for a place in them; a limit that needs one fails later, by name.
    pub fn create_for(&mut self, layout: &Layout, resources: Option<&LinuxResources>) -> Result<()> {
        for mount in layout.mounts() {
            let key = mount.key();
            let Some(path) = self.paths.get(&key) else { continue };
            let made = match layout {
                Layout::V2(_) => {
                    make_v2(&mount.mountpoint, path, resources).and_then(|()| self.check_entry(mount, path))
                }
                Layout::V1 { .. } => make_v1(mount, path),
            };
            match made {
                Err(error) if self.need == Need::WhatIsOpen && not_permitted(&error) => {
                    if self.asked_for {
                        return Err(closed(&error));
                    }
                    self.paths.remove(&key);
                }
                other => other?,
            }
        }
        // It is systemd's: where he does not use it, nobody does.
        if self.paths.get(BESIDE).is_some_and(|path| !path.exists()) {
            self.paths.remove(BESIDE);
        }
        Ok(())
    }

    /// A rootless caller may have made a cgroup that no process of his can move to.
    fn check_entry(&self, mount: &CgroupMount, path: &Path) -> Result<()> {
        if self.need == Need::All || self.driver == Driver::Systemd {
            return Ok(());
        }
        let entered = may_enter(mount, path).doing(|| format!("move a process to cgroup {}", path.display()));
        if entered.is_err() {
            let _another_may_use_it = std::fs::remove_dir(path);
        }
        entered
    }
}

/// Whether a process of ours may be born in, or move to, a cgroup of v2: cgroup-v2.rst, "Delegation Containment", wants
/// write access there and at the nearest cgroup above both.
pub fn may_enter(mount: &CgroupMount, path: &Path) -> pintle_sys::Result<()> {
    let own = mount.own();
    let above_both = own.ancestors().find(|above| path.starts_with(above)).unwrap_or(&mount.mountpoint);
    for directory in [path, above_both] {
        nix::unistd::eaccess(&directory.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK)?;
    }
    Ok(())
}

fn not_permitted(error: &Error) -> bool {
    matches!(error, Error::System { errno: Errno::EACCES | Errno::EPERM | Errno::EROFS, .. })
}

fn closed(error: &Error) -> Error {
    Error::WrongState(format!(
        "linux.cgroupsPath: {error}; a rootless container can only use cgroups that were delegated to its user (systemd: \
         Delegate=yes): leave linux.cgroupsPath out to go without, or name a path in one"
    ))
}

fn make(path: &Path) -> Result<bool> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).doing(|| format!("make cgroup {}", path.display())),
    }
}

/// All directories from below `top` down to `path`.
fn levels<'a>(top: &Path, path: &'a Path) -> Vec<&'a Path> {
    let mut levels: Vec<&Path> = path.ancestors().take_while(|level| *level != top && level.starts_with(top)).collect();
    levels.reverse();
    levels
}

fn make_v1(mount: &CgroupMount, path: &Path) -> Result<()> {
    let cpuset = mount.controllers.iter().any(|controller| controller == "cpuset");
    if !cpuset && make_deepest(path)? {
        return Ok(());
    }
    for level in levels(&mount.mountpoint, path) {
        if make(level)? || cpuset {
            inherit_cpuset(level, cpuset)?;
        }
    }
    Ok(())
}

/// The usual case: only the last directory is missing.
fn make_deepest(path: &Path) -> Result<bool> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(|| format!("make cgroup {}", path.display())),
    }
}

/// A fresh v1 cpuset is empty and takes no process: it starts with its parent's.
fn inherit_cpuset(level: &Path, cpuset: bool) -> Result<()> {
    let Some(parent) = level.parent().filter(|_| cpuset) else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = crate::text::read(level.join(file)).doing(|| format!("read {}/{file}", level.display()))?;
        if own.trim().is_empty() {
            let theirs = crate::text::read(parent.join(file)).doing(|| format!("read {}/{file}", parent.display()))?;
            put(&level.join(file), theirs.as_bytes()).doing(|| format!("write {}/{file}", level.display()))?;
        }
    }
    Ok(())
}

/// On v2 every ancestor must hand its controllers down before a child can use them.
fn make_v2(top: &Path, path: &Path, resources: Option<&LinuxResources>) -> Result<()> {
    let mut parent = top.to_owned();
    for level in levels(top, path) {
        hand_down(&parent);
        make(level)?;
        settle_type(level, resources)?;
        parent = level.to_owned();
    }
    Ok(())
}

/// Below a cgroup with processes of its own, or in a threaded subtree, a new cgroup is an invalid domain: it can only
/// become threaded, and then has no domain controllers (cgroup-v2.rst, "Threads").
fn settle_type(level: &Path, resources: Option<&LinuxResources>) -> Result<()> {
    let kind = crate::text::read(level.join("cgroup.type")).unwrap_or_default();
    let kind = kind.trim();
    if !matches!(kind, "domain invalid" | "domain threaded" | "threaded") {
        return Ok(());
    }
    if let Some(at) = resources.and_then(|resources| domain_controllers(resources).first().copied()) {
        return Err(Error::WrongState(format!(
            "{at}: cannot enter cgroupv2 {:?} with domain controllers -- it is in {kind} mode",
            level.display().to_string()
        )));
    }
    if kind == "domain invalid" {
        put(&level.join("cgroup.type"), b"threaded").doing(|| format!("make {} threaded", level.display()))?;
    }
    Ok(())
}

/// A controller that cannot be handed down (one that v1 holds, a cgroup with processes of its own, a subtree that is
/// not ours) is missing below; a limit that needs it fails there, and says so.
fn hand_down(directory: &Path) {
    let read = |file: &str| crate::text::read(directory.join(file)).unwrap_or_default();
    let (available, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let absent = |controller: &&str| !enabled.split_whitespace().any(|one| one == *controller);
    let wanted: Vec<String> = available.split_whitespace().filter(absent).map(|name| format!("+{name}")).collect();
    let file = directory.join("cgroup.subtree_control");
    if wanted.is_empty() || put(&file, wanted.join(" ").as_bytes()).is_ok() {
        return;
    }
    for one in &wanted {
        let _missing_below = put(&file, one.as_bytes());
    }
}
