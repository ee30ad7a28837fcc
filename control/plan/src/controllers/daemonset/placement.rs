//! Which nodes a DaemonSet wants, and the pod for one of them.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodTemplateSpec, Toleration,
};

use super::HASH;
use crate::controllers::common::{meta, pods, template};
use crate::scheduler::{allows, tolerates, tolerations};

/// What a node means for a DaemonSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is to have a pod.
    Run,
    /// It gets none, but one that is there may stay (a taint NoSchedule came later).
    Stay,
    /// No pod may be there.
    Leave,
}

/// Conditions of a node that a daemon lives with.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

pub(super) fn fate(ds: &DaemonSet, node: &Node) -> Fate {
    let name = meta::name(&node.metadata);
    let pod = Pod { spec: tolerant(&ds.spec.template).spec, ..Pod::default() };
    let elsewhere = pods::node(&pod).is_some_and(|n| n != name);
    if elsewhere || !allows(&pod, name, node.metadata.labels.as_ref()) {
        return Fate::Leave;
    }
    let taints = || node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let bears =
        |effect: &str| taints().filter(|t| t.effect == effect).all(|t| tolerations(&pod).any(|x| tolerates(x, t)));
    match (bears("NoExecute"), bears("NoSchedule")) {
        (true, true) => Fate::Run,
        (true, false) => Fate::Stay,
        (false, _) => Fate::Leave,
    }
}

/// The template with the tolerations of every daemon.
fn tolerant(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let spec = template.spec.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    let list = spec.tolerations.get_or_insert_default();
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !list.contains(&toleration) {
            list.push(toleration);
        }
    }
    template
}

/// The pod for one node: every required term is narrowed to the node's name.
pub(super) fn pod(ds: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = template::pod(ds, &tolerant(&ds.spec.template));
    pod.metadata.labels.get_or_insert_default().insert(HASH.to_owned(), hash.to_owned());
    let affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let node_affinity = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    let here = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let required = node_affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] });
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![here.clone()]);
    }
    pod
}

/// The node a daemon's pod is on, or was made for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if let Some(node) = pods::node(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let name = fields.find(|f| f.key == "metadata.name" && f.operator == "In")?;
    name.values.as_ref()?.first().map(String::as_str)
}
