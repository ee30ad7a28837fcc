//! The kubelet from its start to its end. Pods go on running when it ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use pintle_client::{Cache, Client, EventRecorder};
use pintle_kubelet_plan::env::Facts;
use pintle_kubelet_plan::files::DnsSettings;
use pintle_kubelet_plan::node::{MachineFacts, allocatable};
use pintle_kubelet_plan::resources::{QosClass, class_cgroup};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cgroup::Cgroups;
use crate::config::KubeletConfig;
use crate::context::Context;
use crate::error::{At as _, KubeletError};
use crate::images::{ImageError, Images};
use crate::manager::{Manager, Pods};
use crate::node::NodeKeeper;
use crate::objects::ObjectStore;
use crate::watch::Watcher;
use crate::worker::blocking;
use crate::{bootstrap, disk, machine, server};

/// Runs the kubelet until `cancel`; pods go on running without it.
///
/// # Errors
/// What keeps it from starting: runtime, credentials, ports, directories. Later trouble is retried, not returned.
pub async fn run(config: KubeletConfig, cancel: CancellationToken) -> Result<(), KubeletError> {
    std::fs::metadata(&config.runtime)
        .map_err(|source| KubeletError::Runtime { path: config.runtime.clone(), source })?;
    make_dirs(&config)?;
    let mut tasks = JoinSet::new();
    let api = server::listen(SocketAddr::new(config.listen, config.port)).await?;
    if config.health_port != 0 {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), config.health_port);
        tasks.spawn(server::health(server::listen(address).await?));
    }
    let client = tokio::select! {
        client = bootstrap::client(&config) => client?,
        () = cancel.cancelled() => return Ok(()),
    };
    let images = open_images(&config).await?;
    let (pool, pool_out) = watch::channel(None);
    let facts = machine::facts(&config);
    let ctx = Arc::new(context(config.clone(), &client, images.clone(), pool_out, &facts, cancel.clone())?);
    let pods = Pods::default();
    let keeper = NodeKeeper {
        client: client.clone(),
        facts: facts.clone(),
        images,
        ipam: pool,
        ipam_dir: config.dirs.ipam(),
        fixed_cidr: config.pod_cidr,
    };
    tasks.spawn(keeper.run());
    tasks.spawn(Manager::new(ctx.clone(), pods.clone(), &facts).run());
    tasks.spawn(bootstrap::keep_client(config.clone(), client));
    tasks.spawn(server::serve(api, ctx, pods));
    cancel.cancelled().await;
    Ok(())
}

fn make_dirs(config: &KubeletConfig) -> Result<(), KubeletError> {
    let dirs = &config.dirs;
    for (dir, mode) in [
        (dirs.run.join("pods"), 0o700),
        (dirs.run.join("netns"), 0o755),
        (dirs.runtime_root(), 0o700),
        (dirs.state.join("agent/pods"), 0o755),
        (dirs.pod_logs.clone(), 0o755),
    ] {
        disk::make_dir(&dir, mode)?;
    }
    Ok(())
}

async fn open_images(config: &KubeletConfig) -> Result<Arc<dyn Images>, KubeletError> {
    let dir = config.dirs.images();
    let store = blocking(move || pintle_rootfs::Store::open(&dir).map_err(ImageError::from)).await;
    let store = store.map_err(std::io::Error::other).at("open the image store", &config.dirs.images())?;
    Ok(Arc::new(store))
}

fn context(
    config: KubeletConfig,
    client: &Client,
    images: Arc<dyn Images>,
    ipam: watch::Receiver<Option<Arc<pintle_net::ipam::Ipam>>>,
    machine: &MachineFacts,
    cancel: CancellationToken,
) -> Result<Context, KubeletError> {
    let cgroups = Cgroups::detect()?;
    for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
        cgroups.ensure(&class_cgroup(&config.dirs.cgroup_root, class))?;
    }
    cgroups.set_shares(&class_cgroup(&config.dirs.cgroup_root, QosClass::BestEffort), 2)?;
    let (allocatable_cpu_milli, allocatable_memory) = allocatable(machine);
    let facts = Facts {
        node_name: config.node_name.clone(),
        host_ips: vec![config.node_ip.to_string()],
        pod_ips: Vec::new(),
        allocatable_cpu_milli,
        allocatable_memory,
        allocatable_storage: machine.disk,
        machine_memory: machine.memory,
    };
    let dns = DnsSettings {
        cluster_servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
        cluster_domain: config.cluster_domain.clone(),
        node_resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        node_hosts: std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
    };
    Ok(Context {
        client: client.clone(),
        events: EventRecorder::start(client, "kubelet", &config.node_name),
        images,
        objects: ObjectStore::new(client),
        services: Cache::<Service>::builder(client).trim(trim_service).start(),
        ipam,
        cgroups,
        facts,
        dns,
        host: machine::host(),
        watcher: Watcher::start()?,
        cancel,
        config,
    })
}

/// Environment variables need a Service's names, address and ports; the rest would only fill memory.
fn trim_service(service: &mut Service) {
    service.status = None;
    service.metadata.annotations = None;
    service.metadata.labels = None;
}
