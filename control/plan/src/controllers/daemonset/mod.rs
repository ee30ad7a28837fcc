//! DaemonSet: one pod on every node that may have it.
//!
//! Owns which nodes get a pod, rolling updates, and ControllerRevisions as history. Pods are bound by the scheduler: each
//! is made with a node affinity for its node's name.

mod placement;
mod revisions;
mod rolling;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::common::{claim, labels, meta, pods, template};
use super::{Change, Controller, Key, KindRef, Name, Plan, Question, Snapshot, View, Write, name_of};
use placement::Fate;

/// Pods made or removed by one plan.
const BURST: usize = 250;
/// Label that says which revision a pod or a ControllerRevision is of.
const HASH: &str = "controller-revision-hash";

/// The controller.
pub struct DaemonSets;

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const {
            &[
                KindRef::of::<DaemonSet>(),
                KindRef::of::<Pod>(),
                KindRef::of::<Node>(),
                KindRef::of::<ControllerRevision>(),
            ]
        }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        if let Some((old, new)) = change.of::<Node>() {
            let looks =
                |n: &Node| (n.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable)), n.metadata.labels.clone());
            let same = old.zip(new).is_some_and(|(old, new)| looks(old) == looks(new));
            return if same { Vec::new() } else { snapshot.keys(KindRef::of::<DaemonSet>()).collect() };
        }
        let mut keys = template::owners::<Pod, DaemonSet>(change, snapshot, |d| Some(&d.spec.selector));
        keys.extend(template::owners::<ControllerRevision, DaemonSet>(change, snapshot, |d| Some(&d.spec.selector)));
        keys.extend(template::itself::<DaemonSet>(change));
        keys
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let Some(ds) = view.snapshot.get::<DaemonSet>(&key.name) else { return Vec::new() };
        let selector = &ds.spec.selector;
        if labels::is_empty(selector) {
            return Vec::new();
        }
        let mut questions = claim::ask::<Pod, DaemonSet>(ds, selector, view.snapshot);
        questions.extend(claim::ask::<ControllerRevision, DaemonSet>(ds, selector, view.snapshot));
        questions.dedup();
        questions
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(ds) = view.snapshot.get::<DaemonSet>(&key.name) else { return plan };
        if labels::is_empty(&ds.spec.selector) {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            plan.events.push(meta::warning(ds, "SelectingAll", message));
            return plan;
        }
        let claimed = claim::claim::<Pod, DaemonSet>(ds, &ds.spec.selector, view, |_| true);
        let revisions = claim::claim::<ControllerRevision, DaemonSet>(ds, &ds.spec.selector, view, |_| true);
        claimed.writes.into_iter().chain(revisions.writes).for_each(|w| plan.push(w));
        let Some(hash) = revisions::current(ds, revisions.held, view, &mut plan) else { return plan };
        let daemon = Daemon::new(ds, claimed.held, hash, view);
        if !meta::is_deleting(&ds.metadata) {
            daemon.place(&mut plan);
            if plan.writes.is_empty() {
                daemon.roll(&mut plan);
            }
        }
        daemon.report(&mut plan);
        plan
    }
}

/// One DaemonSet with its nodes and pods.
struct Daemon<'a> {
    ds: &'a DaemonSet,
    /// Label value of the wanted revision.
    hash: String,
    /// Every node and what it means for this DaemonSet.
    nodes: Vec<(&'a Node, Fate)>,
    /// Pods by the node they are on or made for, oldest first.
    by_node: BTreeMap<String, Vec<&'a Pod>>,
    view: &'a View<'a>,
}

impl<'a> Daemon<'a> {
    fn new(ds: &'a DaemonSet, held: Vec<&'a Pod>, hash: String, view: &'a View<'a>) -> Daemon<'a> {
        let nodes = view.snapshot.list::<Node>().map(|n| (n, placement::fate(ds, n))).collect();
        let mut by_node: BTreeMap<String, Vec<&Pod>> = BTreeMap::new();
        for pod in held {
            by_node.entry(placement::target(pod).unwrap_or_default().to_owned()).or_default().push(pod);
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), p.metadata.name.clone()));
        }
        Daemon { ds, hash, nodes, by_node, view }
    }

    fn pods_of(&self, node: &Node) -> &[&'a Pod] {
        self.by_node.get(meta::name(&node.metadata)).map_or(&[], Vec::as_slice)
    }

    fn is_current(&self, pod: &Pod) -> bool {
        meta::label(&pod.metadata, HASH) == Some(&self.hash)
    }

    fn min_ready_s(&self) -> i32 {
        self.ds.spec.min_ready_seconds.unwrap_or(0)
    }

    /// Makes missing pods, removes those that must not be, and those that failed.
    fn place(&self, plan: &mut Plan) {
        let mut made = Vec::new();
        let mut gone: Vec<&Pod> = Vec::new();
        for (node, fate) in &self.nodes {
            let (alive, ended): (Vec<&Pod>, Vec<&Pod>) = self
                .pods_of(node)
                .iter()
                .filter(|p| !meta::is_deleting(&p.metadata))
                .partition(|p| !pods::is_finished(p));
            let leaving = self.pods_of(node).iter().any(|p| meta::is_deleting(&p.metadata));
            match fate {
                Fate::Run if alive.is_empty() && ended.is_empty() && !leaving => made.push(self.creation(node)),
                Fate::Run => gone.extend(self.surplus(&alive)),
                Fate::Stay => {}
                Fate::Leave => gone.extend(alive),
            }
            gone.extend(ended.into_iter().filter(|p| self.may_retry(p, plan)));
        }
        gone.extend(self.stranded());
        plan.writes.extend(made.into_iter().take(BURST));
        gone.into_iter().take(BURST).for_each(|p| self.remove(p, plan));
    }

    /// Pods beyond one per node; while a surge is on, one of each revision may be there.
    fn surplus(&self, alive: &[&'a Pod]) -> Vec<&'a Pod> {
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = alive.iter().copied().partition(|p| self.is_current(p));
        let surging = rolling::bounds(self.ds, self.wanted()).surge > 0;
        if surging && !new.is_empty() {
            return old.into_iter().skip(1).chain(new.into_iter().skip(1)).collect();
        }
        alive.iter().copied().skip(1).collect()
    }

    /// Pods made for nodes that are gone and never started there.
    fn stranded(&self) -> impl Iterator<Item = &'a Pod> + '_ {
        let known = |name: &str| self.nodes.iter().any(|(n, _)| meta::name(&n.metadata) == name);
        let lost = self.by_node.iter().filter(move |(name, _)| !known(name));
        lost.flat_map(|(_, pods)| pods.iter().copied())
            .filter(|p| pods::node(p).is_none() && !meta::is_deleting(&p.metadata))
    }

    /// A failed pod is replaced, but not in a tight circle.
    fn may_retry(&self, pod: &Pod, plan: &mut Plan) -> bool {
        const PAUSE_S: i64 = 10;
        let Some(created) = pod.metadata.creation_timestamp.as_ref() else { return true };
        let at = created.0 + jiff::SignedDuration::from_secs(PAUSE_S);
        if at > self.view.now {
            plan.wake(at);
            return false;
        }
        let node = pods::node(pod).unwrap_or_default();
        let message = format!("Found failed daemon pod {} on node {node}, will try to kill it", name_of(&pod.metadata));
        plan.events.push(meta::warning(self.ds, "FailedDaemonPod", message));
        true
    }

    fn creation(&self, node: &Node) -> Write {
        let pod = placement::pod(self.ds, meta::name(&node.metadata), &self.hash);
        Write {
            action: claim::create(&pod),
            done: Some(meta::normal(self.ds, "SuccessfulCreate", "Created pod: {name}")),
            failed: Some(meta::warning(self.ds, "FailedCreate", "Error creating: {error}")),
        }
    }

    fn remove(&self, pod: &Pod, plan: &mut Plan) {
        let note = meta::normal(self.ds, "SuccessfulDelete", format!("Deleted pod: {}", meta::name(&pod.metadata)));
        plan.push_noted(meta::delete(KindRef::of::<Pod>(), &pod.metadata), note);
    }

    /// Nodes that are to have a pod.
    fn wanted(&self) -> i32 {
        number(self.nodes.iter().filter(|(_, f)| *f == Fate::Run).count())
    }

    fn report(&self, plan: &mut Plan) {
        let mut status = DaemonSetStatus {
            observed_generation: self.ds.metadata.generation,
            collision_count: self.ds.status.as_ref().and_then(|s| s.collision_count),
            conditions: self.ds.status.as_ref().and_then(|s| s.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut available, mut updated) = (0, 0);
        for (node, fate) in &self.nodes {
            let alive: Vec<&&Pod> = self.pods_of(node).iter().filter(|p| pods::is_active(p)).collect();
            if *fate != Fate::Run {
                status.number_misscheduled += i32::from(*fate == Fate::Leave && !alive.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            status.current_number_scheduled += i32::from(!alive.is_empty());
            status.number_ready += i32::from(alive.iter().any(|p| pods::is_ready(p)));
            available += i32::from(alive.iter().any(|p| pods::is_available(p, self.min_ready_s(), self.view.now)));
            updated += i32::from(alive.iter().any(|p| self.is_current(p)));
        }
        let some = |n: i32| (n != 0).then_some(n);
        status.number_available = some(available);
        status.updated_number_scheduled = some(updated);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        let all = self.by_node.values().flatten().copied();
        if let Some(at) = pods::next_available(all, self.min_ready_s(), self.view.now) {
            plan.wake(at);
        }
        if self.ds.status.as_ref() != Some(&status) {
            plan.push(claim::put_status(&DaemonSet { status: Some(status), ..self.ds.clone() }));
        }
    }
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Used by [`revisions`] to look names up.
fn revision_name(ds: &DaemonSet, hash: &str) -> Name {
    Name::new(meta::namespace(&ds.metadata), format!("{}-{hash}", meta::name(&ds.metadata)))
}
