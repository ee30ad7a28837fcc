//! The way back to nothing: every trace of every pod of a node, from what is on disk and in the kernel alone.
//!
//! Owns: processes, mounts, cgroups, network namespaces, veths, run and log directories of pods.
//! Does not own: images, certificates, the store: what makes the next start a continuation stays.

use crate::cgroup::Cgroups;
use crate::config::Dirs;
use crate::error::{FileError, KubeletError, PodError, chain};
use crate::worker::blocking;
use crate::{disk, images::Images, shim};

/// Removes every pod of the node with all it left. Works after a crash or a reboot, and when there is nothing.
///
/// # Errors
/// The first step that failed; the others were tried all the same.
pub async fn cleanup(dirs: &Dirs) -> Result<(), KubeletError> {
    let at = dirs.clone();
    let on_disk = blocking(move || kill_and_unmount(&at)).await;
    let network = pintle_net::pod::remove_all(&dirs.run).await;
    let at = dirs.clone();
    let swept = blocking(move || sweep(&at)).await;
    if let Err(e) = &network {
        tracing::warn!(error = chain(e), "cannot remove the pods' network");
    }
    on_disk?;
    swept?;
    Ok(network.map_err(|source| FileError {
        op: "remove the network namespaces in",
        path: dirs.run.join("netns"),
        source: std::io::Error::other(source),
    })?)
}

fn kill_and_unmount(dirs: &Dirs) -> Result<(), FileError> {
    for pod in disk::names(&dirs.run.join("pods"))? {
        shim::kill(&dirs.pod_run(&pod));
    }
    // Supervisors and containers first: nothing can be unmounted for good while they hold it.
    let killed = Cgroups::detect().and_then(|cgroups| {
        cgroups.remove(&dirs.kubepods())?;
        cgroups.prune(&dirs.cgroup_root);
        Ok(())
    });
    if dirs.images().exists() {
        // A store that does not open holds no mount that the sweep below would not find.
        let unmounted = pintle_rootfs::Store::open(&dirs.images())
            .map_err(|e| PodError::Image(e.into()))
            .and_then(|store| unmount_roots(&store, dirs));
        if let Err(e) = unmounted {
            tracing::warn!(error = chain(&e), "cannot unmount every container's root by the store");
        }
    }
    disk::unmount_below(&dirs.run.join("pods"))?;
    disk::unmount_below(&dirs.state.join("agent/pods"))?;
    killed
}

fn unmount_roots(store: &pintle_rootfs::Store, dirs: &Dirs) -> Result<(), PodError> {
    for (id, at) in store.roots_below(&dirs.run.join("pods"))? {
        Images::unmount(store, &id, &at)?;
    }
    Ok(())
}

fn sweep(dirs: &Dirs) -> Result<(), FileError> {
    let gone = [
        dirs.run.join("pods"),
        dirs.run.join("netns"),
        dirs.runtime_root(),
        dirs.state.join("agent/pods"),
        dirs.ipam(),
        dirs.pod_logs.clone(),
    ];
    gone.iter().try_for_each(|dir| disk::remove_tree(dir))
}
