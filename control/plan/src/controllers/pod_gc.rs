//! Pods that no kubelet will ever end: those of nodes that are gone, and those deleted before they had a node.

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use serde_json::json;

use super::common::{conditions, meta, pods};
use super::{Action, Change, Controller, Key, KindRef, Name, Part, Plan, Question, Snapshot, View, name_of};

/// The controller.
pub struct PodGc;

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Pod>(), KindRef::of::<Node>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let kind = KindRef::of::<Pod>();
        if let Some((_, new)) = change.of::<Pod>() {
            let lost = new.is_some_and(|p| is_orphan(p, snapshot) || never_placed(p));
            return if lost { vec![change.key.clone()] } else { Vec::new() };
        }
        if change.key.kind != KindRef::of::<Node>() || change.new.is_some() {
            return Vec::new();
        }
        let on_it = |p: &&Pod| pods::node(p) == Some(&change.key.name.name);
        snapshot.list::<Pod>().filter(on_it).map(|p| Key::new(kind, name_of(&p.metadata))).collect()
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let orphan = view.snapshot.get::<Pod>(&key.name).filter(|p| is_orphan(p, view.snapshot));
        orphan.and_then(pods::node).map(|n| Question::Read(node_key(n))).into_iter().collect()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(pod) = view.snapshot.get::<Pod>(&key.name) else { return plan };
        if never_placed(pod) {
            plan.push(end(pod));
            return plan;
        }
        // The cache may be behind the kubelet that has just registered its node.
        let gone = pods::node(pod).is_some_and(|n| view.read(&node_key(n)).is_none());
        if !is_orphan(pod, view.snapshot) || !gone {
            return plan;
        }
        if !pods::is_finished(pod) {
            plan.push(fail(pod, view));
        }
        plan.push(end(pod));
        plan
    }
}

fn node_key(name: &str) -> Key {
    Key::new(KindRef::of::<Node>(), Name::new("", name))
}

fn is_orphan(pod: &Pod, snapshot: &Snapshot) -> bool {
    pods::node(pod).is_some_and(|n| snapshot.get::<Node>(&Name::new("", n)).is_none())
}

fn never_placed(pod: &Pod) -> bool {
    pods::node(pod).is_none() && meta::is_deleting(&pod.metadata)
}

fn end(pod: &Pod) -> Action {
    Action::Delete {
        kind: KindRef::of::<Pod>(),
        name: name_of(&pod.metadata),
        uid: meta::uid(&pod.metadata).to_owned(),
        resource_version: None,
        grace_s: Some(0),
        propagation: None,
    }
}

/// Owners count a lost pod as failed.
fn fail(pod: &Pod, view: &View<'_>) -> Action {
    let message = "PodGC: node no longer exists";
    disrupt(pod, "DeletionByPodGC", message, Some("Failed"), view)
}

/// Writes the condition `DisruptionTarget`, and the phase where it is given.
pub(super) fn disrupt(pod: &Pod, reason: &str, message: &str, phase: Option<&str>, view: &View<'_>) -> Action {
    let mut list = pod.status.as_ref().and_then(|s| s.conditions.clone());
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..PodCondition::default()
    };
    conditions::set_pod(&mut list, condition, view.now);
    let mut status = json!({"conditions": list});
    if let Some(phase) = phase {
        status["phase"] = json!(phase);
    }
    Action::Patch {
        kind: KindRef::of::<Pod>(),
        name: name_of(&pod.metadata),
        part: Part::Status,
        patch: json!({
            "metadata": {"uid": meta::uid(&pod.metadata), "resourceVersion": pod.metadata.resource_version},
            "status": status,
        }),
    }
}
