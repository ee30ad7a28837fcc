//! The proxy's loop: collects changes, lets the backend carry them out on a thread of its own, tells what it found, and
//! watches for foreign hands on our tables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Backoff, Cache, Change as Event, Client, Subscription};
use pintle_net::nfnetlink::monitor::{Monitor, Noticed};
use pintle_net::nfnetlink::{Nft, NftError};
use pintle_net::sysctl;
use pintle_nft::{Family, diff};
use pintle_proxy_plan::{Change, Config, DetectLocal, Egress, NodePortAddresses};
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Extent, Report};
use crate::config::{ProxyConfig, ProxyError};
use crate::health::Health;
use crate::kernel::Netlink;
use crate::kube_config::{LocalMode, NodePorts};
use crate::limits;
use crate::metrics::Metrics;
use crate::nft_backend::{self, NftBackend};
use crate::node;
use crate::outlets::Outlets;
use crate::packed::Packed;
use crate::programming::Programming;
use crate::servers;

/// Above this many changes at once we do not listen to the kernel's notifications of our own transactions.
const QUIET_ABOVE_CHANGES: usize = 50;
/// Everything is installed anew every `configSyncPeriod`, whatever we believe, but no more often than this.
const FULL_SYNC_AT_MOST_EVERY: Duration = Duration::from_secs(60);
/// Somebody who meddles again and again is answered this often.
const REPAIR_AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Services that another proxy serves, or that have no virtual address, need not even be sent to us.
const NOT_OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// Runs the proxy until cancelled. The rules stay when it ends, so that a restart interrupts nothing; see [`cleanup`].
///
/// # Errors
/// When the kernel or an address to serve on cannot be used at all. What may pass is said and tried again.
pub async fn run(config: ProxyConfig, client: Client, cancel: CancellationToken) -> Result<(), ProxyError> {
    let base = planner_config(&config);
    enable_forwarding(&base)?;
    set_limits(&config);
    let ignored = config.kube.without_effect();
    if !ignored.is_empty() {
        tracing::warn!(fields = ignored.join(", "), "the configuration says things that have no effect here");
    }
    let mut kernel = Netlink::open().map_err(ProxyError::Nft)?;
    let (port, families) = (kernel.port(), usable_families(&mut kernel, &base)?);
    let backend = NftBackend::new(base.clone(), &families, kernel);
    let monitor = Monitor::open(NftBackend::<Netlink>::tables(&base)).map_err(ProxyError::Nft)?;
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    // Ends the servers too when this function ends for another reason.
    let cancel = cancel.child_token();
    let _guard = cancel.clone().drop_guard();
    servers::start(&config, &health, &metrics, &cancel).await?;
    let caches = Caches::start(&client, &config.node);
    health.queued(Instant::now());
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        () = caches.synced() => {}
    }
    let full_sync_every = config.kube.config_sync_period.0.max(FULL_SYNC_AT_MOST_EVERY);
    let mut proxy = Proxy {
        local_mode: config.local_mode.clone(),
        check_every: config.kube.nftables.sync_period.0.max(Duration::from_secs(1)),
        outlets: Outlets::new(&config, &client, health.clone(), metrics.clone()),
        base,
        events: caches.subscribe(),
        caches,
        backend: Some(Box::new(backend)),
        port,
        monitor,
        health,
        metrics,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
        retry: None,
        full_sync: Deadline::now() + full_sync_every,
        full_sync_every,
        hold: config.kube.hold(),
        synced_at: None,
        pending: Pending { all: true, ..Pending::default() },
        programming: Programming::default(),
    };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        end = proxy.serve() => end,
    }
}

/// Removes everything the proxy has installed in the namespace of the calling thread.
///
/// # Errors
/// When the kernel refuses.
pub fn cleanup(table: &str) -> Result<(), ProxyError> {
    let config = Config { table: table.to_owned(), ..Config::new("", Vec::new(), Vec::new()) };
    let mut nft = Nft::open().map_err(ProxyError::Nft)?;
    nft.commit(&diff::remove(&NftBackend::<Netlink>::tables(&config))).map_err(ProxyError::Nft)
}

/// The families this kernel speaks.
fn families() -> Vec<Family> {
    let mut families = vec![Family::V4];
    families.extend(std::path::Path::new("/proc/net/if_inet6").exists().then_some(Family::V6));
    families
}

/// Those of them in which it takes our rules. Without IPv4 there is nothing to do here.
fn usable_families(kernel: &mut Netlink, config: &Config) -> Result<Vec<Family>, ProxyError> {
    let mut usable = Vec::new();
    for family in families() {
        match nft_backend::probe(kernel, config, family) {
            Err(error) if !error.is_transient() && family == Family::V4 => return Err(ProxyError::Nft(error)),
            Err(error) if !error.is_transient() => {
                let (cause, hint) = (cause(&error), error.hint());
                tracing::warn!(%error, cause, hint, "this kernel cannot serve IPv6 Services; they are left alone");
            }
            // What passes is met again, and dealt with, by the first load.
            _ => usable.push(family),
        }
    }
    Ok(usable)
}

/// IPv6 forwarding changes how a machine listens to routers: only where there are pods with such addresses.
fn enable_forwarding(config: &Config) -> Result<(), ProxyError> {
    sysctl::enable_forwarding().map_err(ProxyError::Forwarding)?;
    if config.cluster_ranges.iter().any(|r| r.family() == Family::V6) && families().contains(&Family::V6) {
        sysctl::set("net.ipv6.conf.all.forwarding", "1").map_err(ProxyError::Forwarding)?;
    }
    Ok(())
}

/// What cannot be set is said once and left: a container may not be allowed to.
fn set_limits(config: &ProxyConfig) {
    for (switch, error) in limits::set(&limits::switches(&config.kube.conntrack, limits::cores())) {
        let cause = cause(&error);
        tracing::warn!(switch = switch.name, value = switch.value, cause, "cannot set a limit of connection tracking");
    }
    if let Some(score) = config.oom_score_adj
        && let Err(error) = limits::set_oom_score(score)
    {
        tracing::debug!(%error, score, "cannot set how soon this process is ended when memory is short");
    }
}

pub(crate) fn planner_config(config: &ProxyConfig) -> Config {
    Config {
        table: config.table.clone(),
        detect_local: match &config.local_mode {
            LocalMode::ClusterCidr => DetectLocal::ClusterCidr,
            // Our Node says which; until then nobody is known.
            LocalMode::NodeCidr => DetectLocal::NodeCidr(Vec::new()),
            LocalMode::BridgeInterface(name) => DetectLocal::BridgeInterface(name.clone()),
            LocalMode::InterfacePrefix(prefix) => DetectLocal::InterfaceNamePrefix(prefix.clone()),
        },
        node_port_addresses: match &config.node_ports {
            NodePorts::All => NodePortAddresses::All,
            NodePorts::Primary => NodePortAddresses::Primary,
            NodePorts::In(ranges) => NodePortAddresses::In(ranges.clone()),
        },
        // A text that is no address was refused before.
        node_addrs: config.kube.node_address().ok().flatten().into_iter().collect(),
        masquerade: config.masquerade,
        masquerade_mark: config.masquerade_mark,
        egress: if config.cluster_ranges.is_empty() { Egress::Leave } else { config.egress },
        ..Config::new(&config.node, config.cluster_ranges.clone(), config.service_ranges.clone())
    }
}

/// Why something failed, without what.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

struct Caches {
    services: Cache<Packed<Service>>,
    slices: Cache<Packed<EndpointSlice>>,
    nodes: Cache<Node>,
}

struct Events {
    services: Subscription<Packed<Service>>,
    slices: Subscription<Packed<EndpointSlice>>,
    nodes: Subscription<Node>,
}

impl Caches {
    fn start(client: &Client, node: &str) -> Self {
        let own = format!("metadata.name={node}");
        Self {
            services: Cache::builder(client).labels(NOT_OURS).start(),
            slices: Cache::builder(client).labels(NOT_OURS).start(),
            nodes: Cache::builder(client).fields(&own).start(),
        }
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.nodes.synced().await;
    }

    fn subscribe(&self) -> Events {
        Events { services: self.services.subscribe(), slices: self.slices.subscribe(), nodes: self.nodes.subscribe() }
    }
}

/// What was noted since the last synchronisation.
#[derive(Default)]
struct Pending {
    services: usize,
    slices: usize,
    /// A full load comes.
    all: bool,
}

struct Proxy {
    local_mode: LocalMode,
    base: Config,
    caches: Caches,
    events: Events,
    /// Away only while a thread synchronises.
    backend: Option<Box<dyn Backend>>,
    /// The netlink port of our own changes.
    port: u32,
    monitor: Monitor,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    outlets: Outlets,
    backoff: Backoff,
    retry: Option<Deadline>,
    check_every: Duration,
    full_sync: Deadline,
    full_sync_every: Duration,
    /// How long a synchronisation waits for the one before.
    hold: Duration,
    synced_at: Option<Deadline>,
    pending: Pending,
    programming: Programming,
}

/// What woke the loop.
enum Woken {
    Service(Event<Packed<Service>>),
    Slice(Event<Packed<EndpointSlice>>),
    Node,
    Timer,
    Kernel(Result<Noticed, NftError>),
}

impl Proxy {
    async fn serve(&mut self) -> Result<(), ProxyError> {
        self.drain()?;
        self.sync().await?;
        loop {
            match self.wait().await {
                Woken::Service(event) => self.note_service(&event)?,
                Woken::Slice(event) => self.note_slice(&event)?,
                Woken::Node => {}
                Woken::Timer => self.check()?,
                Woken::Kernel(Ok(noticed)) => {
                    tracing::warn!(?noticed, "somebody else changed our nftables table, installing it again");
                    self.metrics.of(Family::V4).repairs.add(1);
                    self.distrust()?;
                }
                Woken::Kernel(Err(error)) => return Err(ProxyError::Nft(error)),
            }
            self.drain()?;
            if let Some(at) = self.synced_at.map(|at| at + self.hold).filter(|at| *at > Deadline::now()) {
                tokio::time::sleep_until(at).await;
                self.drain()?;
            }
            self.sync().await?;
        }
    }

    fn backend(&mut self) -> Result<&mut dyn Backend, ProxyError> {
        match &mut self.backend {
            Some(backend) => Ok(backend.as_mut()),
            None => Err(ProxyError::Lost),
        }
    }

    fn distrust(&mut self) -> Result<(), ProxyError> {
        self.pending.all = true;
        self.backend()?.distrust();
        Ok(())
    }

    async fn wait(&mut self) -> Woken {
        let glance = Deadline::now() + self.check_every;
        let at = self.retry.unwrap_or(glance).min(self.full_sync).min(glance);
        tokio::select! {
            event = self.events.services.next() => Woken::Service(event),
            event = self.events.slices.next() => Woken::Slice(event),
            _ = self.events.nodes.next() => Woken::Node,
            noticed = self.monitor.wait(self.port) => Woken::Kernel(noticed),
            () = tokio::time::sleep_until(at) => Woken::Timer,
        }
    }

    /// A timer ran out: what is due?
    fn check(&mut self) -> Result<(), ProxyError> {
        let now = Deadline::now();
        if self.full_sync <= now {
            self.full_sync = now + self.full_sync_every;
            return self.distrust();
        }
        if self.retry.is_some_and(|at| at <= now) {
            // What was refused is tried again too.
            return self.distrust();
        }
        if !self.backend()?.is_intact() {
            tracing::warn!("our nftables table is not as it was, installing it again");
            return self.distrust();
        }
        Ok(())
    }

    fn note_service(&mut self, event: &Event<Packed<Service>>) -> Result<(), ProxyError> {
        match event {
            Event::Applied { new, .. } => self.backend()?.note(Change::Service(&new.unpack())),
            Event::Deleted { old } => self.backend()?.note(Change::ServiceGone(&old.unpack_identity())),
            Event::Resync => return Ok(()),
        }
        self.pending.services += 1;
        Ok(())
    }

    fn note_slice(&mut self, event: &Event<Packed<EndpointSlice>>) -> Result<(), ProxyError> {
        match event {
            Event::Applied { new, .. } => {
                let slice = new.unpack();
                self.programming.changed(&slice);
                self.backend()?.note(Change::Slice(&slice));
            }
            Event::Deleted { old } => self.backend()?.note(Change::SliceGone(&old.unpack_identity())),
            Event::Resync => return Ok(()),
        }
        self.pending.slices += 1;
        Ok(())
    }

    /// Takes note of everything that has come, so that one transaction carries it.
    fn drain(&mut self) -> Result<(), ProxyError> {
        self.drain_objects()?;
        while self.events.nodes.try_next().is_some() {}
        self.follow_node()?;
        if self.pending.services + self.pending.slices > 0 || self.pending.all {
            self.health.queued(Instant::now());
            self.metrics.last_queued.now();
        }
        self.metrics.service_changes.add(self.pending.services);
        self.metrics.endpoint_changes.add(self.pending.slices);
        self.metrics.service_changes_pending.set(self.pending.services);
        self.metrics.endpoint_changes_pending.set(self.pending.slices);
        Ok(())
    }

    fn drain_objects(&mut self) -> Result<(), ProxyError> {
        while let Some(event) = self.events.services.try_next() {
            self.note_service(&event)?;
        }
        while let Some(event) = self.events.slices.try_next() {
            self.note_slice(&event)?;
        }
        Ok(())
    }

    /// Begins again when our Node has other addresses, ranges or another zone: endpoints were chosen by them.
    fn follow_node(&mut self) -> Result<(), ProxyError> {
        let node = self.caches.nodes.get("", &self.base.node);
        self.health.leaving(node.as_deref().is_some_and(node::is_leaving));
        let config =
            node.as_deref().map_or_else(|| self.base.clone(), |n| node::configure(&self.base, &self.local_mode, n));
        if *self.backend()?.config() != config {
            self.backend()?.reconfigure(config);
            self.outlets.clear();
            self.pending.all = true;
            // A new subscription tells everything from the beginning.
            self.events = self.caches.subscribe();
            self.drain_objects()?;
        }
        Ok(())
    }

    /// Carries out what was noted. A refusal is said and tried again later.
    async fn sync(&mut self) -> Result<(), ProxyError> {
        let pending = std::mem::take(&mut self.pending);
        if pending.services + pending.slices == 0 && !pending.all && self.retry.is_none() {
            return Ok(());
        }
        let quiet = pending.all || self.retry.is_some() || pending.services + pending.slices > QUIET_ABOVE_CHANGES;
        if quiet {
            self.monitor.pause().map_err(ProxyError::Nft)?;
        }
        if pending.all {
            self.monitor.forget().await;
        }
        let mut backend = self.backend.take().ok_or(ProxyError::Lost)?;
        let task = tokio::task::spawn_blocking(move || {
            let report = backend.sync();
            (backend, report)
        });
        let (backend, mut report) = task.await.map_err(|_panicked| ProxyError::Lost)?;
        self.backend = Some(backend);
        self.retry = None;
        self.synced_at = Some(Deadline::now());
        if quiet {
            self.monitor.resume().map_err(ProxyError::Nft)?;
            // While nobody listened somebody may have been at work: look, now that we listen again.
            if report.is_installed() && !self.backend()?.was_alone() {
                self.distrust()?;
                self.retry = Some(Deadline::now() + REPAIR_AT_MOST_EVERY);
            }
        }
        self.after(&mut report, &pending).await
    }

    async fn after(&mut self, report: &mut Report, pending: &Pending) -> Result<(), ProxyError> {
        if report.is_installed() {
            self.health.installed();
            self.metrics.last_synced.now();
            self.metrics.service_changes_pending.set(0);
            self.metrics.endpoint_changes_pending.set(0);
            self.programming.installed(&self.metrics);
        }
        if report.wants_retry() {
            let at = Deadline::now() + self.backoff.delay();
            self.retry = Some(self.retry.map_or(at, |earlier| earlier.min(at)));
        } else {
            self.backoff.reset();
        }
        self.outlets.measure(report);
        // Counting looks at every Service: not after each little change of a large cluster.
        if report.families.iter().any(|f| f.extent == Extent::Full) || pending.services + pending.slices > 0 {
            let backend = self.backend.as_deref().ok_or(ProxyError::Lost)?;
            self.outlets.count(backend, report);
        }
        let services = &self.caches.services;
        self.outlets.apply(report, |name| Some(services.get(&name.namespace, &name.name)?.unpack())).await;
        Ok(())
    }
}
