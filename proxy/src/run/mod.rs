//! Runs the proxy: chooses a mode, begins what it needs, and enters its loop.

mod proxy;
mod sync;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pintle_client::{Backoff, Client};
use pintle_net::sysctl;
use pintle_nft::Family;
use pintle_proxy_plan::Config;
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use crate::config::{ProxyConfig, ProxyError};
use crate::connect_time;
use crate::health::Health;
use crate::limits;
use crate::metrics::Metrics;
use crate::mode::{self, Started};
use crate::outlets::{self, Outlets};
use crate::planner_config::planner_config;
use crate::programming::Programming;
use crate::servers;
use proxy::{Pending, Proxy};
use watched::Caches;

/// Everything is installed anew every `configSyncPeriod`, whatever we believe, but no more often than this.
const FULL_SYNC_AT_MOST_EVERY: Duration = Duration::from_secs(60);

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
    // Before the node ports on loopback: where the mode forwards itself, they are among what it does.
    backend.forwarding().into_iter().for_each(|counters| metrics.forwards(counters));
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
        settle: None,
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

/// Sets what needs more rights than serving does, kernel switches and limits, and no more: what `--init-only` is for.
///
/// # Errors
/// When no mode works here, or packets cannot be forwarded. Limits that cannot be set are said.
pub fn initialise(config: &ProxyConfig) -> Result<(), ProxyError> {
    let chosen = mode::choose(&config.kube.mode, mode::MODES, |mode| planner_config(config, mode.name()))?;
    enable_forwarding(&planner_config(config, chosen.mode.name()))?;
    set_limits(config, chosen.mode.tracks_connections());
    Ok(())
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

/// Why something failed, without what.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
