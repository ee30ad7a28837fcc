//! The proxy's loop: collects changes, lets the engine plan and commit them, watches for foreign hands on our table.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Backoff, Cache, Change as Event, Client, Subscription};
use pintle_net::nfnetlink::monitor::{Monitor, Noticed};
use pintle_net::nfnetlink::{Nft, NftError};
use pintle_net::sysctl;
use pintle_nft::{Family, TableId, diff};
use pintle_proxy_plan::{Change, Config, Issue, NodePortAddresses, base};
use tokio_util::sync::CancellationToken;

use crate::config::{ProxyConfig, ProxyError};
use crate::engine::{Done, Engine, Extent, Work};
use crate::health::Health;
use crate::kube_config::NodePorts;
use crate::limits;
use crate::metrics::Metrics;
use crate::node;
use crate::servers;

/// Above this many operations we do not listen to the kernel's notifications of our own transaction.
const QUIET_ABOVE_OPS: usize = 500;
/// Issues remembered as said; beyond it they may be said again.
const SAID_MAX: usize = 10_000;

/// Runs the proxy until cancelled. The rules stay when it ends, so that a restart interrupts nothing; see [`cleanup`].
///
/// # Errors
/// When the kernel or the health port cannot be used at all. What may pass is said and tried again.
pub async fn run(config: ProxyConfig, client: Client, cancel: CancellationToken) -> Result<(), ProxyError> {
    sysctl::enable_forwarding().map_err(ProxyError::Forwarding)?;
    let planner_config = planner_config(&config);
    let engine = Engine::new(planner_config.clone()).map_err(ProxyError::Nft)?;
    let monitor = Monitor::open(vec![base::table_id(&planner_config)]).map_err(ProxyError::Nft)?;
    set_limits(&config);
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    // Ends the health server too when this function ends for another reason.
    let cancel = cancel.child_token();
    let _guard = cancel.clone().drop_guard();
    servers::start(&config, &health, &metrics, &cancel).await?;
    let caches = Caches::start(&client, &config.node);
    health.queued(Instant::now());
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        () = caches.synced() => {}
    }
    let mut proxy = Proxy {
        base: planner_config,
        events: caches.subscribe(),
        caches,
        engine: Some(engine),
        monitor,
        health,
        metrics,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
        retry: None,
        said: BTreeSet::new(),
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
    let tables = [Family::V4, Family::V6].map(|family| TableId { family, name: table.into() });
    let mut nft = Nft::open().map_err(ProxyError::Nft)?;
    nft.commit(&diff::remove(&tables)).map_err(ProxyError::Nft)
}

/// What cannot be set is said once and left: a container may not be allowed to.
fn set_limits(config: &ProxyConfig) {
    for (switch, error) in limits::set(&limits::switches(&config.kube.conntrack, limits::cores())) {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(switch = switch.name, value = switch.value, cause, "cannot set a limit of connection tracking");
    }
    if let Some(score) = config.oom_score_adj
        && let Err(error) = limits::set_oom_score(score)
    {
        tracing::debug!(%error, score, "cannot set how soon this process is ended when memory is short");
    }
}

fn planner_config(config: &ProxyConfig) -> Config {
    Config {
        table: config.table.clone(),
        node_port_addresses: match &config.node_ports {
            NodePorts::In(ranges) => NodePortAddresses::In(ranges.clone()),
            NodePorts::All | NodePorts::Primary => NodePortAddresses::All,
        },
        masquerade: config.masquerade,
        egress: config.egress,
        ..Config::new(&config.node, config.cluster_ranges.clone(), config.service_ranges.clone())
    }
}

struct Caches {
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    nodes: Cache<Node>,
}

struct Events {
    services: Subscription<Service>,
    slices: Subscription<EndpointSlice>,
    nodes: Subscription<Node>,
}

impl Caches {
    fn start(client: &Client, node: &str) -> Self {
        let own = format!("metadata.name={node}");
        Self {
            services: Cache::builder(client).trim(trim_service).start(),
            slices: Cache::builder(client).trim(trim_slice).start(),
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

struct Proxy {
    base: Config,
    caches: Caches,
    events: Events,
    /// Away only while a thread commits.
    engine: Option<Engine>,
    monitor: Monitor,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    backoff: Backoff,
    retry: Option<tokio::time::Instant>,
    said: BTreeSet<Issue>,
}

/// What woke the loop.
enum Woken {
    Changes,
    Retry,
    Kernel(Result<Noticed, NftError>),
}

impl Proxy {
    async fn serve(&mut self) -> Result<(), ProxyError> {
        self.drain()?;
        self.sync().await?;
        loop {
            match self.wait().await? {
                Woken::Changes => {
                    self.health.queued(Instant::now());
                    self.metrics.last_queued.now();
                }
                Woken::Retry => {}
                Woken::Kernel(Ok(noticed)) => {
                    self.metrics.of(Family::V4).repairs.add(1);
                    tracing::warn!(?noticed, "somebody else changed our nftables table, pushing it again");
                    self.engine()?.distrust();
                }
                Woken::Kernel(Err(error)) => return Err(ProxyError::Nft(error)),
            }
            self.drain()?;
            self.sync().await?;
        }
    }

    fn engine(&mut self) -> Result<&mut Engine, ProxyError> {
        self.engine.as_mut().ok_or(ProxyError::Lost)
    }

    async fn wait(&mut self) -> Result<Woken, ProxyError> {
        let engine = self.engine.as_mut().ok_or(ProxyError::Lost)?;
        let (at, port) = (self.retry, engine.port());
        let retry = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            event = self.events.services.next() => { note_service(engine, &event); Woken::Changes }
            event = self.events.slices.next() => { note_slice(engine, &event); Woken::Changes }
            _ = self.events.nodes.next() => Woken::Changes,
            noticed = self.monitor.wait(port) => Woken::Kernel(noticed),
            () = retry => Woken::Retry,
        };
        Ok(woken)
    }

    /// Takes note of everything that has come, so that one transaction carries it.
    fn drain(&mut self) -> Result<(), ProxyError> {
        let engine = self.engine.as_mut().ok_or(ProxyError::Lost)?;
        while let Some(event) = self.events.services.try_next() {
            note_service(engine, &event);
        }
        while let Some(event) = self.events.slices.try_next() {
            note_slice(engine, &event);
        }
        while self.events.nodes.try_next().is_some() {}
        self.follow_node()
    }

    /// Begins again when our Node has other addresses or another zone: endpoints were chosen by them.
    fn follow_node(&mut self) -> Result<(), ProxyError> {
        let node = self.caches.nodes.get("", &self.base.node);
        self.health.leaving(node.as_deref().is_some_and(node::is_leaving));
        let config = node.as_deref().map_or_else(|| self.base.clone(), |n| node::configure(&self.base, n));
        let engine = self.engine.as_mut().ok_or(ProxyError::Lost)?;
        if *engine.config() != config {
            engine.reconfigure(config);
            // A new subscription tells everything from the beginning.
            self.events = self.caches.subscribe();
            while let Some(event) = self.events.services.try_next() {
                note_service(engine, &event);
            }
            while let Some(event) = self.events.slices.try_next() {
                note_slice(engine, &event);
            }
        }
        Ok(())
    }

    /// Plans and commits what was noted. A refusal is said and tried again later, in full.
    async fn sync(&mut self) -> Result<(), ProxyError> {
        let work = self.engine()?.work();
        self.say(&work.issues);
        self.retry = None;
        if work.transaction.is_empty() && work.extent == Extent::Incremental {
            self.installed();
            return Ok(());
        }
        let (ops, extent) = (work.transaction.len(), work.extent);
        match self.commit(work).await? {
            Ok(done) => {
                let (services, took_us) = (self.engine()?.service_count(), done.took.as_micros());
                match &done.flows {
                    Ok(flows) => tracing::debug!(?extent, ops, services, took_us, flows, "rules installed"),
                    Err(error) => {
                        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                        tracing::warn!(%error, cause, "UDP clients may go on speaking to endpoints that are gone");
                    }
                }
                self.measure(extent, &done);
                self.backoff.reset();
                self.installed();
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, hint = error.hint(), "cannot install the Services' rules, trying again");
                self.metrics.of(Family::V4).failures.add(1);
                self.retry = Some(tokio::time::Instant::now() + self.backoff.delay());
            }
        }
        Ok(())
    }

    fn installed(&mut self) {
        self.health.installed();
        self.metrics.last_synced.now();
        self.metrics.service_changes_pending.set(0);
        self.metrics.endpoint_changes_pending.set(0);
    }

    fn measure(&self, extent: Extent, done: &Done) {
        let numbers = self.metrics.of(Family::V4);
        numbers.sync.observe(done.took);
        match extent {
            Extent::Full => numbers.sync_full.observe(done.took),
            Extent::Incremental => numbers.sync_partial.observe(done.took),
        }
        numbers.flows_deleted.add(*done.flows.as_ref().unwrap_or(&0));
    }

    /// Commits on a thread that may block. Around a large transaction nobody listens, so the generation number tells
    /// whether somebody else was at work meanwhile.
    async fn commit(&mut self, work: Work) -> Result<Result<Done, NftError>, ProxyError> {
        let mut engine = self.engine.take().ok_or(ProxyError::Lost)?;
        let quiet = work.transaction.len() > QUIET_ABOVE_OPS;
        if quiet {
            self.monitor.pause().map_err(ProxyError::Nft)?;
        }
        let task = tokio::task::spawn_blocking(move || {
            let before = engine.state();
            let done = engine.commit(&work);
            (engine, before, done, u32::try_from(work.transaction.batches.len()).unwrap_or(u32::MAX))
        });
        let (mut engine, before, done, batches) = task.await.map_err(|_panicked| ProxyError::Lost)?;
        if quiet {
            self.monitor.resume().map_err(ProxyError::Nft)?;
            let alone = match (before, engine.state()) {
                (Ok((before, _)), Ok((after, there))) => there && after.wrapping_sub(before) <= batches,
                _ => false,
            };
            if done.is_ok() && !alone {
                engine.distrust();
                self.retry = Some(tokio::time::Instant::now() + self.backoff.delay());
            }
        }
        self.engine = Some(engine);
        Ok(done)
    }

    fn say(&mut self, issues: &[Issue]) {
        if self.said.len() > SAID_MAX {
            self.said.clear();
        }
        for issue in issues {
            if self.said.insert(issue.clone()) {
                self.metrics.of(Family::V4).invalid.add(1);
                tracing::warn!("{issue}");
            }
        }
    }
}

fn note_service(engine: &mut Engine, event: &Event<Service>) {
    match event {
        Event::Applied { new, .. } => engine.note(Change::Service(new)),
        Event::Deleted { old } => engine.note(Change::ServiceGone(old)),
        Event::Resync => {}
    }
}

fn note_slice(engine: &mut Engine, event: &Event<EndpointSlice>) {
    match event {
        Event::Applied { new, .. } => engine.note(Change::Slice(new)),
        Event::Deleted { old } => engine.note(Change::SliceGone(old)),
        Event::Resync => {}
    }
}

/// The proxy reads no annotations and no selectors.
fn trim_service(service: &mut Service) {
    service.metadata.annotations = None;
    service.metadata.owner_references = None;
    if let Some(spec) = &mut service.spec {
        spec.selector = None;
    }
}

fn trim_slice(slice: &mut EndpointSlice) {
    slice.metadata.annotations = None;
    slice.metadata.owner_references = None;
    for endpoint in slice.endpoints.iter_mut().flatten() {
        endpoint.target_ref = None;
        endpoint.hostname = None;
        endpoint.deprecated_topology = None;
    }
}
