//! Making a pod's sandbox: address, network, shared files, supervisor; and its volumes, which need none of them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use pintle_kubelet_plan::containers::{host_network, spec, uid};
use pintle_kubelet_plan::files::uts_name;
use pintle_kubelet_plan::node::HANDLERS;
use pintle_kubelet_plan::refusals::refusal;
use pintle_kubelet_plan::resources::{pod_cgroup, pod_resources, qos_class};
use pintle_kubelet_plan::security::sysctls;
use pintle_kubelet_plan::volumes::{VolumeKind, plan, volume_references};
use pintle_net::ipam::Ipam;
use pintle_net::pod::{PodLink, netns_path};
use pintle_shim::ShimConfig;
use tokio::sync::{Mutex, mpsc};

use super::{Message, blocking, tear_down};
use crate::context::Context;
use crate::error::PodError;
use crate::shim::{self, Shim};
use crate::tokens::Tokens;
use crate::{disk, files, volumes};

/// How long a pod waits for the node's pod CIDR before it says so.
const CIDR_WAIT_S: u64 = 10;

/// Makes the sandbox and subscribes to its supervisor. Repeating it after a failure continues or replaces.
pub(super) async fn set_up(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    tell: mpsc::UnboundedSender<Message>,
) -> Result<(Shim, Vec<String>), PodError> {
    if let Some(refusal) = refusal(&pod, ctx.host) {
        return Err(refusal.into());
    }
    known_runtime_class(&ctx, &pod).await?;
    let run_dir = ctx.config.dirs.run.clone();
    let pod_uid = uid(&pod).to_owned();
    disk::make_dir(&ctx.config.dirs.pod_run(&pod_uid), 0o700)?;
    let mut ips = Vec::new();
    let mut link = None;
    if !host_network(&pod) {
        let ipam = ipam(&ctx).await?;
        let owner = pod_uid.clone();
        let addr = blocking(move || ipam.allocate(&owner)).await?;
        ips.push(addr.to_string());
        // The namespace first: the supervisor joins it while the link into it is made.
        pintle_net::netns::create(&netns_path(&run_dir, &pod_uid)).await?;
        link = Some(PodLink::new(&run_dir, &pod_uid, addr));
    }
    let network = async {
        match &link {
            Some(link) => pintle_net::pod::ensure(link).await.map(drop).map_err(PodError::from),
            None => Ok(()),
        }
    };
    let supervisor = start_shim(ctx.clone(), pod.clone(), ips.clone(), tell);
    let (network, supervisor) = tokio::join!(network, supervisor);
    network?;
    Ok((supervisor?, ips))
}

/// A runtime class is the promise of a certain runtime, and this node has one.
async fn known_runtime_class(ctx: &Context, pod: &Pod) -> Result<(), PodError> {
    let Some(name) = spec(pod).runtime_class_name.as_deref().filter(|n| !n.is_empty()) else { return Ok(()) };
    let class = match ctx.client.get::<RuntimeClass>("", name).await {
        Ok(class) => class,
        Err(e) if e.is_not_found() => return Err(PodError::NoRuntimeClass { name: name.to_owned() }),
        Err(e) => return Err(e.into()),
    };
    if HANDLERS.contains(&class.handler.as_str()) {
        return Ok(());
    }
    Err(PodError::NoHandler { name: name.to_owned(), handler: class.handler })
}

/// The address pool, once the node has one.
async fn ipam(ctx: &Context) -> Result<Arc<Ipam>, PodError> {
    let mut pool = ctx.ipam.clone();
    let ready = tokio::time::timeout(Duration::from_secs(CIDR_WAIT_S), pool.wait_for(Option::is_some)).await;
    match ready {
        Ok(Ok(pool)) => pool.clone().ok_or(PodError::NoPodCidr),
        Ok(Err(_)) | Err(_) => Err(PodError::NoPodCidr),
    }
}

async fn start_shim(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    ips: Vec<String>,
    tell: mpsc::UnboundedSender<Message>,
) -> Result<Shim, PodError> {
    let dir = ctx.config.dirs.pod_run(uid(&pod));
    let config = shim_config(&ctx, &pod);
    let (at, runtime, context) = (dir.clone(), ctx.config.runtime.clone(), ctx.clone());
    blocking(move || -> Result<(), PodError> {
        files::write(&context.config.dirs, &pod, &ips, &context.dns)?;
        if at.join("shim.json").exists() {
            // A supervisor was here and died: what it left is ended and unmounted.
            tear_down::clear_containers(&context, &at, &config.pod_cgroup)?;
            disk::remove_file(&at.join("shim.sock"))?;
        }
        let json = serde_json::to_vec(&config).map_err(shim::ShimError::Malformed)?;
        disk::replace(&at.join("shim.json"), &json, 0o600)?;
        Ok(shim::spawn(&runtime, &at)?)
    })
    .await?;
    let (shim, _) = connect(&dir, tell).await?;
    Ok(shim)
}

/// Connects to a supervisor and subscribes.
pub(super) async fn connect(
    dir: &std::path::Path,
    tell: mpsc::UnboundedSender<Message>,
) -> Result<(Shim, Vec<pintle_shim::ContainerState>), shim::ShimError> {
    // The pod's task may be gone; then nobody listens any more.
    let shim = Shim::connect(dir, Box::new(move |event| drop(tell.send(Message::Shim(event))))).await?;
    let containers = shim.subscribe().await?;
    Ok((shim, containers))
}

fn shim_config(ctx: &Context, pod: &Pod) -> ShimConfig {
    let config = &ctx.config;
    let own_network = !host_network(pod);
    let spec = spec(pod);
    ShimConfig {
        pod_uid: uid(pod).to_owned(),
        dir: config.dirs.pod_run(uid(pod)),
        runtime_root: config.dirs.runtime_root(),
        netns: own_network.then(|| netns_path(&config.dirs.run, uid(pod))),
        hostname: own_network.then(|| uts_name(pod, &config.cluster_domain)),
        host_ipc: spec.host_ipc.unwrap_or(false),
        share_pid: spec.share_process_namespace.unwrap_or(false),
        sysctls: sysctls(pod),
        pod_cgroup: pod_cgroup(&config.dirs.cgroup_root, qos_class(pod), uid(pod)),
        pod_resources: pod_resources(pod, config.pod_pids_max),
    }
}

/// Makes or refreshes the pod's volumes.
pub(super) async fn mount_volumes(
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    tokens: Arc<Mutex<Tokens>>,
    ips: Vec<String>,
) -> Result<(), PodError> {
    let objects = ctx.objects.collect(&pod, &volume_references(&pod)).await?;
    let mut held = std::collections::BTreeMap::new();
    let mut tokens = tokens.lock().await;
    for volume in plan(&pod)? {
        if let VolumeKind::Projection(projection) = &volume.kind {
            held.extend(tokens.collect(&ctx.client, &pod, projection, Timestamp::now()).await?);
        }
    }
    drop(tokens);
    let sources = volumes::Sources { objects, tokens: held, facts: ctx.facts_of(&pod, &ips) };
    blocking(move || volumes::set_up(&ctx.config.dirs, &pod, &sources)).await
}
