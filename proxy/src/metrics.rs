//! What the proxy counts, under kube-proxy's names, and its rendering in Prometheus' text format. Plain numbers;
//! nothing here decides or serves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pintle_nft::Family;

/// kube-proxy's buckets for synchronisation: a millisecond, doubled fourteen times.
const SYNC_BUCKETS_S: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// From a change of an endpoint to its rule; finer below than kube-proxy's, whose first bucket is a quarter second.
const PROGRAMMING_BUCKETS_S: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// A count or a level.
#[derive(Debug, Default)]
pub struct Number(AtomicI64);

impl Number {
    /// One more.
    pub fn add(&self, by: usize) {
        self.0.fetch_add(i64::try_from(by).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// This many now.
    pub fn set(&self, to: usize) {
        self.0.store(i64::try_from(to).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// This many, if it is more than ever.
    pub fn raise(&self, to: usize) {
        self.0.fetch_max(i64::try_from(to).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A moment, in seconds since the epoch.
#[derive(Debug, Default)]
pub struct Moment(AtomicU64);

impl Moment {
    /// Now.
    pub fn now(&self) {
        let now = jiff::Timestamp::now().as_millisecond();
        self.0.store(u64::try_from(now).unwrap_or(0), Ordering::Relaxed);
    }
}

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    bounds_s: &'static [f64],
    /// One for each bound, and one beyond.
    counts: Vec<AtomicU64>,
    sum_us: AtomicU64,
}

impl Histogram {
    fn new(bounds_s: &'static [f64]) -> Self {
        let counts = (0..=bounds_s.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_s, counts, sum_us: AtomicU64::new(0) }
    }

    /// It took this long once more.
    pub fn observe(&self, took: Duration) {
        let at = self.bounds_s.partition_point(|bound| *bound < took.as_secs_f64());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (at, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = self.bounds_s.get(at).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            line(out, &format!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}}"), total);
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        line(out, &format!("{name}_sum{braces}"), sum);
        line(out, &format!("{name}_count{braces}"), total);
    }
}

/// What is counted for each address family.
#[derive(Debug)]
pub struct FamilyMetrics {
    /// Every synchronisation.
    pub sync: Histogram,
    /// Those that sent everything.
    pub sync_full: Histogram,
    /// Those that sent what changed.
    pub sync_partial: Histogram,
    /// From the change of an endpoint, as its slice says, to its rule.
    pub programming: Histogram,
    /// Transactions the kernel refused.
    pub failures: Number,
    /// Services left out because the kernel refuses them.
    pub refused_services: Number,
    /// Things wrong with Services and endpoints, found so far.
    pub invalid: Number,
    /// Stale UDP flows deleted.
    pub flows_deleted: Number,
    /// Ports with internalTrafficPolicy Local and no local endpoint.
    pub no_local_internal: Number,
    /// Ports with externalTrafficPolicy Local and no local endpoint.
    pub no_local_external: Number,
    /// Services known.
    pub services: Number,
    /// Times somebody else changed our table.
    pub repairs: Number,
    /// Longest batch so far, in microseconds.
    pub longest_batch_us: Number,
}

impl FamilyMetrics {
    fn new() -> Self {
        let sync = || Histogram::new(SYNC_BUCKETS_S);
        Self {
            sync: sync(),
            sync_full: sync(),
            sync_partial: sync(),
            programming: Histogram::new(PROGRAMMING_BUCKETS_S),
            failures: Number::default(),
            refused_services: Number::default(),
            invalid: Number::default(),
            flows_deleted: Number::default(),
            no_local_internal: Number::default(),
            no_local_external: Number::default(),
            services: Number::default(),
            repairs: Number::default(),
            longest_batch_us: Number::default(),
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    mode: &'static str,
    v4: FamilyMetrics,
    v6: FamilyMetrics,
    /// When something was last told us that needs a synchronisation.
    pub last_queued: Moment,
    /// When everything was last in the kernel.
    pub last_synced: Moment,
    /// Changes of Services seen.
    pub service_changes: Number,
    /// Changes of endpoints seen.
    pub endpoint_changes: Number,
    /// Of these, not in the kernel yet.
    pub service_changes_pending: Number,
    /// Of these, not in the kernel yet.
    pub endpoint_changes_pending: Number,
    /// Node ports served on loopback addresses.
    pub local_ports: Number,
    /// Node ports that could not be served there.
    pub local_ports_refused: Number,
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Metrics {
    /// Of a proxy in a mode that has done nothing yet.
    pub fn new(mode: &'static str) -> Self {
        Self {
            mode,
            v4: FamilyMetrics::new(),
            v6: FamilyMetrics::new(),
            last_queued: Moment::default(),
            last_synced: Moment::default(),
            service_changes: Number::default(),
            endpoint_changes: Number::default(),
            service_changes_pending: Number::default(),
            endpoint_changes_pending: Number::default(),
            local_ports: Number::default(),
            local_ports_refused: Number::default(),
            answers: Mutex::default(),
        }
    }

    /// The mode.
    pub fn mode(&self) -> &'static str {
        self.mode
    }
}

/// The numbers that are kept per family: name, kind, help, where.
type PerFamily<'a> = (&'a str, &'a str, &'a str, fn(&FamilyMetrics) -> &Number);
/// The same for durations.
type Durations<'a> = (&'a str, &'a str, fn(&FamilyMetrics) -> &Histogram);

const DURATIONS: [Durations<'static>; 4] = [
    ("kubeproxy_sync_proxy_rules_duration_seconds", "Duration of a synchronisation", |f| &f.sync),
    ("kubeproxy_sync_full_proxy_rules_duration_seconds", "Duration of a full synchronisation", |f| &f.sync_full),
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "Duration of an incremental one", |f| &f.sync_partial),
    ("kubeproxy_network_programming_duration_seconds", "From a change of endpoints to its rules", |f| &f.programming),
];

const PER_FAMILY: [PerFamily<'static>; 6] = [
    ("pintle_proxy_refused_services", "gauge", "Services left out because the kernel refuses them", |f| {
        &f.refused_services
    }),
    ("pintle_proxy_invalid_objects_total", "counter", "Things found wrong with Services and endpoints", |f| &f.invalid),
    (
        "kubeproxy_conntrack_reconciler_deleted_entries_total",
        "counter",
        "UDP flows deleted because their server left",
        |f| &f.flows_deleted,
    ),
    ("pintle_proxy_services", "gauge", "Services known", |f| &f.services),
    ("pintle_proxy_repairs_total", "counter", "Times somebody else changed our table", |f| &f.repairs),
    ("pintle_proxy_longest_transaction_microseconds", "gauge", "Longest kernel transaction so far", |f| {
        &f.longest_batch_us
    }),
];

impl Metrics {
    /// Those of a family.
    pub fn of(&self, family: Family) -> &FamilyMetrics {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// `/healthz` or `/livez` was answered.
    pub fn answered(&self, path: &'static str, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((path, status)).or_default() += 1;
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        let families = [("IPv4", &self.v4), ("IPv6", &self.v6)];
        for (name, help, of) in DURATIONS {
            head(&mut out, name, "histogram", help);
            for (family, numbers) in families {
                of(numbers).write(&mut out, name, &format!("ip_family=\"{family}\""));
            }
        }
        // kube-proxy has a name for each mode.
        let failures = match self.mode {
            "iptables" => "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
            "nftables" => "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
            _ => "pintle_proxy_sync_failures_total",
        };
        let failures: PerFamily<'_> = (failures, "counter", "Synchronisations that failed", |f| &f.failures);
        for (name, kind, help, of) in [failures].into_iter().chain(PER_FAMILY) {
            head(&mut out, name, kind, help);
            for (family, numbers) in families {
                line(&mut out, &format!("{name}{{ip_family=\"{family}\"}}"), of(numbers).get());
            }
        }
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints";
        head(&mut out, name, "gauge", "Service ports with policy Local and no endpoint on this node");
        for (family, numbers) in families {
            for (policy, number) in [("internal", &numbers.no_local_internal), ("external", &numbers.no_local_external)]
            {
                line(&mut out, &format!("{name}{{ip_family=\"{family}\",traffic_policy=\"{policy}\"}}"), number.get());
            }
        }
        self.render_singles(&mut out);
        self.render_answers(&mut out);
        render_process(&mut out);
        out
    }

    fn render_singles(&self, out: &mut String) {
        head(out, "pintle_proxy_mode", "gauge", "The mode in which Services are served");
        line(out, &format!("pintle_proxy_mode{{mode=\"{}\"}}", self.mode), 1);
        for (name, help, moment) in [
            ("last_queued_timestamp_seconds", "When a synchronisation was last asked for", &self.last_queued),
            ("last_timestamp_seconds", "When everything was last in the kernel", &self.last_synced),
        ] {
            let name = format!("kubeproxy_sync_proxy_rules_{name}");
            head(out, &name, "gauge", help);
            line(out, &name, Duration::from_millis(moment.0.load(Ordering::Relaxed)).as_secs_f64());
        }
        for (name, kind, help, number) in [
            (
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "counter",
                "Changes of Services",
                &self.service_changes,
            ),
            (
                "kubeproxy_sync_proxy_rules_service_changes_pending",
                "gauge",
                "Of these, not in the kernel yet",
                &self.service_changes_pending,
            ),
            (
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "counter",
                "Changes of endpoints",
                &self.endpoint_changes,
            ),
            (
                "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
                "gauge",
                "Of these, not in the kernel yet",
                &self.endpoint_changes_pending,
            ),
            ("pintle_proxy_localhost_node_ports", "gauge", "Node ports served on loopback", &self.local_ports),
            (
                "pintle_proxy_localhost_node_ports_refused",
                "gauge",
                "Node ports that cannot be served on loopback",
                &self.local_ports_refused,
            ),
        ] {
            head(out, name, kind, help);
            line(out, name, number.get());
        }
    }

    fn render_answers(&self, out: &mut String) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for path in ["healthz", "livez"] {
            let name = format!("kubeproxy_proxy_{path}_total");
            head(out, &name, "counter", "Answers by status");
            for ((_, status), count) in answers.iter().filter(|((p, _), _)| *p == path) {
                line(out, &format!("{name}{{code=\"{status}\"}}"), count);
            }
        }
    }
}

/// What every Go program says of itself, as far as it means something here.
fn render_process(out: &mut String) {
    let page = 4096;
    let resident = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = resident.and_then(|t| t.split_whitespace().nth(1)?.parse::<u64>().ok());
    head(out, "process_resident_memory_bytes", "gauge", "Resident memory");
    line(out, "process_resident_memory_bytes", resident.unwrap_or(0) * page);
    head(out, "kubernetes_build_info", "gauge", "Version");
    let version = env!("CARGO_PKG_VERSION");
    line(out, &format!("kubernetes_build_info{{git_version=\"pintle {version}\"}}"), 1);
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_cumulative_and_labelled() {
        let metrics = Metrics::new("nftables");
        for ms in [1, 3, 40_000] {
            metrics.of(Family::V4).sync.observe(Duration::from_millis(ms));
        }
        metrics.answered("healthz", 503);
        let text = metrics.render();
        let name = "kubeproxy_sync_proxy_rules_duration_seconds";
        for line in [
            format!("{name}_bucket{{ip_family=\"IPv4\",le=\"0.001\"}} 1"),
            format!("{name}_bucket{{ip_family=\"IPv4\",le=\"0.004\"}} 2"),
            format!("{name}_bucket{{ip_family=\"IPv4\",le=\"16.384\"}} 2"),
            format!("{name}_bucket{{ip_family=\"IPv4\",le=\"+Inf\"}} 3"),
            format!("{name}_sum{{ip_family=\"IPv4\"}} 40.004"),
            format!("{name}_count{{ip_family=\"IPv6\"}} 0"),
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from:\n{text}");
        }
    }

    #[test]
    fn every_line_is_what_prometheus_reads() {
        let text = Metrics::new("nftables").render();
        let mut typed = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(typed.insert(rest.split(' ').next().unwrap_or_default().to_owned()), "twice: {line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap_or_default();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let base = name.split('{').next().unwrap_or_default();
                let known = ["", "_bucket", "_sum", "_count"]
                    .iter()
                    .any(|s| base.strip_suffix(s).is_some_and(|b| typed.contains(b)));
                assert!(known, "{line} has no type");
            }
        }
    }
}
