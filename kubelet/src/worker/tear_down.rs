//! Taking a pod apart: supervisor, processes, mounts, volumes, network, cgroup. Every step may have been done before.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pintle_kubelet_plan::resources::{QosClass, pod_cgroup};
use pintle_shim::{Call, Reply};

use super::blocking;
use crate::context::Context;
use crate::error::{PodError, chain};
use crate::shim::{self, Shim};
use crate::{disk, volumes};

/// How long a supervisor may take to end itself.
const SHUTDOWN_MS_MAX: u64 = 2000;

/// Takes a pod apart; its record, logs and run directory stay until nobody asks for them.
pub(crate) async fn run(ctx: Arc<Context>, pod_uid: String, shim: Option<Shim>) -> Result<(), PodError> {
    let dir = ctx.config.dirs.pod_run(&pod_uid);
    let shim = match shim {
        Some(shim) => Some(shim),
        // After a crash there may be one that nobody is connected to.
        None => Shim::connect(&dir, Box::new(|_| ())).await.ok(),
    };
    let mut stuck = true;
    if let Some(shim) = shim {
        let ended = tokio::time::timeout(Duration::from_millis(SHUTDOWN_MS_MAX), Box::pin(shut_down(&shim))).await;
        stuck = !matches!(ended, Ok(Ok(())));
        if stuck {
            tracing::warn!(pod = pod_uid, "a pod's supervisor did not end by itself; its cgroup is killed");
        }
    }
    let (context, uid, at) = (ctx.clone(), pod_uid.clone(), dir);
    blocking(move || -> Result<(), PodError> {
        if stuck {
            shim::kill(&at);
        }
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let cgroup = pod_cgroup(&context.config.dirs.cgroup_root, class, &uid);
            clear_containers(&context, &at, &cgroup)?;
        }
        disk::unmount_below(&at)?;
        for left in ["containers", "exits", "shm"] {
            disk::remove_tree(&at.join(left))?;
        }
        for left in ["shim.sock", "shim.json"] {
            disk::remove_file(&at.join(left))?;
        }
        Ok(volumes::tear_down(&context.config.dirs, &uid)?)
    })
    .await?;
    pintle_net::pod::remove(&ctx.config.dirs.run, &pod_uid).await?;
    let pool = ctx.ipam.borrow().clone();
    if let Some(pool) = pool {
        blocking(move || pool.release(&pod_uid)).await?;
    }
    Ok(())
}

async fn shut_down(shim: &Shim) -> Result<(), crate::shim::ShimError> {
    if let Reply::Containers { containers } = shim.call(Call::List).await? {
        for container in containers {
            // What cannot be deleted one by one falls with the cgroup.
            if let Err(e) = shim.call(Call::Delete { container: container.id }).await {
                tracing::debug!(error = chain(&e), "cannot delete a container");
            }
        }
    }
    shim.call(Call::Shutdown).await?;
    Ok(())
}

/// Kills what is left in a pod's cgroup and unmounts its containers' roots. Blocking.
pub(crate) fn clear_containers(ctx: &Context, dir: &Path, cgroup: &str) -> Result<(), PodError> {
    ctx.cgroups.remove(cgroup)?;
    for (id, at) in ctx.images.roots_below(dir)? {
        ctx.images.unmount(&id, &at)?;
    }
    Ok(())
}

/// Takes apart a pod that nobody knows any more, with its record and logs.
pub(crate) async fn orphan(ctx: Arc<Context>, pod_uid: String) -> Result<(), PodError> {
    run(ctx.clone(), pod_uid.clone(), None).await?;
    blocking(move || -> Result<(), PodError> {
        let dirs = &ctx.config.dirs;
        let suffix = format!("_{pod_uid}");
        for name in disk::names(&dirs.pod_logs)?.iter().filter(|n| n.ends_with(&suffix)) {
            disk::remove_tree(&dirs.pod_logs.join(name))?;
        }
        Ok(disk::remove_tree(&dirs.pod_run(&pod_uid))?)
    })
    .await
}
