//! Mounts whose content is the host's: named at the dump, bound again at the restore.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType as Ns, Mount, Spec};
use pintle_criu::ExternalMount;

use super::{Dump, Refused, Restore, text};
use crate::checks::is_bind;
use crate::host::Hierarchy;
use crate::mount_options::Options;
use crate::slots::target;

/// What masks files. Bound from the container's own /dev at creation, from the host's at the restore.
const NULL: &str = "/dev/null";

/// A bind mount: where, as config.json says it, and what.
struct Bind {
    destination: PathBuf,
    source: PathBuf,
}

/// All mounts that are binds of the host's files, in order.
fn binds(spec: &Spec, bundle: &Path, hierarchies: &[Hierarchy]) -> Result<Vec<Bind>, Refused> {
    let mut binds = Vec::new();
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        if is_bind(mount, &options) {
            let maps = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
            if maps(mount.uid_mappings()) || options.idmap.is_some() {
                return Err(Refused::MappedIds { index });
            }
            let source = bundle.join(mount.source().as_deref().unwrap_or(Path::new("/")));
            binds.push(Bind { destination: mount.destination().clone(), source });
        } else if mount.typ().as_deref() == Some("cgroup") && !has(spec, Ns::Cgroup) {
            binds.extend(hierarchies.iter().map(|hierarchy| of_hierarchy(mount, hierarchy)));
        }
    }
    if has(spec, Ns::User) {
        let listed = spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten());
        let default = crate::mounts::DEFAULT_DEVICES.iter().map(|(path, ..)| PathBuf::from(path));
        let devices = default.chain(listed.map(|device| device.path().clone()));
        binds.extend(devices.map(|path| Bind { destination: path.clone(), source: path }));
    }
    Ok(binds)
}

/// As `mounts::cgroup_v1` makes them.
fn of_hierarchy(mount: &Mount, hierarchy: &Hierarchy) -> Bind {
    let name = hierarchy.mountpoint.file_name().unwrap_or_default();
    Bind {
        destination: mount.destination().join(name),
        source: hierarchy.mountpoint.join(hierarchy.path.trim_start_matches('/')),
    }
}

fn has(spec: &Spec, kind: Ns) -> bool {
    spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()).any(|ns| ns.typ() == kind)
}

fn inside(path: &Path) -> PathBuf {
    PathBuf::from(target(path).path.to_string_lossy().into_owned())
}

pub(super) fn at_dump(what: &Dump<'_>) -> Result<Vec<ExternalMount>, Refused> {
    let own = |bind: Bind| {
        let at = text(&(what.resolve)(what.rootfs, &inside(&bind.destination)));
        ExternalMount { key: at.clone(), value: at }
    };
    let masked = what.masked_files.iter().map(|path| ExternalMount { key: path.clone(), value: NULL.to_owned() });
    Ok(binds(what.spec, Path::new("/"), what.hierarchies)?.into_iter().map(own).chain(masked).collect())
}

pub(super) fn at_restore(what: &Restore<'_>) -> Result<Vec<ExternalMount>, Refused> {
    let own = |bind: Bind| {
        let at = (what.resolve)(what.rootfs, &inside(&bind.destination));
        ExternalMount { key: text(&at), value: text(&bind.source) }
    };
    let masks = what.spec.linux().iter().any(|linux| linux.masked_paths().iter().flatten().next().is_some());
    let null = masks.then(|| ExternalMount { key: NULL.to_owned(), value: NULL.to_owned() });
    Ok(binds(what.spec, what.bundle, what.hierarchies)?.into_iter().map(own).chain(null).collect())
}

/// A place for a mount, which CRIU expects to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mountpoint {
    /// What holds it: the root file system, or the source of an earlier bind.
    pub beneath: PathBuf,
    /// In that.
    pub path: PathBuf,
    /// A bind, whose source decides between file and directory.
    pub like: Option<PathBuf>,
}

/// Places to make, in order. What lies on a tmpfs comes with the images, and cgroup mounts lie on one or on sysfs.
pub fn mountpoints(spec: &Spec, bundle: &Path, rootfs: &Path) -> Vec<Mountpoint> {
    let (mut places, mut holders) = (Vec::new(), vec![(PathBuf::from("/"), Some(rootfs.to_owned()))]);
    for mount in spec.mounts().iter().flatten() {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let bind = is_bind(mount, &options);
        let like = bind.then(|| bundle.join(mount.source().as_deref().unwrap_or(Path::new("/"))));
        let at = inside(mount.destination());
        let holder = holders.iter().rev().find_map(|(top, of)| Some((of.as_ref(), at.strip_prefix(top).ok()?)));
        let kind = mount.typ().as_deref().unwrap_or_default();
        if let Some((Some(beneath), below)) = holder.filter(|_| bind || !kind.starts_with("cgroup")) {
            places.push(Mountpoint { beneath: beneath.clone(), path: Path::new("/").join(below), like: like.clone() });
        }
        if like.is_some() || kind == "tmpfs" {
            holders.push((at, like));
        }
    }
    places
}
