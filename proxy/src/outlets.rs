//! Where a synchronisation's report goes: health checks and loopback node ports to serve, metrics, the log, events. Says
//! each thing once. Decides nothing about rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use pintle_client::Client;
use pintle_nft::{Cidr, Family};
use pintle_proxy_plan::{HealthCheck, Problem, ServiceName};

use crate::backend::{Backend, Extent, FamilyReport, Report};
use crate::config::ProxyConfig;
use crate::events::Events;
use crate::health::Health;
use crate::health_checks::{self, HealthChecks};
use crate::kube_config::NodePorts;
use crate::local_ports::LocalPorts;
use crate::metrics::Metrics;
use crate::run::cause;

/// Things remembered as said; beyond it they may be said again.
const SAID_MAX: usize = 10_000;
/// Above this many Services they are counted only after a full load.
const COUNTED_EACH_TIME_MAX: usize = 1_000;

/// See the module's description.
pub struct Outlets {
    node: String,
    metrics: Arc<Metrics>,
    events: Events,
    checks: HealthChecks,
    wanted_checks: BTreeMap<ServiceName, HealthCheck>,
    local_ports: Option<LocalPorts>,
    refused_ports: BTreeSet<u16>,
    said: BTreeSet<String>,
}

impl Outlets {
    /// Nothing is served or said yet.
    pub fn new(config: &ProxyConfig, client: &Client, health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        let local_ports = serves_loopback(config).then(LocalPorts::new);
        local_ports.iter().for_each(|ports| metrics.forwards(ports.counters()));
        Self {
            node: config.node.clone(),
            metrics,
            events: Events::start(client),
            checks: HealthChecks::new(health, any_addr()),
            wanted_checks: BTreeMap::new(),
            local_ports,
            refused_ports: BTreeSet::new(),
            said: BTreeSet::new(),
        }
    }

    /// Everything will be told anew.
    pub fn clear(&mut self) {
        self.wanted_checks.clear();
        if let Some(ports) = &mut self.local_ports {
            ports.clear();
        }
    }

    /// Counts what the report says.
    pub fn measure(&self, report: &Report) {
        for done in &report.families {
            let numbers = self.metrics.of(done.family);
            match done.extent {
                Extent::Nothing => {}
                Extent::Full => numbers.sync_full.observe(done.took),
                Extent::Incremental => numbers.sync_partial.observe(done.took),
            }
            if done.extent != Extent::Nothing {
                numbers.sync.observe(done.took);
            }
            numbers.longest_batch_us.raise(usize::try_from(done.longest.as_micros()).unwrap_or(usize::MAX));
            numbers.refused_services.set(done.refused.len());
            numbers.failures.add(usize::from(done.outcome.is_err()));
            numbers.flows_deleted.add(*done.flows.as_ref().unwrap_or(&0));
        }
    }

    /// Counts what is served.
    pub fn count(&self, backend: &dyn Backend, report: &Report) {
        let few = self.metrics.of(Family::V4).services.get() < i64::try_from(COUNTED_EACH_TIME_MAX).unwrap_or(0);
        for done in report.families.iter().filter(|f| few || f.extent == Extent::Full) {
            let (counts, numbers) = (backend.counts(done.family), self.metrics.of(done.family));
            numbers.services.set(counts.services);
            numbers.no_local_internal.set(counts.no_local_internal);
            numbers.no_local_external.set(counts.no_local_external);
        }
    }

    /// Serves what is to be served now, and says what is wrong.
    pub async fn apply(&mut self, report: &mut Report, find: impl Fn(&ServiceName) -> Option<Service>) {
        report.families.iter().for_each(|done| self.say_done(done, &find));
        for issue in &report.issues {
            if self.said_first(issue.to_string()) {
                tracing::warn!("{issue}");
                self.metrics.of(Family::V4).invalid.add(1);
                self.event(&issue.service, reason(&issue.problem), issue.to_string(), &find);
            }
        }
        if !report.health.is_empty() {
            self.serve_checks(report, &find).await;
        }
        self.serve_loopback(report).await;
    }

    async fn serve_checks(&mut self, report: &mut Report, find: &impl Fn(&ServiceName) -> Option<Service>) {
        for (name, check) in std::mem::take(&mut report.health) {
            match check {
                Some(check) => drop(self.wanted_checks.insert(name, check)),
                None => drop(self.wanted_checks.remove(&name)),
            }
        }
        let check = |name: &ServiceName, check: &HealthCheck| health_checks::HealthCheck {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            local_endpoints: check.local_ready,
        };
        let wanted = self.wanted_checks.iter().map(|(name, c)| (c.port, check(name, c))).collect();
        for refused in self.checks.sync(&wanted).await {
            let service = ServiceName { namespace: refused.check.namespace, name: refused.check.name };
            let note =
                format!("service {service}: cannot answer health checks on port {}: {}", refused.port, refused.source);
            if self.said_first(note.clone()) {
                tracing::warn!("{note}");
                self.event(&service, "FailedToStartServiceHealthcheck", note, find);
            }
        }
    }

    async fn serve_loopback(&mut self, report: &Report) {
        let Some(ports) = &mut self.local_ports else { return };
        if report.loopback.is_empty() {
            return;
        }
        let refused = ports.apply(&report.loopback).await;
        self.metrics.local_ports.set(ports.len());
        self.refused_ports.retain(|port| !report.loopback.keys().any(|(_, p)| p == port));
        self.refused_ports.extend(refused.iter().map(|r| r.port));
        self.metrics.local_ports_refused.set(self.refused_ports.len());
        // A thousand ports for the same reason are one sentence.
        if let Some(first) = refused.first() {
            let note =
                format!("node port {}/{} does not answer on loopback: {}", first.port, first.proto.name(), first.why);
            if self.said_first(first.why.clone()) {
                tracing::warn!(ports = refused.len(), "{note}");
            }
        }
    }

    fn say_done(&mut self, done: &FamilyReport, find: &impl Fn(&ServiceName) -> Option<Service>) {
        let (took_us, longest_us) = (done.took.as_micros(), done.longest.as_micros());
        match &done.outcome {
            Ok(()) => {
                tracing::debug!(family = ?done.family, extent = ?done.extent, ops = done.ops, took_us, longest_us, "rules installed");
            }
            Err(error) => {
                let (cause, hint) = (cause(error), error.hint());
                tracing::error!(%error, cause, hint, family = ?done.family, "cannot install the Services' rules, trying again");
            }
        }
        if let Err(error) = &done.flows {
            let cause = cause(error);
            tracing::warn!(%error, cause, "UDP clients may go on speaking to endpoints that are gone");
        }
        for (service, why) in &done.refused {
            let note = format!("service {service} is left out, in whole or in part: {why}");
            if self.said_first(note.clone()) {
                tracing::error!("{note}");
                self.event(service, "RulesRefused", note, find);
            }
        }
    }

    fn event(&self, name: &ServiceName, reason: &str, note: String, find: &impl Fn(&ServiceName) -> Option<Service>) {
        if let Some(service) = find(name) {
            self.events.warn(&self.node, &service, reason, note);
        }
    }

    fn said_first(&mut self, text: String) -> bool {
        if self.said.len() > SAID_MAX {
            self.said.clear();
        }
        self.said.insert(text)
    }
}

fn reason(problem: &Problem) -> &'static str {
    match problem {
        Problem::BadAddress { .. } => "InvalidAddress",
        Problem::BadRange { .. } => "InvalidSourceRange",
        Problem::BadPort { .. } => "InvalidPort",
        Problem::BadEndpoint { .. } => "InvalidEndpoint",
        Problem::Taken { .. } => "AddressInUse",
    }
}

/// One socket for both families where the machine has IPv6.
fn any_addr() -> Vec<IpAddr> {
    let v6 = std::path::Path::new("/proc/net/if_inet6").exists();
    vec![if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }]
}

/// Whether node ports answer on loopback addresses.
pub fn serves_loopback(config: &ProxyConfig) -> bool {
    let has = |ranges: &[Cidr]| ranges.iter().any(|r| r.contains(Ipv4Addr::LOCALHOST.into()));
    config.localhost_node_ports
        && match &config.node_ports {
            NodePorts::All => true,
            NodePorts::Primary => false,
            NodePorts::In(ranges) => has(ranges),
        }
}
