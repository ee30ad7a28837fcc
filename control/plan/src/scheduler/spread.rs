//! PodTopologySpread: how unevenly pods may be distributed over zones, hosts, or whatever a label says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Cluster, Filter, NodeInfo, Scale, Score, Waiting, affinity, meta, taints};
use crate::controllers::labels;

pub(super) struct Spread;

fn constraints<'a>(pod: &'a Pod, when: &'a str) -> impl Iterator<Item = &'a TopologySpreadConstraint> {
    let all = pod.spec.iter().flat_map(|s| s.topology_spread_constraints.iter().flatten());
    all.filter(move |c| c.when_unsatisfiable == when)
}

/// The constraint's selector, narrowed by matchLabelKeys.
fn selector(c: &TopologySpreadConstraint, pod: &Pod) -> Option<LabelSelector> {
    let mut selector = c.label_selector.clone()?;
    for key in c.match_label_keys.iter().flatten() {
        if let Some(value) = meta::label(&pod.metadata, key) {
            selector.match_labels.get_or_insert_default().insert(key.clone(), value.to_owned());
        }
    }
    Some(selector)
}

fn matching(node: &NodeInfo<'_>, selector: &LabelSelector, pod: &Pod) -> i64 {
    let same = node.pods.iter().filter(|p| {
        p.metadata.namespace == pod.metadata.namespace
            && !meta::is_deleting(&p.metadata)
            && labels::matches(selector, p.metadata.labels.as_ref())
    });
    i64::try_from(same.count()).unwrap_or(i64::MAX)
}

/// Whether the node's domain counts, by nodeAffinityPolicy and nodeTaintsPolicy.
fn counts(c: &TopologySpreadConstraint, pod: &Pod, node: &NodeInfo<'_>) -> bool {
    let by_affinity = c.node_affinity_policy.as_deref().unwrap_or("Honor") == "Ignore"
        || affinity::allows(pod, node.name, node.labels());
    let hard = |t: &k8s_openapi::api::core::v1::Taint| t.effect != "PreferNoSchedule";
    let mut tainted = node.node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| hard(t));
    let by_taints = c.node_taints_policy.as_deref().unwrap_or("Ignore") == "Ignore"
        || tainted.all(|t| taints::tolerations(pod).any(|x| taints::tolerates(x, t)));
    by_affinity && by_taints
}

/// Matching pods per domain.
fn domains<'c>(c: &TopologySpreadConstraint, pod: &Pod, cluster: &'c Cluster<'_>) -> BTreeMap<&'c str, i64> {
    let mut domains = BTreeMap::new();
    let Some(selector) = selector(c, pod) else { return domains };
    for node in cluster.nodes.iter().filter(|n| counts(c, pod, n)) {
        if let Some(domain) = node.label(&c.topology_key) {
            *domains.entry(domain).or_default() += matching(node, &selector, pod);
        }
    }
    domains
}

impl Filter for Spread {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> Result<(), String> {
        for c in constraints(pod.pod, "DoNotSchedule") {
            let Some(domain) = node.label(&c.topology_key) else {
                return Err("node(s) didn't match pod topology spread constraints (missing required label)".to_owned());
            };
            let domains = domains(c, pod.pod, cluster);
            let few = i32::try_from(domains.len()).unwrap_or(i32::MAX) < c.min_domains.unwrap_or(1);
            let least = if few { 0 } else { domains.values().copied().min().unwrap_or(0) };
            let own = selector(c, pod.pod).is_some_and(|s| labels::matches(&s, pod.pod.metadata.labels.as_ref()));
            let here = domains.get(domain).copied().unwrap_or(0) + i64::from(own);
            if here - least > i64::from(c.max_skew) {
                return Err("node(s) didn't match pod topology spread constraints".to_owned());
            }
        }
        Ok(())
    }
}

impl Score for Spread {
    /// Pods of the same kind in the node's domains. Without constraints: pods of the same owner on the node.
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> i64 {
        let mut soft = constraints(pod.pod, "ScheduleAnyway").peekable();
        if soft.peek().is_none() {
            let Some(owner) = meta::controller_uid(&pod.pod.metadata) else { return 0 };
            let kin = node.pods.iter().filter(|p| meta::controller_uid(&p.metadata) == Some(owner));
            return i64::try_from(kin.count()).unwrap_or(i64::MAX);
        }
        soft.map(|c| {
            let domain = node.label(&c.topology_key);
            let crowd = domains(c, pod.pod, cluster);
            // A node outside all domains is the last resort.
            domain.map_or(i64::from(i32::MAX), |d| crowd.get(d).copied().unwrap_or(0))
        })
        .fold(0, i64::saturating_add)
    }
    fn weight(&self) -> i64 {
        2
    }
    fn scale(&self) -> Scale {
        Scale::LessIsBetter
    }
}
