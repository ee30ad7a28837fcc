//! InterPodAffinity: which pods want to be near which, or far from them.

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Cluster, Filter, NodeInfo, Scale, Score, Waiting, meta};
use crate::controllers::labels;

pub(super) struct InterPod;

type Terms<'a> = &'a [PodAffinityTerm];

fn near(pod: &Pod) -> (Terms<'_>, &[WeightedPodAffinityTerm]) {
    let own = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()?.pod_affinity.as_ref());
    own.map_or((&[], &[]), |a| {
        (
            a.required_during_scheduling_ignored_during_execution.as_deref().unwrap_or_default(),
            a.preferred_during_scheduling_ignored_during_execution.as_deref().unwrap_or_default(),
        )
    })
}

fn far(pod: &Pod) -> (Terms<'_>, &[WeightedPodAffinityTerm]) {
    let own = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()?.pod_anti_affinity.as_ref());
    own.map_or((&[], &[]), |a| {
        (
            a.required_during_scheduling_ignored_during_execution.as_deref().unwrap_or_default(),
            a.preferred_during_scheduling_ignored_during_execution.as_deref().unwrap_or_default(),
        )
    })
}

/// Whether `other` is one of those that `pod`'s term speaks of.
fn speaks_of(term: &PodAffinityTerm, pod: &Pod, other: &Pod, cluster: &Cluster<'_>) -> bool {
    let namespace = meta::namespace(&other.metadata);
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let in_scope = match &term.namespace_selector {
        Some(selector) => {
            listed.iter().any(|n| n == namespace) || labels::matches(selector, cluster.namespace_labels(namespace))
        }
        None if listed.is_empty() => meta::namespace(&pod.metadata) == namespace,
        None => listed.iter().any(|n| n == namespace),
    };
    let selected = |s: &LabelSelector| labels::matches(s, other.metadata.labels.as_ref());
    in_scope && term.label_selector.as_ref().is_some_and(selected) && keys_agree(term, pod, other)
}

/// matchLabelKeys and mismatchLabelKeys.
fn keys_agree(term: &PodAffinityTerm, pod: &Pod, other: &Pod) -> bool {
    let pair = |key: &str| (meta::label(&pod.metadata, key), meta::label(&other.metadata, key));
    let same = |key: &String| matches!(pair(key), (Some(a), Some(b)) if a == b) || pair(key).0.is_none();
    let differs = |key: &String| !matches!(pair(key), (Some(a), Some(b)) if a == b);
    term.match_label_keys.iter().flatten().all(same) && term.mismatch_label_keys.iter().flatten().all(differs)
}

/// Pods in the same domain of `key` as the node.
fn neighbours<'c, 'a>(key: &str, node: &NodeInfo<'a>, cluster: &'c Cluster<'a>) -> Vec<&'c &'a Pod> {
    let Some(domain) = node.label(key).map(str::to_owned) else { return Vec::new() };
    let same = cluster.nodes.iter().filter(|n| n.label(key) == Some(domain.as_str()));
    same.flat_map(|n| n.pods.iter()).collect()
}

fn has_neighbour(term: &PodAffinityTerm, pod: &Pod, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> bool {
    neighbours(&term.topology_key, node, cluster).into_iter().any(|p| speaks_of(term, pod, p, cluster))
}

/// The first pod of a group that wants to be near itself may go anywhere.
fn is_first_of_its_kind(terms: Terms<'_>, pod: &Pod, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> bool {
    let mut all = cluster.nodes.iter().flat_map(|n| n.pods.iter());
    terms.iter().all(|t| node.label(&t.topology_key).is_some() && speaks_of(t, pod, pod, cluster))
        && !all.any(|p| terms.iter().any(|t| speaks_of(t, pod, p, cluster)))
}

/// Whether a pod that runs already forbids this one near it.
fn is_unwelcome(pod: &Pod, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> bool {
    let mut hosts = cluster.nodes.iter().flat_map(|n| n.pods.iter().map(move |p| (n, p)));
    hosts.any(|(host, other)| {
        far(other).0.iter().any(|t| {
            let here = node.label(&t.topology_key);
            here.is_some() && here == host.label(&t.topology_key) && speaks_of(t, other, pod, cluster)
        })
    })
}

impl Filter for InterPod {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> Result<(), String> {
        let (near, far) = (near(pod.pod).0, far(pod.pod).0);
        let close = near.iter().all(|t| has_neighbour(t, pod.pod, node, cluster));
        if !close && !is_first_of_its_kind(near, pod.pod, node, cluster) {
            return Err("node(s) didn't match pod affinity rules".to_owned());
        }
        if far.iter().any(|t| has_neighbour(t, pod.pod, node, cluster)) {
            return Err("node(s) didn't match pod anti-affinity rules".to_owned());
        }
        if is_unwelcome(pod.pod, node, cluster) {
            return Err("node(s) didn't satisfy existing pods anti-affinity rules".to_owned());
        }
        Ok(())
    }
}

impl Score for InterPod {
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> i64 {
        let weigh = |terms: &[WeightedPodAffinityTerm]| -> i64 {
            let of = |t: &WeightedPodAffinityTerm| {
                let term = &t.pod_affinity_term;
                let near = neighbours(&term.topology_key, node, cluster);
                let count = near.into_iter().filter(|p| speaks_of(term, pod.pod, p, cluster)).count();
                i64::from(t.weight) * i64::try_from(count).unwrap_or(0)
            };
            terms.iter().map(of).sum()
        };
        weigh(near(pod.pod).1) - weigh(far(pod.pod).1)
    }
    fn weight(&self) -> i64 {
        2
    }
    fn scale(&self) -> Scale {
        Scale::MoreIsBetter
    }
}
