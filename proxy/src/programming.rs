//! How long it takes from a change of endpoints to their rules. The endpoint controller writes on a slice when the
//! change happened that made it write; the difference to now, once the rules are in, is what users wait for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_nft::Family;

use crate::metrics::Metrics;

/// The annotation of a slice that names the moment.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Moments remembered between two synchronisations; more are not measured.
const MOMENTS_MAX: usize = 10_000;

/// Changes that are not in the kernel yet.
#[derive(Debug)]
pub struct Programming {
    since: Timestamp,
    waiting: Vec<(Family, Timestamp)>,
}

impl Default for Programming {
    fn default() -> Self {
        Self { since: Timestamp::now(), waiting: Vec::new() }
    }
}

impl Programming {
    /// Drops all annotations but the one read here.
    pub fn keep_trigger(meta: &mut ObjectMeta) {
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|name, _| name == TRIGGER);
        }
        meta.annotations = meta.annotations.take().filter(|a| !a.is_empty());
    }

    /// A slice came. What happened before this process began was not waiting for it.
    pub fn changed(&mut self, slice: &EndpointSlice) {
        let text = slice.metadata.annotations.as_ref().and_then(|a| a.get(TRIGGER));
        let Some(at) = text.and_then(|t| t.parse::<Timestamp>().ok()).filter(|at| *at >= self.since) else { return };
        if self.waiting.len() < MOMENTS_MAX {
            let family = if slice.address_type == "IPv6" { Family::V6 } else { Family::V4 };
            self.waiting.push((family, at));
        }
    }

    /// Everything that came is in the kernel.
    pub fn installed(&mut self, metrics: &Metrics) {
        let now = Timestamp::now();
        for (family, at) in self.waiting.drain(..) {
            let took = Duration::try_from(now.duration_since(at)).unwrap_or_default();
            metrics.of(family).programming.observe(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_since_the_start_is_measured() {
        let mut programming = Programming::default();
        let slice = |at: Timestamp| EndpointSlice {
            address_type: "IPv4".into(),
            metadata: ObjectMeta {
                annotations: Some([(TRIGGER.to_owned(), at.to_string()), ("other".into(), "x".into())].into()),
                ..ObjectMeta::default()
            },
            ..EndpointSlice::default()
        };
        programming.changed(&slice(Timestamp::UNIX_EPOCH));
        programming.changed(&slice(Timestamp::now()));
        programming.changed(&EndpointSlice::default());
        let metrics = Metrics::new("nftables");
        programming.installed(&metrics);
        let name = "kubeproxy_network_programming_duration_seconds_count";
        assert!(metrics.render().contains(&format!("{name}{{ip_family=\"IPv4\"}} 1")));
        let mut trimmed = slice(Timestamp::UNIX_EPOCH).metadata;
        Programming::keep_trigger(&mut trimmed);
        assert_eq!(trimmed.annotations.map(|a| a.len()), Some(1));
    }
}
