//! The numbers in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{FamilyMetrics, Histogram, Metrics, Number};
use crate::forward::Counters;

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
    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        self.render_durations(&mut out);
        self.render_families(&mut out);
        self.render_no_local(&mut out);
        self.render_singles(&mut out);
        if let Some(counters) = self.forwarding.get() {
            render_forwarding(&mut out, counters);
        }
        self.render_answers(&mut out);
        render_process(&mut out);
        out
    }

    fn families(&self) -> [(&'static str, &FamilyMetrics); 2] {
        [("IPv4", &self.v4), ("IPv6", &self.v6)]
    }

    fn render_durations(&self, out: &mut String) {
        for (name, help, of) in DURATIONS {
            head(out, name, "histogram", help);
            for (family, numbers) in self.families() {
                of(numbers).write(out, name, &format!("ip_family=\"{family}\""));
            }
        }
    }

    fn render_families(&self, out: &mut String) {
        // kube-proxy has a name for each mode.
        let failures = match self.mode {
            "iptables" => "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
            "nftables" => "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
            _ => "pintle_proxy_sync_failures_total",
        };
        let failures: PerFamily<'_> = (failures, "counter", "Synchronisations that failed", |f| &f.failures);
        for (name, kind, help, of) in [failures].into_iter().chain(PER_FAMILY) {
            head(out, name, kind, help);
            for (family, numbers) in self.families() {
                line(out, &format!("{name}{{ip_family=\"{family}\"}}"), of(numbers).get());
            }
        }
    }

    fn render_no_local(&self, out: &mut String) {
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints";
        head(out, name, "gauge", "Service ports with policy Local and no endpoint on this node");
        for (family, numbers) in self.families() {
            for (policy, number) in [("internal", &numbers.no_local_internal), ("external", &numbers.no_local_external)]
            {
                line(out, &format!("{name}{{ip_family=\"{family}\",traffic_policy=\"{policy}\"}}"), number.get());
            }
        }
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

impl Histogram {
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

/// One number of forwarding: name, kind, help, and its lines: labels, and where.
type Forwarded = (&'static str, &'static str, &'static str, &'static [(&'static str, fn(&Counters) -> &Number)]);

const FORWARDED: [Forwarded; 7] = [
    ("listeners", "gauge", "Sockets that listen for Services", &[("", |c| &c.listeners)]),
    ("connections_open", "gauge", "Connections that are forwarded now", &[("", |c| &c.connections_open)]),
    (
        "connections_total",
        "counter",
        "Connections accepted, by what became of them: still open or ended in order, reset because no server could be \
         reached, reset by an end or for an error",
        &[
            ("{outcome=\"served\"}", |c| &c.served),
            ("{outcome=\"unserved\"}", |c| &c.unserved),
            ("{outcome=\"broken\"}", |c| &c.broken),
        ],
    ),
    (
        "bytes_total",
        "counter",
        "Bytes of connections forwarded",
        &[("{direction=\"to_server\"}", |c| &c.to_server), ("{direction=\"to_client\"}", |c| &c.to_client)],
    ),
    ("flows_open", "gauge", "UDP flows there are", &[("", |c| &c.flows_open)]),
    ("flows_total", "counter", "UDP flows begun", &[("", |c| &c.flows)]),
    (
        "datagrams_total",
        "counter",
        "Datagrams taken in; those for which there was no server or no place are lost",
        &[
            ("{direction=\"to_server\"}", |c| &c.datagrams_to_server),
            ("{direction=\"to_client\"}", |c| &c.datagrams_to_client),
            ("{direction=\"lost\"}", |c| &c.datagrams_lost),
        ],
    ),
];

fn render_forwarding(out: &mut String, counters: &Counters) {
    for (name, kind, help, lines) in FORWARDED {
        let name = format!("pintle_proxy_forward_{name}");
        head(out, &name, kind, help);
        lines.iter().for_each(|(labels, of)| line(out, &format!("{name}{labels}"), of(counters).get()));
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
    use std::sync::Arc;

    use pintle_nft::Family;

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
    fn what_is_forwarded_is_counted_only_where_this_process_forwards() {
        let metrics = Metrics::new("userspace");
        assert!(!metrics.render().contains("pintle_proxy_forward_"));
        let counters = Arc::new(Counters::default());
        metrics.forwards(counters.clone());
        counters.to_client.add(7);
        let text = metrics.render();
        assert!(text.contains("pintle_proxy_forward_bytes_total{direction=\"to_client\"} 7\n"), "{text}");
        assert!(text.contains("pintle_proxy_forward_connections_open 0\n"), "{text}");
    }

    #[test]
    fn every_line_is_what_prometheus_reads() {
        let metrics = Metrics::new("nftables");
        metrics.forwards(Arc::default());
        let text = metrics.render();
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
