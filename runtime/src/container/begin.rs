//! The beginning of a container, new or restored: a name, a place for its cgroups, a state on disk.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Spec;

use super::{Env, destroy};
use crate::cgroup::{Cgroups, Driver};
use crate::error::{Error, Result};
use crate::state::{Dir, Stored};
use crate::systemd::{self, Holder, Place};
use crate::{clock, rdt};

/// A container to be.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Its id.
    pub id: &'a str,
    /// Directory with config.json; canonical.
    pub bundle: &'a Path,
    /// --no-new-keyring.
    pub no_new_keyring: bool,
    /// Who makes its cgroups.
    pub driver: Driver,
    /// Its stdio if that is not ours.
    pub stdio: Option<&'a [OwnedFd; 3]>,
    /// What comes first.
    pub order: Order,
}

/// What of a container is made first. Whatever it is, the state has been written before cgroups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Its cgroups: it is born in them, or others make them, or it may have to do without.
    CgroupsFirst,
    /// Its first process, which makes its namespaces meanwhile.
    ChildFirst,
}

/// A container with a name, a place for its cgroups and a state file, and nothing else.
pub struct Begun {
    /// Its directory.
    pub dir: Dir,
    /// What is on disk about it.
    pub stored: Stored,
    /// Its cgroups.
    pub cgroups: Cgroups,
    place: Option<Place>,
    rdt: Option<rdt::Prepared>,
    pub(super) order: Order,
}

/// Begins a container, new or restored. The state is written before anything else is made that would outlive us: whoever finds
/// the rest of a crash can clean it.
pub fn begin(env: &Env, new: New<'_>, spec: Spec) -> Result<Begun> {
    let (id, bundle) = (new.id, new.bundle);
    let dir = env.root.container(id)?;
    if dir.exists() {
        return Err(Error::AlreadyExists);
    }
    let rootfs = bundle.join(spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path()));
    if !rootfs.is_dir() {
        return Err(Error::Usage(format!("root.path: {} is not a directory", rootfs.display())));
    }
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    pintle_runtime_plan::rootless::check(&spec, env.caller()?)?;
    let place = match new.driver {
        Driver::Files => None,
        Driver::Systemd => Some(systemd::place(env, path, id)?),
    };
    let cgroups = match &place {
        Some(place) => place.cgroups.clone(),
        None => Cgroups::locate(env.layout()?, path, id, env.need()?)?,
    };
    cgroups.require_unused()?;
    let rdt = rdt::prepare(rdt::configured(&spec), id)?;
    dir.create()?;
    let stored = Stored {
        id: id.to_owned(),
        init_process_pid: 0,
        init_process_start: 0,
        created: clock::rfc3339_nano(clock::now_ns()),
        bundle: bundle.to_owned(),
        rootfs,
        cgroup_paths: cgroups.paths.clone(),
        systemd: place.as_ref().map(Place::recorded),
        namespace_paths: BTreeMap::new(),
        no_new_keyring: new.no_new_keyring,
        intel_rdt: rdt.as_ref().map(rdt::Prepared::groups),
        external_descriptors: descriptors(new.stdio),
        config: Box::new(spec),
    };
    if new.order == Order::CgroupsFirst
        && let Err(error) = dir.save(&stored)
    {
        let _left_for_delete = destroy(env, &dir, &stored);
        return Err(error);
    }
    Ok(Begun { dir, stored, cgroups, place, rdt, order: new.order })
}

impl Begun {
    /// Makes its groups and sets their limits; gives who keeps a unit's from ending before init is in it.
    pub fn make(&mut self, env: &Env) -> Result<Option<Holder>> {
        if let Some(rdt) = self.rdt.take() {
            rdt.make()?;
        }
        let spec = &self.stored.config;
        let mut holder = self.place.as_ref().map(|place| place.start(env.proof, spec)).transpose()?.flatten();
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        self.cgroups.create_for(env.layout()?, resources)?;
        self.stored.cgroup_paths.clone_from(&self.cgroups.paths);
        if let Some(resources) = resources {
            self.cgroups.apply(resources)?;
        }
        if let Some(holder) = &mut holder {
            holder.make_room(&self.cgroups)?;
        }
        Ok(holder)
    }

    /// Undoes it after a failure. The first failure is the one worth telling; what cannot be undone stays for `delete --force`.
    pub fn give_up(mut self, env: &Env, why: &Error) {
        if why.is_anothers_unit() {
            self.stored.systemd = None;
        }
        let _left_for_delete = destroy(env, &self.dir, &self.stored);
    }
}

/// What stdio is, as /proc shows it: a restored container gets its pipes from whoever restores it.
fn descriptors(passed: Option<&[OwnedFd; 3]>) -> Vec<String> {
    let number = |n: usize| passed.map_or(n as i32, |fds| fds[n].as_raw_fd());
    let link = |n| std::fs::read_link(format!("/proc/self/fd/{}", number(n)));
    (0..3).map(|n| link(n).map_or_else(|_closed| String::new(), |path| path.to_string_lossy().into_owned())).collect()
}
