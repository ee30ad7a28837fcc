//! Control groups on the real file system: where they are mounted, made, limited, joined, emptied, removed.
//!
//! Owns: the directories of one container or pod. Does not own: which file gets which text (`plan::cgroup`).

mod freezer;
mod kills;
mod layout;
mod limits;
mod make;
pub mod members;
mod oom;
pub mod stats;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use pintle_runtime_plan::cgroup::Version;
use pintle_runtime_plan::{CgroupJoin, Hierarchy};

pub use kills::Kills;
pub use layout::{Layout, detect};
pub use limits::Undo;
pub use make::may_enter;
pub use oom::OomWatch;

/// Who makes a container's cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// We do, in the file system.
    Files,
    /// systemd does, as it is asked.
    Systemd,
}

use crate::error::{Error, Result};

/// The key of a hybrid host's v2 hierarchy, by which systemd there knows what belongs to a unit.
pub const BESIDE: &str = "unified";

/// The cgroup directories of one container, by controller list (v1) or under the empty key (v2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Directory per hierarchy.
    pub paths: BTreeMap<String, PathBuf>,
    /// What becomes of those that are closed to us.
    need: Need,
    /// Somebody asked for this place.
    asked_for: bool,
    /// Who moves processes there.
    driver: Driver,
}

/// What becomes of cgroups that may not be made (`--rootless`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// They are an error.
    All,
    /// They are left out where nobody asked for a place or a limit in them, and so are device rules, which nobody needs
    /// who cannot make devices.
    WhatIsOpen,
}

impl Cgroups {
    /// Where a container's cgroups are. An absolute path lies below each hierarchy's root, a relative or empty one
    /// below our own cgroup; on v2, where that one has processes (ours) and so cannot have limited children, beside it.
    pub fn locate(layout: &Layout, cgroups_path: Option<&Path>, id: &str, need: Need) -> Result<Cgroups> {
        let wanted = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let inner = clean(wanted.unwrap_or(Path::new(id)));
        let below = |mount: &layout::CgroupMount| match (wanted.is_some_and(Path::is_absolute), layout) {
            (true, _) => mount.mountpoint.join(&inner),
            (false, Layout::V1 { .. }) => mount.own().join(&inner),
            (false, Layout::V2(_)) if mount.own() == mount.mountpoint => mount.mountpoint.join(&inner),
            (false, Layout::V2(_)) => mount.own().parent().unwrap_or(&mount.mountpoint).join(&inner),
        };
        let paths: BTreeMap<_, _> = layout.mounts().iter().map(|mount| (mount.key(), below(mount))).collect();
        if inner.as_os_str().is_empty() {
            return Err(Error::Usage("linux.cgroupsPath: must not be the root of the hierarchy".to_owned()));
        }
        let asked_for = wanted.is_some();
        if paths.is_empty() && (asked_for || need == Need::All) {
            return Err(Error::WrongState("this host has no cgroup hierarchy mounted".to_owned()));
        }
        Ok(Cgroups { paths, need, asked_for, driver: Driver::Files })
    }

    /// A unit's cgroups: `directory` below what systemd calls "/", of which `of_init` tells as /proc/1/cgroup does.
    pub fn of_unit(layout: &Layout, of_init: &str, directory: &Path, need: Need) -> Cgroups {
        let below = |mount: &layout::CgroupMount| mount.systemds_root(of_init).join(directory);
        let beside = layout.beside().map(|mount| (BESIDE.to_owned(), below(mount)));
        let paths = layout.mounts().iter().map(|mount| (mount.key(), below(mount))).chain(beside).collect();
        Cgroups { paths, need, asked_for: true, driver: Driver::Systemd }
    }

    /// Taken from a state file.
    pub fn known(paths: BTreeMap<String, PathBuf>) -> Cgroups {
        Cgroups { paths, need: Need::All, asked_for: true, driver: Driver::Files }
    }

    /// The one directory of v2.
    pub fn unified(&self) -> Option<&Path> {
        self.paths.get("").map(PathBuf::as_path)
    }

    /// Which kind they are.
    pub fn version(&self) -> Version {
        if self.unified().is_some() { Version::V2 } else { Version::V1 }
    }

    /// The directory of a v1 controller, or that of v2.
    pub fn of(&self, controller: &str) -> Option<&Path> {
        self.unified().or_else(|| {
            let has = |key: &String| key.split(',').any(|one| one == controller);
            self.paths.iter().find(|(key, _)| has(key)).map(|(_, path)| path.as_path())
        })
    }

    /// A sub-cgroup of every directory.
    pub fn child(&self, name: &str) -> Cgroups {
        Cgroups {
            paths: self.paths.iter().map(|(key, path)| (key.clone(), path.join(name))).collect(),
            need: self.need,
            asked_for: self.asked_for,
            driver: self.driver,
        }
    }

    /// How a first process joins.
    pub fn join(&self) -> CgroupJoin {
        if let Some(directory) = self.unified() {
            return CgroupJoin::Into(c(directory));
        }
        if self.paths.is_empty() {
            return CgroupJoin::None;
        }
        let tasks = |(key, path): (&String, &PathBuf)| {
            let file = if key == BESIDE { "cgroup.procs" } else { "tasks" };
            (key.clone(), c(&path.join(file)))
        };
        CgroupJoin::Tasks(self.paths.iter().map(tasks).collect())
    }

    /// The one directory of v2 that a container is in: its own, or ours if it has none.
    pub fn unified_or_own(&self, layout: &Layout) -> Option<PathBuf> {
        match layout {
            Layout::V1 { .. } => None,
            Layout::V2([mount]) => Some(self.unified().map_or_else(|| mount.own(), Path::to_owned)),
        }
    }

    /// For planning cgroup mounts.
    pub fn hierarchies(&self, layout: &Layout) -> Vec<Hierarchy> {
        if layout.is_v2() {
            return Vec::new();
        }
        let convert = |mount: &layout::CgroupMount| {
            let own = mount.own();
            let path = self.paths.get(&mount.key()).unwrap_or(&own).strip_prefix(&mount.mountpoint).ok()?;
            Some(Hierarchy {
                mountpoint: mount.mountpoint.clone(),
                controllers: mount.controllers.clone(),
                path: format!("/{}", path.display()),
            })
        };
        layout.mounts().iter().filter_map(convert).collect()
    }
}

/// `path` without `.` and `..`, which cannot lead out of a hierarchy: above its root is the root.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Opens an existing cgroup file for writing.
fn open(path: &Path) -> pintle_sys::Result<std::os::fd::OwnedFd> {
    pintle_sys::open::at(nix::fcntl::AT_FDCWD, &c(path), libc::O_WRONLY, 0)
}

/// Writes to an existing cgroup file.
pub fn put(path: &Path, text: &[u8]) -> pintle_sys::Result<()> {
    nix::unistd::write(open(path)?, text).map(drop)
}
