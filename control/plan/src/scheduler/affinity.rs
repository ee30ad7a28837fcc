//! NodeAffinity: nodeSelector, required and preferred node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::{Cluster, Filter, NodeInfo, Scale, Score, Waiting};
use crate::controllers::labels;

pub(super) struct NodeAffinity;

/// Whether nodeSelector and the required terms allow the node. `labels` are the node's.
pub(crate) fn allows(pod: &Pod, name: &str, node_labels: Option<&labels::Labels>) -> bool {
    let Some(spec) = &pod.spec else { return true };
    if !spec.node_selector.as_ref().is_none_or(|s| labels::contains(s, node_labels)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    match affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) {
        Some(required) => required.node_selector_terms.iter().any(|t| term_matches(t, name, node_labels)),
        None => true,
    }
}

/// Terms without requirements match nothing.
fn term_matches(term: &NodeSelectorTerm, name: &str, node_labels: Option<&labels::Labels>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| node_labels.and_then(|l| l.get(key)).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(name);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| requirement_matches(r, label(&r.key)))
        && fields.iter().all(|r| requirement_matches(r, field(&r.key)))
}

fn requirement_matches(r: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|f| values.iter().any(|v| v == f));
    let ordering = || Some(found?.parse::<i64>().ok()?.cmp(&values.first()?.parse::<i64>().ok()?));
    match r.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => ordering() == Some(std::cmp::Ordering::Greater),
        "Lt" => ordering() == Some(std::cmp::Ordering::Less),
        _ => false,
    }
}

impl Filter for NodeAffinity {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> Result<(), String> {
        if allows(pod.pod, node.name, node.labels()) {
            return Ok(());
        }
        Err("node(s) didn't match Pod's node affinity/selector".to_owned())
    }
}

impl Score for NodeAffinity {
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> i64 {
        let affinity = pod.pod.spec.as_ref().and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref());
        let preferred = affinity.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter());
        let matching = preferred.flatten().filter(|p| term_matches(&p.preference, node.name, node.labels()));
        matching.map(|p| i64::from(p.weight)).sum()
    }
    fn weight(&self) -> i64 {
        2
    }
    fn scale(&self) -> Scale {
        Scale::MoreIsBetter
    }
}
