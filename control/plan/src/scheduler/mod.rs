//! The scheduler: which node each waiting pod goes to.
//!
//! Owns the order of pods, filters, scores, and the words of `FailedScheduling`. It is a controller like the others, with
//! one key for all pods: one plan places every waiting pod, each seeing those placed before it. A pod that fits nowhere
//! waits without being tried until something changes that might help: there is no timer.
//!
//! Does not own preemption and volumes (docs/gaps.md).

mod affinity;
mod amounts;
mod cluster;
mod image_locality;
mod inter_pod;
mod node_name;
mod node_ports;
mod resources;
mod spread;
mod taints;
#[cfg(test)]
mod tests;
mod unschedulable;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodCondition, PodStatus};
use serde_json::json;

use crate::controllers::{
    Action, Change, Controller, Key, KindRef, Part, Plan, Snapshot, View, Write, conditions, meta, name_of, pods,
};
pub(crate) use affinity::allows;
use cluster::{Cluster, NodeInfo};
pub(crate) use taints::{tolerates, tolerations};

/// The name pods ask for when they ask for nobody else.
const NAME: &str = "default-scheduler";

/// The scheduler, for the driver.
pub const SCHEDULER: &dyn Controller = &Scheduler;

/// See the module.
pub struct Scheduler;

/// Says whether a pod may go to a node.
trait Filter: Sync {
    /// Err holds the reason in the words of Kubernetes, as counted in `FailedScheduling`.
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> Result<(), String>;
}

/// Says how well a pod would be placed.
trait Score: Sync {
    /// Any number; made comparable by [`Score::SCALE`]-like rules in [`best`].
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, cluster: &Cluster<'_>) -> i64;
    /// Share in the sum.
    fn weight(&self) -> i64;
    /// How raw scores become 0..=100.
    fn scale(&self) -> Scale;
}

/// How raw scores become 0..=100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// They are.
    Percent,
    /// The largest becomes 100.
    MoreIsBetter,
    /// The largest becomes 0.
    LessIsBetter,
}

/// In the order in which reasons are found; the first is the one counted.
const FILTERS: &[&dyn Filter] = &[
    &unschedulable::Unschedulable,
    &node_name::NodeName,
    &taints::Taints,
    &affinity::NodeAffinity,
    &node_ports::NodePorts,
    &resources::Fit,
    &spread::Spread,
    &inter_pod::InterPod,
];

const SCORES: &[&dyn Score] = &[
    &taints::Taints,
    &affinity::NodeAffinity,
    &resources::LeastAllocated,
    &resources::Balanced,
    &spread::Spread,
    &inter_pod::InterPod,
    &image_locality::ImageLocality,
];

/// A pod to place, with what every plugin asks of it.
struct Waiting<'a> {
    pod: &'a Pod,
    requests: amounts::Amounts,
}

impl<'a> Waiting<'a> {
    fn new(pod: &'a Pod) -> Waiting<'a> {
        Waiting { pod, requests: amounts::requests(pod) }
    }
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        NAME
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Pod>(), KindRef::of::<Node>(), KindRef::of::<Namespace>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        let relevant = if let Some((old, new)) = change.of::<Pod>() {
            pod_matters(old, new)
        } else if let Some((old, new)) = change.of::<Node>() {
            new.is_some_and(|new| old.is_none_or(|old| node_matters(old, new)))
        } else {
            false
        };
        if relevant { vec![Key::all(KindRef::of::<Pod>())] } else { Vec::new() }
    }
    fn plan(&self, _key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut waiting: Vec<&Pod> = view.snapshot.list::<Pod>().filter(|p| is_waiting(p)).collect();
        if waiting.is_empty() {
            return plan;
        }
        waiting.sort_by_key(|p| order(p));
        let mut cluster = Cluster::new(view.snapshot);
        for pod in waiting {
            if is_gated(pod) {
                gate(pod, view, &mut plan);
                continue;
            }
            let waiting = Waiting::new(pod);
            match place(&waiting, &cluster) {
                Ok(at) => {
                    plan.writes.push(bind(pod, cluster.nodes[at].name));
                    cluster.assume(at, pod, &waiting.requests);
                }
                Err(why) => refuse(pod, why, view, &mut plan),
            }
        }
        plan
    }
}

/// Whether the change may let a waiting pod go, or brings a new one.
fn pod_matters(old: Option<&Pod>, new: Option<&Pod>) -> bool {
    let wish = |p: &Pod| (p.spec.clone(), p.metadata.labels.clone(), meta::is_deleting(&p.metadata));
    match (old, new) {
        (None, Some(new)) => is_waiting(new) || pods::node(new).is_some(),
        (Some(old), None) => pods::node(old).is_some(),
        (Some(old), Some(new)) => pods::is_finished(old) != pods::is_finished(new) || wish(old) != wish(new),
        (None, None) => false,
    }
}

/// Heartbeats do not matter; what filters look at does.
fn node_matters(old: &Node, new: &Node) -> bool {
    let looks = |n: &Node| (n.spec.clone(), n.metadata.labels.clone());
    let room = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    looks(old) != looks(new) || room(old) != room(new)
}

fn is_waiting(pod: &Pod) -> bool {
    let ours = pod.spec.as_ref().is_some_and(|s| s.scheduler_name.as_deref().unwrap_or(NAME) == NAME);
    ours && pods::node(pod).is_none() && pods::is_active(pod)
}

fn is_gated(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()))
}

/// Higher priority first, then first come, first served.
fn order(pod: &Pod) -> impl Ord + use<> {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    (std::cmp::Reverse(priority), pod.metadata.creation_timestamp.clone(), name_of(&pod.metadata))
}

/// The best node, by its place in the cluster, or the sentence that says why there is none.
fn place(pod: &Waiting<'_>, cluster: &Cluster<'_>) -> Result<usize, String> {
    if cluster.nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for (at, node) in cluster.nodes.iter().enumerate() {
        match FILTERS.iter().try_for_each(|f| f.check(pod, node, cluster)) {
            Ok(()) => fitting.push(at),
            Err(reason) => reason.split('\n').for_each(|r| *reasons.entry(r.to_owned()).or_default() += 1),
        }
    }
    best(pod, &fitting, cluster).ok_or_else(|| sentence(cluster.nodes.len(), &reasons))
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
fn sentence(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    let mut counted: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}

/// The highest sum of weighted scores; of equals the emptier node, then the first by name.
fn best(pod: &Waiting<'_>, fitting: &[usize], cluster: &Cluster<'_>) -> Option<usize> {
    if fitting.len() < 2 {
        return fitting.first().copied();
    }
    let mut sums = vec![0; fitting.len()];
    for plugin in SCORES {
        let raw: Vec<i64> = fitting.iter().map(|at| plugin.score(pod, &cluster.nodes[*at], cluster)).collect();
        for (sum, score) in sums.iter_mut().zip(scaled(&raw, plugin.scale())) {
            *sum += score * plugin.weight();
        }
    }
    let rank = |(at, sum): &(&usize, &i64)| {
        let node = &cluster.nodes[**at];
        (**sum, std::cmp::Reverse(node.pods.len()), std::cmp::Reverse(node.name))
    };
    fitting.iter().zip(&sums).max_by_key(rank).map(|(at, _)| *at)
}

fn scaled(raw: &[i64], scale: Scale) -> Vec<i64> {
    let (least, most) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    let part = |value: i64| if most == least { 0 } else { (value - least) * 100 / (most - least) };
    match scale {
        Scale::Percent => raw.to_vec(),
        Scale::MoreIsBetter => raw.iter().map(|v| part(*v)).collect(),
        Scale::LessIsBetter => raw.iter().map(|v| 100 - part(*v)).collect(),
    }
}

fn bind(pod: &Pod, node: &str) -> Write {
    let name = name_of(&pod.metadata);
    let message = format!("Successfully assigned {name} to {node}");
    Write {
        done: Some(meta::normal(pod, "Scheduled", message)),
        failed: Some(meta::warning(pod, "FailedScheduling", format!("binding to {node} was refused: {{error}}"))),
        action: Action::Bind { name, uid: meta::uid(&pod.metadata).to_owned(), node: node.to_owned() },
    }
}

/// Says on the pod, once per reason, why it waits.
fn refuse(pod: &Pod, why: String, view: &View<'_>, plan: &mut Plan) {
    let note = meta::warning(pod, "FailedScheduling", why.clone());
    if let Some(action) = condition(pod, "Unschedulable", why, view) {
        plan.push_noted(action, note);
    }
}

fn gate(pod: &Pod, view: &View<'_>, plan: &mut Plan) {
    let message = "Scheduling is blocked due to non-empty scheduling gates".to_owned();
    condition(pod, "SchedulingGated", message, view).into_iter().for_each(|a| plan.push(a));
}

/// The write of `PodScheduled=False`; None if the pod says so already.
fn condition(pod: &Pod, reason: &str, message: String, view: &View<'_>) -> Option<Action> {
    let mut status: PodStatus = pod.status.clone().unwrap_or_default();
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    if !conditions::set_pod(&mut status.conditions, condition, view.now) {
        return None;
    }
    Some(Action::Patch {
        kind: KindRef::of::<Pod>(),
        name: name_of(&pod.metadata),
        part: Part::Status,
        patch: json!({
            "metadata": {"uid": meta::uid(&pod.metadata), "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": status.conditions},
        }),
    })
}
