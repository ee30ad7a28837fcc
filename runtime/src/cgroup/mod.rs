//! Control groups on the real file system: where they are mounted, made, limited, joined, emptied, removed.
//!
//! Owns: the directories of one container or pod. Does not own: which file gets which text (`plan::cgroup`).

mod layout;
pub mod members;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use pintle_runtime_plan::cgroup::{self as plan, OnFailure, Write, device_program, devices};
use pintle_runtime_plan::{CgroupJoin, Hierarchy};
use pintle_sys::Errno;

pub use layout::{Layout, detect};

use crate::error::{Doing as _, Error, Result};

/// The cgroup directories of one container, by controller list (v1) or under the empty key (v2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Directory per hierarchy.
    pub paths: BTreeMap<String, PathBuf>,
}

impl Cgroups {
    /// Where a container's cgroups are. A relative or empty path lies below our own cgroup, an absolute one below
    /// each hierarchy's root.
    pub fn locate(layout: &Layout, cgroups_path: Option<&Path>, id: &str) -> Result<Cgroups> {
        let wanted = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        if wanted.is_some_and(|path| path.components().any(|c| c == std::path::Component::ParentDir)) {
            return Err(Error::Usage("linux.cgroupsPath: must not contain ..".to_owned()));
        }
        let below = |mount: &layout::CgroupMount| match wanted {
            Some(path) if path.is_absolute() => mount.mountpoint.join(path.strip_prefix("/").unwrap_or(path)),
            Some(path) => mount.own().join(path),
            None => mount.own().join(id),
        };
        let paths = layout.mounts().iter().map(|mount| (mount.key(), below(mount))).collect();
        Ok(Cgroups { paths })
    }

    /// Taken from a state file.
    pub fn known(paths: BTreeMap<String, PathBuf>) -> Cgroups {
        Cgroups { paths }
    }

    /// The one directory of v2.
    pub fn unified(&self) -> Option<&Path> {
        self.paths.get("").map(PathBuf::as_path)
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
        Cgroups { paths: self.paths.iter().map(|(key, path)| (key.clone(), path.join(name))).collect() }
    }

    /// Makes the directories and missing ancestors.
    pub fn create(&self, layout: &Layout) -> Result<()> {
        for mount in layout.mounts() {
            let Some(path) = self.paths.get(&mount.key()) else { continue };
            if layout.is_v2() { make_v2(&mount.mountpoint, path)? } else { make_v1(mount, path)? }
        }
        Ok(())
    }

    /// Sets limits.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        let writes = if self.unified().is_some() { plan::plan_v2(resources)? } else { plan::plan_v1(resources)? };
        for write in &writes {
            self.write(write)?;
        }
        match (self.unified(), resources.devices()) {
            (Some(directory), Some(rules)) => replace_device_program(directory, &devices::rules(rules)),
            _ => Ok(()),
        }
    }

    fn write(&self, write: &Write) -> Result<()> {
        let Some(directory) = self.of(write.controller) else {
            return match write.on_failure {
                OnFailure::IgnoreMissing => Ok(()),
                OnFailure::Fail => Err(Error::WrongState(format!(
                    "cannot set {} to {}: this host has no {} cgroup controller",
                    write.file, write.value, write.controller
                ))),
            };
        };
        let path = directory.join(&write.file);
        match (put(&path, write.value.as_bytes()), write.on_failure) {
            (Err(Errno::ENOENT | Errno::EOPNOTSUPP), OnFailure::IgnoreMissing) => Ok(()),
            (done, _) => done.doing(|| format!("write {:?} to {}", write.value, path.display())),
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
        let tasks = |(key, path): (&String, &PathBuf)| (key.clone(), c(&path.join("tasks")));
        CgroupJoin::Tasks(self.paths.iter().map(tasks).collect())
    }

    /// For planning cgroup mounts.
    pub fn hierarchies(&self, layout: &Layout) -> Vec<Hierarchy> {
        if layout.is_v2() {
            return Vec::new();
        }
        let convert = |mount: &layout::CgroupMount| {
            let path = self.paths.get(&mount.key())?.strip_prefix(&mount.mountpoint).ok()?;
            Some(Hierarchy {
                mountpoint: mount.mountpoint.clone(),
                controllers: mount.controllers.clone(),
                path: format!("/{}", path.display()),
            })
        };
        layout.mounts().iter().filter_map(convert).collect()
    }

    /// How often the kernel's memory killer struck in here.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.unified().is_some() { "memory.events" } else { "memory.oom_control" };
        let Some(directory) = self.of("memory") else { return 0 };
        let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Writes to an existing cgroup file.
pub fn put(path: &Path, text: &[u8]) -> pintle_sys::Result<()> {
    let file = pintle_sys::open::at(nix::fcntl::AT_FDCWD, &c(path), libc::O_WRONLY, 0)?;
    nix::unistd::write(file, text).map(drop)
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

fn make_v1(mount: &layout::CgroupMount, path: &Path) -> Result<()> {
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
        let own = std::fs::read_to_string(level.join(file)).doing(|| format!("read {}/{file}", level.display()))?;
        if own.trim().is_empty() {
            let theirs = std::fs::read(parent.join(file)).doing(|| format!("read {}/{file}", parent.display()))?;
            put(&level.join(file), &theirs).doing(|| format!("write {}/{file}", level.display()))?;
        }
    }
    Ok(())
}

/// On v2 every ancestor must hand its controllers down before a child can use them.
fn make_v2(top: &Path, path: &Path) -> Result<()> {
    let mut parent = top.to_owned();
    for level in levels(top, path) {
        hand_down(&parent)?;
        make(level)?;
        parent = level.to_owned();
    }
    Ok(())
}

fn hand_down(directory: &Path) -> Result<()> {
    let read = |file: &str| std::fs::read_to_string(directory.join(file));
    let available = read("cgroup.controllers").doing(|| format!("read {}/cgroup.controllers", directory.display()))?;
    let enabled = read("cgroup.subtree_control").unwrap_or_default();
    for controller in available.split_whitespace() {
        if enabled.split_whitespace().any(|one| one == controller) {
            continue;
        }
        match put(&directory.join("cgroup.subtree_control"), format!("+{controller}").as_bytes()) {
            // A cgroup with processes of its own, or a controller that v1 holds: limits that need it will say so.
            Ok(()) | Err(Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENOENT) => {}
            Err(errno) => return Err(errno).doing(|| format!("enable {controller} in {}", directory.display())),
        }
    }
    Ok(())
}

/// The new program is attached before the old ones go, so that there is no moment without one.
fn replace_device_program(directory: &Path, rules: &[devices::Rule]) -> Result<()> {
    let what = || format!("install device rules in {}", directory.display());
    let program: Vec<pintle_sys::bpf::Insn> = device_program::assemble(rules)
        .iter()
        .map(|i| pintle_sys::bpf::Insn { code: i.code, regs: i.src << 4 | i.dst, off: i.off, imm: i.imm })
        .collect();
    let cgroup = std::fs::File::open(directory).doing(what)?;
    let old = pintle_sys::bpf::device_programs(&cgroup).doing(what)?;
    let new = pintle_sys::bpf::load_device_program(&program).doing(what)?;
    pintle_sys::bpf::attach_device_program(&cgroup, &new).doing(what)?;
    old.iter().try_for_each(|program| pintle_sys::bpf::detach_device_program(&cgroup, program)).doing(what)
}
