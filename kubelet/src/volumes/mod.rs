//! A pod's volumes on disk.
//!
//! Owns: making, updating and removing them, sub-paths. Does not own: what they hold (plan).

mod atomic;
mod host_path;
mod sub_path;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use pintle_kubelet_plan::containers::uid;
use pintle_kubelet_plan::env::{Facts, Objects};
use pintle_kubelet_plan::payload::{File, payload};
use pintle_kubelet_plan::security::fs_group;
use pintle_kubelet_plan::volumes::{MountPlan, TokenAsk, VolumeKind, VolumePlan, plan};

use crate::config::Dirs;
use crate::disk;
use crate::error::{At as _, FileError, PodError};
use crate::files::tmpfs;

pub(crate) use sub_path::resolve as resolve_sub_path;

/// Everything the volumes of a pod are made from, collected beforehand.
pub(crate) struct Sources {
    pub(crate) objects: Objects,
    pub(crate) tokens: BTreeMap<TokenAsk, String>,
    pub(crate) facts: Facts,
}

/// Makes or refreshes all volumes of a pod. Blocking.
pub(crate) fn set_up(dirs: &Dirs, pod: &Pod, sources: &Sources) -> Result<(), PodError> {
    plan(pod)?.iter().try_for_each(|volume| one(dirs, pod, volume, sources))
}

/// The directories of the pod's volumes by name.
pub(crate) fn directories(dirs: &Dirs, pod: &Pod) -> Result<BTreeMap<String, PathBuf>, PodError> {
    let place = |volume: VolumePlan| {
        let path = match &volume.kind {
            VolumeKind::HostPath { path, .. } => PathBuf::from(path),
            VolumeKind::EmptyDir { .. } | VolumeKind::Projection(_) => {
                dirs.volume(uid(pod), volume.plugin, &volume.name)
            }
        };
        (volume.name, path)
    };
    Ok(plan(pod)?.into_iter().map(place).collect())
}

/// Unmounts and removes everything below a pod's state directory. Blocking.
pub(crate) fn tear_down(dirs: &Dirs, pod_uid: &str) -> Result<(), FileError> {
    let dir = dirs.pod_state(pod_uid);
    disk::unmount_below(&dir)?;
    disk::remove_tree(&dir)
}

fn one(dirs: &Dirs, pod: &Pod, volume: &VolumePlan, sources: &Sources) -> Result<(), PodError> {
    let dir = dirs.volume(uid(pod), volume.plugin, &volume.name);
    match &volume.kind {
        VolumeKind::HostPath { path, expect } => host_path::check(path, *expect),
        VolumeKind::EmptyDir { memory, size_max, mode } => {
            let tmpfs_max = memory.then_some(*size_max);
            Ok(empty_dir(&dir, tmpfs_max, *mode, fs_group(pod))?)
        }
        VolumeKind::Projection(projection) => {
            let files = payload(pod, projection, &sources.objects, &sources.tokens, &sources.facts)?;
            disk::make_dir(&dir, 0o755)?;
            if projection.memory {
                tmpfs(&dir, "mode=1777")?;
            }
            set_mode(&dir, 0o777 | if fs_group(pod).is_some() { 0o2000 } else { 0o1000 })?;
            Ok(atomic::write(&dir, &grouped(files, fs_group(pod)), fs_group(pod))?)
        }
    }
}

/// Files a group owns are readable by it.
fn grouped(mut files: BTreeMap<String, File>, group: Option<u32>) -> BTreeMap<String, File> {
    if group.is_some() {
        files.values_mut().for_each(|f| f.mode |= 0o440);
    }
    files
}

/// `tmpfs_max`: in memory, with at most that many bytes.
fn empty_dir(dir: &Path, tmpfs_max: Option<Option<i64>>, mode: u32, group: Option<u32>) -> Result<(), FileError> {
    disk::make_dir(dir, 0o755)?;
    if let Some(size_max) = tmpfs_max {
        let size = size_max.map(|s| format!(",size={s}")).unwrap_or_default();
        tmpfs(dir, &format!("mode=1777{size}"))?;
    }
    if group.is_some() {
        std::os::unix::fs::chown(dir, None, group).at("give to its group", dir)?;
    }
    set_mode(dir, if group.is_some() { 0o2777 } else { mode })
}

fn set_mode(dir: &Path, mode: u32) -> Result<(), FileError> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).at("set the mode of", dir)
}

/// The source of a mount: the volume, or a place in it that nobody can swap for another.
pub(crate) fn source(
    dirs: &Dirs,
    pod: &Pod,
    container: &str,
    index: usize,
    mount: &MountPlan,
) -> Result<PathBuf, PodError> {
    match &mount.sub_path {
        None => Ok(mount.volume.clone()),
        Some(path) => {
            let place = dirs.pod_state(uid(pod)).join("volume-subpaths").join(container).join(index.to_string());
            Ok(resolve_sub_path(&mount.volume, path, &place)?)
        }
    }
}
