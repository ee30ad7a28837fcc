//! Intel RDT on the real file system: the resctrl groups of one container (what is written there is `plan::rdt`'s).
//!
//! Owns: finding the mount, making, joining and removing groups. Does not own: mounting resctrl, which is the
//! administrator's decision.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::{LinuxIntelRdt, Spec};
use pintle_runtime_plan::rdt::{self, Change, Offers, Plan, Refused};
use pintle_sys::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cgroup::Cgroups;
use crate::error::text;
use crate::mountinfo;
use crate::state::{Dir, Stored};

/// What can go wrong with resctrl.
#[derive(Debug, thiserror::Error)]
pub enum RdtError {
    /// The configuration does not fit the machine or the class.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// No file system of that type is mounted.
    #[error(
        "linux.intelRdt: is specified in config, but Intel RDT is not enabled: no resctrl file system is mounted ({hint})"
    )]
    NotMounted { hint: &'static str },
    /// The kernel refused; it gives its reason in `info/last_cmd_status`.
    #[error("linux.intelRdt: cannot {what}: {}{said}", text(*errno))]
    System { what: String, errno: Errno, said: String },
}

type Result<T> = std::result::Result<T, RdtError>;

/// The groups of a container, for state.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Where resctrl is mounted.
    pub mount: PathBuf,
    /// Its class, below that.
    pub group: PathBuf,
    /// Its own monitoring group, below the mount.
    pub monitor: Option<PathBuf>,
    /// Directories that are its own and go with it.
    pub own: Vec<PathBuf>,
}

/// The mounted file system.
#[derive(Debug)]
struct Resctrl {
    mount: PathBuf,
}

/// Groups that are planned and not made. Nobody who keeps to the kernel's convention (resctrl.rst, "Locking on resctrl")
/// changes anything until this is dropped.
#[derive(Debug)]
pub struct Prepared {
    resctrl: Resctrl,
    plan: Plan,
    _lock: Flock<std::fs::File>,
}

/// Plans what a configuration asks for; `None` if it asks for nothing.
pub fn prepare(config: Option<&LinuxIntelRdt>, id: &str) -> Result<Option<Prepared>> {
    let Some(config) = config else { return Ok(None) };
    let resctrl = Resctrl::find()?;
    let lock = resctrl.lock()?;
    let group = rdt::group(config, id);
    let existing = resctrl.read(&group.join("schemata"));
    let plan = rdt::plan(config, id, &resctrl.offers(), existing.as_deref())?;
    Ok(Some(Prepared { resctrl, plan, _lock: lock }))
}

impl Prepared {
    /// For the state file, which is written before anything is made.
    pub fn groups(&self) -> Groups {
        Groups {
            mount: self.resctrl.mount.clone(),
            group: self.plan.group.clone(),
            monitor: self.plan.monitor.clone(),
            own: self.plan.make.clone(),
        }
    }

    /// Makes the groups and writes their schemata.
    pub fn make(&self) -> Result<()> {
        for group in &self.plan.make {
            self.resctrl.make(group)?;
        }
        self.plan.schemata.iter().try_for_each(|text| self.resctrl.write(&self.plan.group.join("schemata"), text))
    }
}

impl Groups {
    /// Moves a task into the groups; its later children follow.
    pub fn join(&self, task: i32) -> Result<()> {
        let resctrl = Resctrl { mount: self.mount.clone() };
        let groups = [Some(&self.group), self.monitor.as_ref()];
        groups.into_iter().flatten().try_for_each(|group| resctrl.write(&rdt::tasks(group), &task.to_string()))
    }

    /// Removes what is the container's own, if nobody else has moved in. What is gone is fine.
    pub fn remove(&self) -> Result<()> {
        let resctrl = Resctrl { mount: self.mount.clone() };
        let Ok(_lock) = resctrl.lock() else { return Ok(()) };
        for group in self.own.iter().rev() {
            let tasks = resctrl.read(&rdt::tasks(group)).unwrap_or_default();
            if !rdt::is_unused(&tasks, &resctrl.list(&group.join("mon_groups"))) {
                continue;
            }
            match std::fs::remove_dir(self.mount.join(group)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(resctrl.failed(format!("remove group {}", group.display()), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `intel_rdt` of `events`.
    pub fn stats(&self) -> Value {
        let resctrl = Resctrl { mount: self.mount.clone() };
        let counting = self.monitor.as_ref().unwrap_or(&self.group);
        let mut nodes = resctrl.list(&counting.join("mon_data"));
        nodes.retain(|node| node.starts_with("mon_L3_"));
        nodes.sort();
        let read = |file: &str| resctrl.read(Path::new(file));
        rdt::stats(&read, &resctrl.offers(), &self.group.to_string_lossy(), &counting.to_string_lossy(), &nodes)
    }
}

/// Schemata that `update` has replaced.
#[derive(Debug)]
pub struct Undo {
    resctrl: Resctrl,
    schemata: PathBuf,
    before: String,
}

impl Undo {
    /// Writes them again; that the kernel had them is the best there is to say for them.
    pub fn revert(&self) {
        let _the_first_failure_is_told = self.resctrl.write(&self.schemata, &self.before);
    }
}

/// `update`: new values for a container's class. One that was in none gets a group of its own, and all its tasks join.
/// Changes `stored`; gives the way back. What was made is in the state file before.
pub fn update(dir: &Dir, stored: &mut Stored, change: Change<'_>) -> crate::error::Result<Option<Undo>> {
    if change == Change::default() {
        return Ok(None);
    }
    let resctrl = Resctrl::find()?;
    let old = configured(&stored.config);
    let config = change.over(old, &resctrl.offers()).map_err(RdtError::from)?;
    let undo = match &stored.intel_rdt {
        Some(groups) => Some(resctrl.rewrite(groups.group.join("schemata"), &change.text())?),
        None => {
            join_late(dir, stored, &config)?;
            None
        }
    };
    if let Some(linux) = stored.config.linux_mut() {
        linux.set_intel_rdt(Some(config));
    }
    Ok(undo)
}

fn join_late(dir: &Dir, stored: &mut Stored, config: &LinuxIntelRdt) -> crate::error::Result<()> {
    let Some(prepared) = prepare(Some(config), &stored.id)? else { return Ok(()) };
    let groups = prepared.groups();
    stored.intel_rdt = Some(groups.clone());
    dir.save(stored)?;
    prepared.make()?;
    for pid in Cgroups::known(stored.cgroup_paths.clone()).pids()? {
        for task in threads(pid) {
            groups.join(task)?;
        }
    }
    Ok(())
}

/// A process that ends meanwhile has no threads left to move.
fn threads(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The section of a configuration.
pub fn configured(spec: &Spec) -> Option<&LinuxIntelRdt> {
    spec.linux().as_ref()?.intel_rdt().as_ref()
}

impl Resctrl {
    /// The type decides: a directory that only looks like it would take every write and do nothing.
    fn find() -> Result<Resctrl> {
        let mounts = crate::text::read("/proc/self/mountinfo")
            .map_err(|error| failed("read /proc/self/mountinfo".to_owned(), &error, String::new()))?;
        let found = mountinfo::parse(&mounts).find(|mount| mount.kind == "resctrl");
        let hint = || {
            let known = crate::text::read("/proc/filesystems").unwrap_or_default();
            if known.lines().any(|line| line.split_whitespace().last() == Some("resctrl")) {
                "mount it: mount -t resctrl resctrl /sys/fs/resctrl"
            } else {
                "this kernel has none: it needs CONFIG_X86_CPU_RESCTRL, and a processor with RDT"
            }
        };
        found.map(|mount| Resctrl { mount: mount.mountpoint }).ok_or_else(|| RdtError::NotMounted { hint: hint() })
    }

    fn lock(&self) -> Result<Flock<std::fs::File>> {
        let what = || format!("lock {}", self.mount.display());
        let directory = std::fs::File::open(&self.mount).map_err(|error| self.failed(what(), &error))?;
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| self.failed(what(), &errno.into()))
    }

    fn offers(&self) -> Offers {
        let has = |dir: &str| self.mount.join("info").join(dir).is_dir();
        let features = self.read(Path::new("info/L3_MON/mon_features"));
        Offers {
            l3: has("L3") || has("L3CODE"),
            mb: has("MB"),
            monitoring: features.map(|text| text.lines().map(str::to_owned).collect()),
        }
    }

    fn read(&self, file: &Path) -> Option<String> {
        crate::text::read(self.mount.join(file)).ok()
    }

    fn list(&self, directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(self.mount.join(directory)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn make(&self, group: &Path) -> Result<()> {
        match std::fs::create_dir(self.mount.join(group)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(self.failed(format!("make group {}", group.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// One write: the kernel takes all of it or nothing.
    fn write(&self, file: &Path, text: &str) -> Result<()> {
        let opened = std::fs::File::options().write(true).open(self.mount.join(file));
        let done = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        done.map_err(|error| self.failed(format!("write {:?} to {}", text.trim_end(), file.display()), &error))
    }

    fn rewrite(self, schemata: PathBuf, text: &str) -> Result<Undo> {
        let _lock = self.lock()?;
        let before = self.read(&schemata).unwrap_or_default();
        self.write(&schemata, text)?;
        Ok(Undo { resctrl: self, schemata, before })
    }

    fn failed(&self, what: String, error: &std::io::Error) -> RdtError {
        let status = self.read(Path::new("info/last_cmd_status")).unwrap_or_default();
        let said = match status.trim() {
            "" | "ok" => String::new(),
            said => format!("; the kernel says: {said}"),
        };
        failed(what, error, said)
    }
}

fn failed(what: String, error: &std::io::Error, said: String) -> RdtError {
    RdtError::System { what, errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)), said }
}
