//! The systemd cgroup driver (`--systemd-cgroup`): a container's cgroup is made, limited and removed by systemd, as a
//! transient unit of its own.
//!
//! Owns: the calls to systemd. Does not own: which properties a unit has (`plan::systemd`), and the cgroup's files,
//! which are used as with any cgroup once it is there.
//!
//! ```text
//! create: fork a holder -> StartTransientUnit(PIDs=holder), job done -> limits to files -> clone init into the cgroup
//!         -> the holder leaves, init keeps the unit alive
//! ```
//! A scope ends with its last process. Whoever is killed in between takes the holder along, and systemd removes the
//! empty scope: nothing waits for `delete`.

mod bus;
mod holder;

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Spec};
use pintle_dbus::Value;
use pintle_runtime_plan::systemd::{self as plan, Manager, Property, Unit};
use pintle_sys::clone::SingleThreaded;
use serde::{Deserialize, Serialize};

use bus::Bus;
pub use bus::BusError;
pub use holder::Holder;

use crate::cgroup::Cgroups;
use crate::container::Env;
use crate::error::{Doing as _, Error, Result};

/// What state.json says of a container's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its name.
    pub unit: String,
    /// Whose it is.
    pub manager: Manager,
}

/// What systemd could not or would not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// sd_booted(3).
    #[error(
        "systemd cgroup flag passed, but systemd does not run on this host (there is no /run/systemd/system): leave \
        out --systemd-cgroup (containerd: SystemdCgroup = false), or boot with systemd"
    )]
    NotBooted,
    /// On v1 systemd keeps the device rules too, and would take ours back at its next reload.
    #[error(
        "systemd cgroup flag passed, but this host has cgroup v1: boot with systemd.unified_cgroup_hierarchy=1, or \
        leave out --systemd-cgroup (containerd: SystemdCgroup = false)"
    )]
    NotV2,
    /// The conversation failed.
    #[error("cannot {what}: {source}")]
    Bus { what: String, source: BusError },
    /// The job came to no good end.
    #[error("cannot {what}: systemd's job ended with {result:?} (see: {see})")]
    Job { what: String, result: String, see: String },
    /// The name is taken.
    #[error(
        "cannot start unit {unit}: a unit of that name exists already (see: {see}; stop it, or give the container \
        another linux.cgroupsPath)"
    )]
    Exists { unit: String, see: String },
}

/// Adds what was tried.
trait Trying<T> {
    /// `what` completes "cannot …".
    fn trying(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Trying<T> for std::result::Result<T, BusError> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| SystemdError::Bus { what: what(), source }.into())
    }
}

/// A unit that is to be made, and where its cgroup will be.
#[derive(Debug)]
pub struct Place {
    unit: Unit,
    manager: Manager,
    /// The directories it will have.
    pub cgroups: Cgroups,
}

/// Where a container's unit is to be. The caller's own rights say whose manager is asked: root's is the machine's.
pub fn place(env: &Env, path: Option<&Path>, id: &str) -> Result<Place> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(SystemdError::NotBooted.into());
    }
    if !env.layout.is_v2() {
        return Err(SystemdError::NotV2.into());
    }
    let manager = if env.caller.is_rootless() { Manager::User } else { Manager::System };
    let path = path.map(Path::to_string_lossy);
    let unit = Unit::locate(path.as_deref(), id, manager)?;
    let below = unit.directory()?;
    let of_init = match manager {
        // What process 1 is in, but for its own scope: "/" unless the whole of systemd is in a container.
        Manager::System => crate::text::read("/proc/1/cgroup").doing(|| "read the cgroups of process 1".to_owned())?,
        Manager::User => format!("0::{}", users_root()?),
    };
    let cgroups = Cgroups::of_unit(&env.layout, &of_init, Path::new(&below), env.need);
    Ok(Place { unit, manager, cgroups })
}

/// The cgroup of the user's service manager.
fn users_root() -> Result<String> {
    let what = || "ask the user's systemd for its cgroup".to_owned();
    let mut bus = Bus::open(Manager::User).trying(what)?;
    bus.manager_property("ControlGroup").trying(what)
}

impl Place {
    /// For state.json.
    pub fn recorded(&self) -> Recorded {
        Recorded { unit: self.unit.name.clone(), manager: self.manager }
    }

    /// The command that tells more.
    fn see(&self) -> String {
        let whose = match self.manager {
            Manager::System => "",
            Manager::User => "--user ",
        };
        format!("systemctl {whose}status {}", self.unit.name)
    }

    /// Makes the unit with its limits. The holder keeps it until the container's own first process is in it.
    pub fn start(&self, proof: SingleThreaded, spec: &Spec) -> Result<Option<Holder>> {
        let what = || format!("start unit {}", self.unit.name);
        let mut bus = Bus::open(self.manager).trying(what)?;
        let holder = (!self.unit.is_slice()).then(|| Holder::fork(proof)).transpose()?;
        let pid = holder.as_ref().map_or(0, Holder::pid);
        let mut properties = plan::creation(&self.unit, pid);
        if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
            properties.extend(plan::limits(resources)?);
        }
        if let Some(annotations) = spec.annotations() {
            properties.extend(plan::from_annotations(annotations)?);
        }
        let properties = known(&mut bus, &properties).trying(what)?;
        self.start_transient(&mut bus, &properties)?;
        Ok(holder)
    }

    /// A unit of that name may be left over from a failure: reset, it is gone, and the second attempt tells.
    fn start_transient(&self, bus: &mut Bus, properties: &Value) -> Result<()> {
        let unit = &self.unit.name;
        let what = || format!("start unit {unit}");
        let no_others = Value::Array("(sa(sv))".to_owned(), Vec::new());
        let arguments = || vec![Value::str(unit), Value::str("replace"), properties.clone(), no_others.clone()];
        let mut job = bus.start_job("StartTransientUnit", arguments());
        if job.as_ref().is_err_and(BusError::unit_exists) {
            let _no_failed_one = reset_failed(bus, unit);
            job = bus.start_job("StartTransientUnit", arguments());
        }
        if job.as_ref().is_err_and(BusError::unit_exists) {
            return Err(SystemdError::Exists { unit: unit.clone(), see: self.see() }.into());
        }
        let result = job.and_then(|job| bus.wait(&job));
        if !matches!(result.as_deref(), Ok("done")) {
            let _may_not_have_failed = reset_failed(bus, unit);
        }
        match result.trying(what)? {
            result if result == "done" => Ok(()),
            result => Err(SystemdError::Job { what: what(), result, see: self.see() }.into()),
        }
    }
}

/// The properties that this systemd knows. It is asked for its version only if that matters.
fn known(bus: &mut Bus, properties: &[Property]) -> std::result::Result<Value, BusError> {
    let version = match plan::version_needed(properties) {
        Some(_) => plan::version(&bus.manager_property("Version")?).unwrap_or(0),
        None => 0,
    };
    Ok(plan::encode(properties, version))
}

fn reset_failed(bus: &mut Bus, unit: &str) -> std::result::Result<(), BusError> {
    bus.call("ResetFailedUnit", vec![Value::str(unit)]).map(drop)
}

impl Recorded {
    /// Tells systemd of new limits, `old` being those before; gives what takes that back.
    pub fn set(self, old: Option<&LinuxResources>, new: &LinuxResources) -> Result<Change> {
        let new = plan::limits(new)?;
        let old = old.map_or_else(|| Ok(Vec::new()), plan::limits)?;
        self.put(&new)?;
        Ok(Change { of: self, undo: plan::undo(&old, &new) })
    }

    fn put(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let what = || format!("set properties of unit {}", self.unit);
        let mut bus = Bus::open(self.manager).trying(what)?;
        let properties = known(&mut bus, properties).trying(what)?;
        // Runtime: like the unit itself they are gone with the next boot.
        let arguments = vec![Value::str(&self.unit), Value::Bool(true), properties];
        bus.call("SetUnitProperties", arguments).trying(what).map(drop)
    }

    /// Stops the unit and waits until it is gone. One that is gone already is fine: a scope ends with its processes.
    pub fn stop(&self) -> Result<()> {
        let what = || format!("stop unit {}", self.unit);
        let mut bus = Bus::open(self.manager).trying(what)?;
        let job = bus.start_job("StopUnit", vec![Value::str(&self.unit), Value::str("replace")]);
        match job.and_then(|job| bus.wait(&job)) {
            Err(error) if error.no_such_unit() => return Ok(()),
            Ok(result) if result != "done" => {
                crate::log::warn(&format!("stopping unit {} ended with {result:?}", self.unit));
            }
            other => drop(other.trying(what)?),
        }
        let _usually_has_not_failed = reset_failed(&mut bus, &self.unit);
        Ok(())
    }

    /// Whether a process must be moved into the cgroup by systemd: an unprivileged caller may write to the
    /// container's cgroup, but not to the ancestor it shares with his own, and so move nobody (cgroup-v2.rst,
    /// "Delegation Containment").
    pub fn moves_processes(&self) -> bool {
        self.manager == Manager::User
    }

    /// Has systemd move a process into the unit.
    pub fn attach(&self, pid: i32) -> Result<()> {
        let what = || format!("attach process {pid} to unit {}", self.unit);
        let mut bus = Bus::open(self.manager).trying(what)?;
        let pids = Value::Array("u".to_owned(), vec![Value::U32(pid.unsigned_abs())]);
        bus.call("AttachProcessesToUnit", vec![Value::str(&self.unit), Value::str(""), pids]).trying(what).map(drop)
    }
}

/// A change of limits that systemd knows of.
#[derive(Debug)]
pub struct Change {
    of: Recorded,
    undo: Vec<Property>,
}

impl Change {
    /// Tells systemd the old limits again.
    pub fn revert(self) {
        if let Err(error) = self.of.put(&self.undo) {
            crate::log::warn(&error.to_string());
        }
    }
}

impl From<SystemdError> for Error {
    fn from(error: SystemdError) -> Error {
        Error::Systemd(Box::new(error))
    }
}
