//! NoExecute: pods leave a tainted node at once, or when their toleration runs out.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::controllers::common::{meta, pods};
use crate::controllers::pod_gc::disrupt;
use crate::controllers::{Change, Controller, Key, KindRef, Name, Plan, Snapshot, View, name_of};
use crate::scheduler::{tolerates, tolerations};

/// The controller.
pub struct TaintEviction;

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Pod>(), KindRef::of::<Node>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        if let Some((old, new)) = change.of::<Node>() {
            if old.map(no_execute).unwrap_or_default() == new.map(no_execute).unwrap_or_default() {
                return Vec::new();
            }
            let name = change.key.name.name.as_str();
            let on_it = snapshot.list::<Pod>().filter(|p| pods::node(p) == Some(name));
            return on_it.map(|p| Key::new(KindRef::of::<Pod>(), name_of(&p.metadata))).collect();
        }
        let Some((old, Some(new))) = change.of::<Pod>() else { return Vec::new() };
        let looks = |p: &Pod| (pods::node(p).map(str::to_owned), tolerations(p).cloned().collect::<Vec<_>>());
        let same = old.is_some_and(|old| looks(old) == looks(new));
        let tainted = node_of(new, snapshot).is_some_and(|n| !no_execute(n).is_empty());
        if same || !tainted { Vec::new() } else { vec![change.key.clone()] }
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(pod) = view.snapshot.get::<Pod>(&key.name) else { return plan };
        let Some(node) = node_of(pod, view.snapshot).filter(|_| pods::is_active(pod)) else { return plan };
        let Some(at) = no_execute(node).into_iter().filter_map(|t| end_of_stay(pod, t, view.now)).min() else {
            return plan;
        };
        if at > view.now {
            plan.wake(at);
            return plan;
        }
        let message = "Taint manager: deleting due to NoExecute taint";
        plan.push(disrupt(pod, "DeletionByTaintManager", message, None, view));
        let note = format!("Marking for deletion Pod {}", key.name);
        let delete = meta::delete(KindRef::of::<Pod>(), &pod.metadata);
        plan.push_noted(delete, meta::normal(pod, "TaintManagerEviction", note));
        plan
    }
}

fn node_of<'a>(pod: &Pod, snapshot: &'a Snapshot) -> Option<&'a Node> {
    snapshot.get::<Node>(&Name::new("", pods::node(pod)?))
}

fn no_execute(node: &Node) -> Vec<&Taint> {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| t.effect == "NoExecute").collect()
}

/// When the taint drives the pod away; None if it may stay for good.
fn end_of_stay(pod: &Pod, taint: &Taint, now: Timestamp) -> Option<Timestamp> {
    let mut matching = tolerations(pod).filter(|t| tolerates(t, taint)).peekable();
    if matching.peek().is_none() {
        return Some(Timestamp::MIN);
    }
    // The taint controller puts a time on every such taint; until then the stay has only begun.
    let since = taint.time_added.as_ref().map_or(now, |t| t.0);
    let shortest_s = matching.filter_map(|t| t.toleration_seconds).min()?;
    Some(since + SignedDuration::from_secs(shortest_s.max(0)))
}
