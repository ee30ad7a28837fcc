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
//! On cgroup v1 systemd makes the directories of the controllers it manages, and we those of the others, in the same place;
//! what is its own hierarchy (`name=systemd`, and v2 beside it on hybrid hosts) tells it who belongs to the unit.
//!
//! A scope ends with its last process. Whoever is killed in between takes the holder along, and systemd removes the
//! empty scope: nothing waits for `delete`.

mod bus;
mod holder;
mod recorded;

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Spec};
use pintle_dbus::Value;
use pintle_runtime_plan::cgroup::Version;
use pintle_runtime_plan::systemd::{self as plan, Manager, Property, Unit};
use pintle_sys::clone::SingleThreaded;

use bus::Bus;
pub use bus::BusError;
pub use holder::Holder;
pub use recorded::{Change, Recorded};

use crate::cgroup::Cgroups;
use crate::container::Env;
use crate::error::{Doing as _, Error, Result};

/// What systemd could not or would not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// sd_booted(3).
    #[error(
        "systemd cgroup flag passed, but systemd does not run on this host (there is no /run/systemd/system): leave \
        out --systemd-cgroup (containerd: SystemdCgroup = false), or boot with systemd"
    )]
    NotBooted,
    /// Of v1 nothing may be given to ordinary users.
    #[error(
        "systemd cgroup flag passed, but this host has cgroup v1, of which a user's systemd has none to give: boot with \
        systemd.unified_cgroup_hierarchy=1, or leave out --systemd-cgroup"
    )]
    UsersOnV1,
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
    let manager = if env.caller()?.is_rootless() { Manager::User } else { Manager::System };
    if manager == Manager::User && !env.layout()?.is_v2() {
        return Err(SystemdError::UsersOnV1.into());
    }
    let path = path.map(Path::to_string_lossy);
    let unit = Unit::locate(path.as_deref(), id, manager)?;
    let below = unit.directory()?;
    let of_init = match manager {
        // What process 1 is in, but for its own scope: "/" unless the whole of systemd is in a container.
        Manager::System => crate::text::read("/proc/1/cgroup").doing(|| "read the cgroups of process 1".to_owned())?,
        Manager::User => format!("0::{}", users_root()?),
    };
    let cgroups = Cgroups::of_unit(env.layout()?, &of_init, Path::new(&below), env.need()?);
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
        let version = self.cgroups.version();
        let mut properties = plan::creation(&self.unit, pid, version);
        if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
            properties.extend(plan::limits(resources, version)?);
            properties.extend(devices(resources, version)?);
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

/// Of v2 systemd need not know the rules: what he attaches to a cgroup comes on top of ours.
fn devices(resources: &LinuxResources, version: Version) -> Result<Vec<Property>> {
    let (Version::V1, Some(rules)) = (version, resources.devices()) else { return Ok(Vec::new()) };
    let devices = plan::devices(rules)?;
    if !devices.untold.is_empty() {
        crate::log::warn_once(&format!(
            "linux.resources.devices: systemd has no words for these rules, which will be forgotten at its next \
             daemon-reload: {}",
            devices.untold.join(", ")
        ));
    }
    Ok(devices.properties)
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

impl From<SystemdError> for Error {
    fn from(error: SystemdError) -> Error {
        Error::Systemd(Box::new(error))
    }
}
