//! The proxy's loop: collects changes, lets the backend carry them out on a thread of its own, tells what it found, and
//! watches for foreign hands on our tables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Backoff, Cache, Change as Event, Client, Subscription};
use pintle_net::sysctl;
use pintle_nft::Family;
use pintle_proxy_plan::{Change, Config, DetectLocal, Egress, Invalid, Loopback, NodePortAddresses};
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BackendError, Extent, Report, Watch};
use crate::config::{ProxyConfig, ProxyError};
use crate::connect_time;
use crate::health::Health;
use crate::kube_config::{LocalMode, NodePorts};
use crate::limits;
use crate::metrics::Metrics;
use crate::mode::{self, Started};
use crate::node;
use crate::outlets::{self, Outlets};
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
    let chosen = mode::choose(&config.kube.mode, mode::MODES, |mode| planner_config(&config, mode.name()))?;
    let mode = chosen.mode.name();
    let base = planner_config(&config, mode);
    enable_forwarding(&base)?;
    set_limits(&config, chosen.mode.tracks_connections());
    let ignored = config.kube.without_effect();
    if !ignored.is_empty() {
        tracing::warn!(fields = ignored.join(", "), "the configuration says things that have no effect here");
    }
    let Started { backend, watch } =
        chosen.mode.start(&base, &chosen.families).map_err(|source| ProxyError::Mode { mode, source })?;
    let backend = connect_time::beside(backend, &config.connect_time, outlets::serves_loopback(&config))
        .map_err(ProxyError::ConnectTime)?;
    let (health, metrics) = (Arc::new(Health::new(mode)), Arc::new(Metrics::new(mode)));
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
    let rules = config.kube.rules(mode);
    let full_sync_every = config.kube.config_sync_period.0.max(FULL_SYNC_AT_MOST_EVERY);
    let mut proxy = Proxy {
        local_mode: config.local_mode.clone(),
        mode,
        check_every: rules.check_every,
        outlets: Outlets::new(&config, &client, health.clone(), metrics.clone()),
        base,
        events: caches.subscribe(),
        caches,
        backend: Some(backend),
        watch,
        remove_others: Some(Deadline::now()),
        health,
        metrics,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
        retry: None,
        full_sync: Deadline::now() + full_sync_every,
        full_sync_every,
        hold: rules.hold,
        synced_at: None,
        pending: Pending { all: true, ..Pending::default() },
        programming: Programming::default(),
    };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        end = proxy.serve() => end,
    }
}

/// Removes everything the proxy has installed, in whatever mode, in the namespace of the calling thread.
///
/// # Errors
/// When something may be left; everything was tried.
pub fn cleanup(table: &str) -> Result<(), ProxyError> {
    mode::cleanup(&Config { table: table.to_owned(), ..Config::new("", Vec::new(), Vec::new()) }, None)
}

/// IPv6 forwarding changes how a machine listens to routers: only where there are pods with such addresses.
fn enable_forwarding(config: &Config) -> Result<(), ProxyError> {
    sysctl::enable_forwarding().map_err(ProxyError::Forwarding)?;
    if config.cluster_ranges.iter().any(|r| r.family() == Family::V6) && mode::speaks_ipv6() {
        sysctl::set("net.ipv6.conf.all.forwarding", "1").map_err(ProxyError::Forwarding)?;
    }
    Ok(())
}

/// What cannot be set is said once and left: a container may not be allowed to.
fn set_limits(config: &ProxyConfig, tracks_connections: bool) {
    let tracking = tracks_connections.then(|| limits::switches(&config.kube.conntrack, limits::cores()));
    for (switch, error) in limits::set(&tracking.unwrap_or_default()) {
        let cause = cause(&error);
        tracing::warn!(switch = switch.name, value = switch.value, cause, "cannot set a limit of connection tracking");
    }
    if let Some(score) = config.oom_score_adj
        && let Err(error) = limits::set_oom_score(score)
    {
        tracing::debug!(%error, score, "cannot set how soon this process is ended when memory is short");
    }
}

/// The planner's configuration in a mode.
pub(crate) fn planner_config(config: &ProxyConfig, mode: &str) -> Config {
    let rules = config.kube.rules(mode);
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
        loopback: if config.localhost_node_ports { Loopback::Answers } else { Loopback::Silent },
        // A text that is no address was refused before.
        node_addrs: config.kube.node_address().ok().flatten().into_iter().collect(),
        masquerade: rules.masquerade,
        masquerade_mark: rules.masquerade_mark,
        invalid: if config.kube.conntrack.tcp_be_liberal { Invalid::Pass } else { Invalid::Drop },
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
    /// The name of the mode.
    mode: &'static str,
    local_mode: LocalMode,
    base: Config,
    caches: Caches,
    events: Events,
    /// Away only while a thread synchronises.
    backend: Option<Box<dyn Backend>>,
    watch: Box<dyn Watch>,
    /// From when on what other modes left is to be removed; `None` when that is done.
    remove_others: Option<Deadline>,
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
    Meddling(Result<String, BackendError>),
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
                Woken::Timer => self.check().await?,
                Woken::Meddling(noticed) => {
                    let what = noticed.map_err(self.broken())?;
                    self.repair(&what)?;
                }
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

    /// Lends the backend to a thread: its calls block.
    async fn lend<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Backend) -> T + Send + 'static,
    ) -> Result<T, ProxyError> {
        let mut backend = self.backend.take().ok_or(ProxyError::Lost)?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work(backend.as_mut());
            (backend, done)
        });
        let (backend, done) = task.await.map_err(|_panicked| ProxyError::Lost)?;
        self.backend = Some(backend);
        Ok(done)
    }

    fn broken(&self) -> impl Fn(BackendError) -> ProxyError + 'static {
        let mode = self.mode;
        move |source| ProxyError::Mode { mode, source }
    }

    /// Somebody else was at work.
    fn repair(&mut self, what: &str) -> Result<(), ProxyError> {
        tracing::warn!("somebody else changed {what}, installing everything again");
        self.metrics.of(Family::V4).repairs.add(1);
        self.distrust()
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
            noticed = self.watch.noticed() => Woken::Meddling(noticed),
            () = tokio::time::sleep_until(at) => Woken::Timer,
        }
    }

    /// A timer ran out: what is due?
    async fn check(&mut self) -> Result<(), ProxyError> {
        let now = Deadline::now();
        if self.full_sync <= now {
            self.full_sync = now + self.full_sync_every;
            return self.distrust();
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.backend()?.try_again();
        }
        if !self.lend(|backend| backend.is_intact()).await? {
            return self.repair("our rules");
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
        // In this order: who has seen a change counted sees it pending until it is installed.
        self.metrics.service_changes_pending.set(self.pending.services);
        self.metrics.service_changes.add(1);
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
        self.metrics.endpoint_changes_pending.set(self.pending.slices);
        self.metrics.endpoint_changes.add(1);
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
            self.watch.pause().map_err(self.broken())?;
        }
        if pending.all {
            self.watch.forget().await;
        }
        let mut report = self.lend(|backend| backend.sync()).await?;
        // What is refused waits for its time, whatever else changes.
        self.retry = self.retry.filter(|at| *at > Deadline::now());
        self.synced_at = Some(Deadline::now());
        if quiet {
            self.watch.resume().map_err(self.broken())?;
            // While nobody listened somebody may have been at work: look, now that we listen again.
            if report.is_installed() && !self.lend(|backend| backend.was_alone()).await? {
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
            if self.remove_others.is_some_and(|at| at <= Deadline::now()) {
                self.remove_others().await?;
            }
        }
        if report.wants_retry() {
            let waits = report.is_installed() && self.retry.is_some();
            let at = (!waits).then(|| Deadline::now() + self.backoff.delay());
            self.retry = self.retry.into_iter().chain(at).min();
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

    /// What other modes installed, before this process began, is in the way no longer than until our rules serve. What
    /// cannot be removed now is tried again with the next full synchronisation.
    async fn remove_others(&mut self) -> Result<(), ProxyError> {
        let (config, mode) = (self.base.clone(), self.mode);
        let removed = tokio::task::spawn_blocking(move || mode::cleanup(&config, Some(mode)));
        match removed.await.map_err(|_panicked| ProxyError::Lost)? {
            Ok(()) => self.remove_others = None,
            Err(error) => {
                self.remove_others = Some(self.full_sync);
                let (cause, hint) = (cause(&error), error.hint());
                tracing::warn!(%error, cause, hint, "rules of another mode may be left");
            }
        }
        Ok(())
    }
}
