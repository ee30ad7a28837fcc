//! Node lifecycle: silent nodes become Unknown, conditions become taints, taints drive pods away.
//!
//! Owns the conditions of silent nodes, taints named `node.kubernetes.io/…`, and evictions by NoExecute. Does not own
//! what a living node says of itself.

mod eviction;
mod taints;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition};
use serde_json::json;

use super::common::{conditions, meta, pods};
use super::{Action, Change, Controller, Key, KindRef, Name, Part, Plan, Snapshot, View, name_of};
pub use eviction::TaintEviction;

/// Where kubelets keep their leases.
const LEASES: &str = "kube-node-lease";
/// Conditions that only a living kubelet can vouch for.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The controller.
pub struct NodeLifecycle;

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Node>(), KindRef::of::<Lease>(), KindRef::of::<Pod>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let kind = KindRef::of::<Node>();
        if let Some((old, new)) = change.of::<Node>() {
            // Whether anybody is ready decides for all of them.
            let turned = old.map(is_ready) != new.map(is_ready);
            return if turned { snapshot.keys(kind).collect() } else { vec![change.key.clone()] };
        }
        if let Some((old, new)) = change.of::<Lease>() {
            // Renewals need no look: the timer that was set finds them.
            let first = old.is_none() && new.is_some() && change.key.name.namespace == LEASES;
            return if first { vec![Key::new(kind, Name::new("", &change.key.name.name))] } else { Vec::new() };
        }
        Vec::new()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(node) = view.snapshot.get::<Node>(&key.name) else { return plan };
        if meta::is_deleting(&node.metadata) {
            return plan;
        }
        let deadline = heard(node, view.snapshot) + SignedDuration::from_secs(view.config.node_grace_s);
        let silent = deadline <= view.now;
        if silent {
            fall_silent(node, view, &mut plan);
        } else {
            plan.wake(deadline);
        }
        if plan.writes.is_empty() {
            taints::reconcile(node, view, &mut plan);
        }
        if silent {
            unready_pods(node, view, &mut plan);
        }
        plan
    }
}

fn is_ready(node: &Node) -> bool {
    ready(node) == Some("True")
}

/// Status of the Ready condition.
fn ready(node: &Node) -> Option<&str> {
    conditions::of_node(&node.status.as_ref()?.conditions, "Ready").map(|c| c.status.as_str())
}

/// When the node last gave a sign of life: its lease, its status, or its birth.
fn heard(node: &Node, snapshot: &Snapshot) -> Timestamp {
    let lease = snapshot.get::<Lease>(&Name::new(LEASES, meta::name(&node.metadata)));
    let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref()).map(|t| t.0);
    let ready = node.status.as_ref().and_then(|s| conditions::of_node(&s.conditions, "Ready"));
    let beat = ready.and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0);
    let born = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
    [renewed, beat, born].into_iter().flatten().max().unwrap_or(Timestamp::MIN)
}

/// Turns what only the kubelet could vouch for into Unknown.
fn fall_silent(node: &Node, view: &View<'_>, plan: &mut Plan) {
    let mut list = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let before = list.clone();
    for type_ in REPORTED {
        match list.iter_mut().find(|c| c.type_ == type_) {
            Some(c) if c.status == "Unknown" => {}
            Some(c) => {
                let known =
                    NodeCondition { last_heartbeat_time: c.last_heartbeat_time.clone(), ..unknown(type_, view) };
                *c = known;
            }
            None => list.push(NodeCondition {
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                ..unknown(type_, view)
            }),
        }
    }
    if list == before {
        return;
    }
    let patch = json!({
        "metadata": {"uid": meta::uid(&node.metadata), "resourceVersion": node.metadata.resource_version},
        "status": {"conditions": list},
    });
    let action =
        Action::Patch { kind: KindRef::of::<Node>(), name: name_of(&node.metadata), part: Part::Status, patch };
    let name = meta::name(&node.metadata);
    plan.push_noted(action, meta::normal(node, "NodeNotReady", format!("Node {name} status is now: NodeNotReady")));
}

fn unknown(type_: &str, view: &View<'_>) -> NodeCondition {
    NodeCondition {
        type_: type_.to_owned(),
        status: "Unknown".to_owned(),
        reason: Some("NodeStatusUnknown".to_owned()),
        message: Some("Kubelet stopped posting node status.".to_owned()),
        last_heartbeat_time: None,
        last_transition_time: Some(conditions::time(view.now)),
    }
}

/// Pods of a silent node take no traffic: nobody knows whether they answer.
fn unready_pods(node: &Node, view: &View<'_>, plan: &mut Plan) {
    let name = meta::name(&node.metadata);
    let on_it = view.snapshot.list::<Pod>().filter(|p| pods::node(p) == Some(name) && pods::is_ready(p));
    for pod in on_it {
        let mut list = pod.status.as_ref().and_then(|s| s.conditions.clone());
        let unready = PodCondition {
            type_: "Ready".to_owned(),
            status: "False".to_owned(),
            reason: Some("NodeNotReady".to_owned()),
            ..PodCondition::default()
        };
        conditions::set_pod(&mut list, unready, view.now);
        let patch = json!({
            "metadata": {"uid": meta::uid(&pod.metadata), "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": list},
        });
        let action =
            Action::Patch { kind: KindRef::of::<Pod>(), name: name_of(&pod.metadata), part: Part::Status, patch };
        plan.push_noted(action, meta::warning(pod, "NodeNotReady", "Node is not ready"));
    }
}
