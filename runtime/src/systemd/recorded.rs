//! A unit that is there: told of new limits, joined, stopped.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use pintle_dbus::Value;
use pintle_runtime_plan::cgroup::Version;
use pintle_runtime_plan::systemd::{self as plan, Manager, Property};
use serde::{Deserialize, Serialize};

use super::bus::Bus;
use super::{Trying as _, known, reset_failed};
use crate::cgroup::Cgroups;
use crate::error::Result;

/// What state.json says of a container's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its name.
    pub unit: String,
    /// Whose it is.
    pub manager: Manager,
}

impl Recorded {
    /// Tells systemd of new limits, `old` being those before; gives what takes that back.
    pub fn set(self, cgroups: &Cgroups, old: Option<&LinuxResources>, new: &LinuxResources) -> Result<Change> {
        let version = cgroups.version();
        let new = plan::limits(new, version)?;
        let rules = old.and_then(|old| old.devices().clone()).filter(|_| version == Version::V1);
        let old = old.map_or_else(|| Ok(Vec::new()), |old| plan::limits(old, version))?;
        let change = Change { of: self, cgroups: cgroups.clone(), rules, undo: plan::undo(&old, &new) };
        if let Err(error) = change.put(&new) {
            change.revert();
            return Err(error);
        }
        Ok(change)
    }

    fn put(&self, properties: &[Property]) -> Result<()> {
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
    cgroups: Cgroups,
    /// The container's device rules, where systemd writes them too.
    rules: Option<Vec<LinuxDeviceCgroup>>,
    undo: Vec<Property>,
}

impl Change {
    /// Tells systemd the old limits again.
    pub fn revert(self) {
        if let Err(error) = self.put(&self.undo) {
            crate::log::warn(&error.to_string());
        }
    }

    /// With any property systemd writes a v1 unit's device list anew, beginning with "none": the container is stopped
    /// meanwhile, or would be refused its own /dev/null, and then gets back what systemd has no words for.
    fn put(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let Some(rules) = &self.rules else { return self.of.put(properties) };
        let held = !self.cgroups.is_frozen() && self.cgroups.freeze().is_ok();
        let done = self.of.put(properties).and_then(|()| self.cgroups.settle_devices(rules));
        let thawed = if held { self.cgroups.thaw() } else { Ok(()) };
        done.and(thawed)
    }
}
