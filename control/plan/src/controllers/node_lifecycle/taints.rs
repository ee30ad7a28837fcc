//! Conditions of a node as taints, so that the scheduler and evictions look at one thing only.

use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::json;

use super::{is_ready, ready};
use crate::controllers::common::{conditions, meta};
use crate::controllers::{Action, KindRef, Part, Plan, View, name_of};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep pods away while they are True.
const BY_CONDITION: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Whether this controller adds and removes the taint.
fn is_ours(taint: &Taint) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(_, key)| *key == taint.key);
    match taint.effect.as_str() {
        "NoSchedule" => by_condition || [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str()),
        "NoExecute" => [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()),
        _ => false,
    }
}

/// (key, effect) of every taint that the node's state calls for.
fn wanted(node: &Node, view: &View<'_>) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    let by_ready = match ready(node) {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    if let Some(key) = by_ready {
        wanted.push((key, "NoSchedule"));
        // When nobody is ready, the fault is more likely here than everywhere else: evict nobody.
        if view.snapshot.list::<Node>().any(is_ready) {
            wanted.push((key, "NoExecute"));
        }
    }
    let status = node.status.as_ref();
    for (type_, key) in BY_CONDITION {
        let condition = status.and_then(|s| conditions::of_node(&s.conditions, type_));
        if condition.is_some_and(|c| c.status == "True") {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

/// Writes the node's taints if they are not what they should be. Those of others stay.
pub(super) fn reconcile(node: &Node, view: &View<'_>, plan: &mut Plan) {
    let before = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted = wanted(node, view);
    let is_wanted = |t: &Taint| wanted.iter().any(|(key, effect)| *key == t.key && *effect == t.effect);
    let mut taints: Vec<Taint> = before.iter().filter(|t| !is_ours(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            let taint = Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() };
            taints.push(taint);
        }
    }
    // tolerationSeconds count from here, also for taints that people set without a time.
    for taint in taints.iter_mut().filter(|t| t.effect == "NoExecute" && t.time_added.is_none()) {
        taint.time_added = Some(conditions::time(view.now));
    }
    if taints == before {
        return;
    }
    plan.push(Action::Patch {
        kind: KindRef::of::<Node>(),
        name: name_of(&node.metadata),
        part: Part::Main,
        patch: json!({
            "metadata": {"uid": meta::uid(&node.metadata), "resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        }),
    });
}
