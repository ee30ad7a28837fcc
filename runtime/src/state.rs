//! What a container is to those who come after: `<root>/<id>/state.json` and what can be read off the kernel.
//!
//! Owns: the file and the status derived from it. The status is never stored: a stored one would lie after a crash.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroups;
use crate::error::{Doing as _, Error, Result};
use crate::systemd::Recorded;

/// state.json.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    /// The id.
    pub id: String,
    /// Init, as seen outside; 0 before it exists.
    pub init_process_pid: i32,
    /// Its start time in clock ticks since boot, so that a reused pid is told apart.
    pub init_process_start: u64,
    /// RFC 3339.
    pub created: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute.
    pub rootfs: PathBuf,
    /// Directory per hierarchy; under the empty key on v2.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// The unit they are, if systemd made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<Recorded>,
    /// /proc paths of init's namespaces.
    pub namespace_paths: BTreeMap<String, String>,
    /// --no-new-keyring: execs keep their caller's as well.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// Its groups of resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<crate::rdt::Groups>,
    /// What stdio was at creation.
    pub external_descriptors: Vec<String>,
    /// config.json, as it was.
    pub config: Box<Spec>,
}

impl Stored {
    /// The unit whose manager must move processes into the cgroups, if we may not.
    pub fn moved_by(&self) -> Option<&Recorded> {
        self.systemd.as_ref().filter(|unit| unit.moves_processes())
    }

    /// Its first process is there.
    pub fn born(&mut self, pid: i32) -> Result<()> {
        let (_, start) = process_stat(pid).ok_or(Error::NotRunning)?;
        self.init_process_pid = pid;
        self.init_process_start = start;
        let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
        self.namespace_paths = kinds.iter().map(|ns| ((*ns).to_owned(), format!("/proc/{pid}/ns/{ns}"))).collect();
        Ok(())
    }
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Init waits at the fifo.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Init is gone.
    Stopped,
}

impl Status {
    /// As the specification writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct Root(pub PathBuf);

impl Root {
    /// A container's directory; refuses ids that are no file names.
    pub fn container(&self, id: &str) -> Result<Dir> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '-');
        if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(allowed) {
            return Err(Error::InvalidId);
        }
        Ok(Dir { path: self.0.join(id) })
    }

    /// Every id there is a directory for, sorted.
    pub fn ids(&self) -> std::io::Result<Vec<String>> {
        let mut ids: Vec<String> = std::fs::read_dir(&self.0)?
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// One container's directory.
#[derive(Debug, Clone)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    /// Makes it; one that exists is another container's.
    pub fn create(&self) -> Result<()> {
        if let Some(root) = self.path.parent() {
            // Sticky, so that nobody who tidies $XDG_RUNTIME_DIR takes it for forgotten.
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o1700).create(root);
            made.doing(|| format!("make {}; --root or $XDG_RUNTIME_DIR names another place", root.display()))?;
        }
        match std::fs::DirBuilder::new().mode(0o711).create(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists),
            other => other.doing(|| format!("make {}", self.path.display())),
        }
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Where `start` knocks.
    pub fn fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    /// Makes the fifo. Init gets it opened, so nobody else needs a right to it.
    pub fn make_fifo(&self) -> Result<()> {
        let fifo = self.fifo();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&fifo, mode).doing(|| format!("make {}", fifo.display()))
    }

    /// Reads the state.
    pub fn load(&self) -> Result<Stored> {
        let file = self.path.join("state.json");
        let text = match crate::text::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::NoSuchContainer),
            Err(error) => return Err(error).doing(|| format!("read {}", file.display())),
        };
        serde_json::from_str(&text)
            .map_err(|error| Error::WrongState(format!("{} is damaged: {error}", file.display())))
    }

    /// Replaces the state, whole or not at all.
    pub fn save(&self, state: &Stored) -> Result<()> {
        let (file, new) = (self.path.join("state.json"), self.path.join("state.json.new"));
        let what = || format!("write {}", file.display());
        let text = serde_json::to_vec(state).map_err(|error| Error::WrongState(error.to_string()))?;
        let mut options = std::fs::File::options();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        std::io::Write::write_all(&mut opened.doing(what)?, &text).doing(what)?;
        std::fs::rename(&new, &file).doing(what)
    }

    /// Removes everything of it.
    pub fn remove(&self) -> Result<()> {
        // What usually is there goes without a look; what else there may be, with one.
        for name in ["state.json", "exec.fifo"] {
            let _tried_again_below = nix::unistd::unlink(&self.path.join(name));
        }
        if std::fs::remove_dir(&self.path).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The container's status now.
    pub fn status(&self, state: &Stored) -> Status {
        if !is_alive(state.init_process_pid, state.init_process_start) {
            return Status::Stopped;
        }
        if Cgroups::known(state.cgroup_paths.clone()).is_frozen() {
            return Status::Paused;
        }
        if self.fifo().exists() { Status::Created } else { Status::Running }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A process's state letter and start time (proc_pid_stat(5), fields 3 and 22).
pub fn process_stat(pid: i32) -> Option<(char, u64)> {
    letter_and_start(&crate::text::read(format!("/proc/{pid}/stat")).ok()?)
}

fn letter_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace();
    let letter = fields.next()?.chars().next()?;
    Some((letter, fields.nth(18)?.parse().ok()?))
}

/// Whether `pid` still is the process that started then, and not a zombie. Only a process that is not there is dead: where
/// nobody can look (no descriptor or memory is left) it is taken to live.
pub fn is_alive(pid: i32, start: u64) -> bool {
    let is_there = |(letter, began)| began == start && !matches!(letter, 'Z' | 'X' | 'x');
    match crate::text::read(format!("/proc/{pid}/stat")) {
        _ if pid <= 0 => false,
        Ok(stat) => letter_and_start(&stat).is_some_and(is_there),
        Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    }
}

/// The state JSON that hooks read and `state` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published<'a> {
    /// Version of the specification.
    pub oci_version: &'a str,
    /// The id.
    pub id: &'a str,
    /// Init.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// One of the specification's words.
    pub status: &'a str,
    /// Absolute.
    pub bundle: &'a Path,
    /// Absolute; not for hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<&'a Path>,
    /// RFC 3339; not for hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<&'a str>,
    /// From config.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<&'a str, &'a str>>,
    /// Always empty here; not for hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'a str>,
}

/// Annotations, sorted so that output is stable.
pub fn annotations(spec: &Spec) -> Option<BTreeMap<&str, &str>> {
    let map = spec.annotations().as_ref().filter(|map| !map.is_empty())?;
    Some(map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
}

/// The specification's version we speak.
pub const OCI_VERSION: &str = "1.3.0";
