//! ReplicaSet: as many pods of one template as wanted.
//!
//! Owns counting, adoption, which pod goes first, and the status. Does not own replacing one template by another:
//! that is the Deployment's.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use super::common::{claim, conditions, labels, meta, pods, template};
use super::{Change, Controller, Key, KindRef, Plan, Question, Snapshot, View, Write};

/// How many pods one plan makes or removes at most.
const BURST: usize = 500;
/// Annotation that makes a pod cheaper to remove; absent means 0.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The condition while creating or deleting fails.
const FAILURE: &str = "ReplicaFailure";

/// The controller.
pub struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<ReplicaSet>(), KindRef::of::<Pod>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let mut keys = template::owners::<Pod, ReplicaSet>(change, snapshot, |rs| Some(&rs.spec.selector));
        keys.extend(template::itself::<ReplicaSet>(change));
        keys
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let Some(rs) = view.snapshot.get::<ReplicaSet>(&key.name) else { return Vec::new() };
        let spec = &rs.spec;
        if labels::is_empty(&spec.selector) {
            return Vec::new();
        }
        claim::ask::<Pod, ReplicaSet>(rs, &spec.selector, view.snapshot)
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(rs) = view.snapshot.get::<ReplicaSet>(&key.name) else { return plan };
        let spec = &rs.spec;
        if labels::is_empty(&spec.selector) {
            return plan;
        }
        let claimed = claim::claim::<Pod, ReplicaSet>(rs, &spec.selector, view, pods::is_active);
        claimed.writes.into_iter().for_each(|w| plan.push(w));
        let active: Vec<&Pod> = claimed.held.iter().copied().filter(|p| pods::is_active(p)).collect();
        if !meta::is_deleting(&rs.metadata) {
            scale(rs, &active, view, &mut plan);
        }
        let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
        if let Some(at) = pods::next_available(active.iter().copied(), min_ready_s, view.now) {
            plan.wake(at);
        }
        let status = status(rs, &claimed.held, &active, view);
        if rs.status.as_ref() != Some(&status) {
            plan.push(claim::put_status(&ReplicaSet { status: Some(status), ..rs.clone() }));
            if view.failure.is_some() {
                // What failed would fail again before the status is reached.
                plan.writes.rotate_right(1);
            }
        }
        plan
    }
}

fn wanted(rs: &ReplicaSet) -> usize {
    let replicas = rs.spec.replicas.unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

/// Makes the missing pods, removes the surplus.
fn scale(rs: &ReplicaSet, active: &[&Pod], view: &View<'_>, plan: &mut Plan) {
    let wanted = wanted(rs);
    if active.len() < wanted {
        let template = rs.spec.template.clone().unwrap_or_default();
        let missing = (wanted - active.len()).min(BURST);
        plan.writes.extend(std::iter::repeat_n(creation(rs, &template), missing));
    } else if active.len() > wanted {
        for pod in doomed(rs, active, active.len() - wanted, view).into_iter().take(BURST) {
            let note = meta::normal(rs, "SuccessfulDelete", format!("Deleted pod: {}", meta::name(&pod.metadata)));
            plan.push_noted(meta::delete(KindRef::of::<Pod>(), &pod.metadata), note);
        }
    }
}

fn creation(rs: &ReplicaSet, template: &PodTemplateSpec) -> Write {
    Write {
        action: claim::create(&template::pod(rs, template)),
        done: Some(meta::normal(rs, "SuccessfulCreate", "Created pod: {name}")),
        failed: Some(meta::warning(rs, "FailedCreate", "Error creating: {error}")),
    }
}

/// The pods to remove, the least missed first.
fn doomed<'a>(rs: &ReplicaSet, active: &[&'a Pod], surplus: usize, view: &View<'_>) -> Vec<&'a Pod> {
    let crowd = crowd(rs, view.snapshot);
    let mut ranked = active.to_vec();
    ranked.sort_by_key(|pod| rank(pod, &crowd, view.now));
    ranked.truncate(surplus);
    ranked
}

/// Active pods per node over all ReplicaSets of the same managing owner: during a rollout the node crowded with both
/// generations is relieved first.
fn crowd(rs: &ReplicaSet, snapshot: &Snapshot) -> HashMap<String, usize> {
    let relatives: Vec<&str> = match meta::controller_uid(&rs.metadata) {
        Some(owner) => snapshot.owned::<ReplicaSet>(owner).map(|r| meta::uid(&r.metadata)).collect(),
        None => vec![meta::uid(&rs.metadata)],
    };
    let mut crowd = HashMap::new();
    for pod in relatives.iter().flat_map(|uid| snapshot.owned::<Pod>(uid)).filter(|p| pods::is_active(p)) {
        *crowd.entry(pods::node(pod).unwrap_or_default().to_owned()).or_default() += 1;
    }
    crowd
}

/// Order of removal; every part says "goes first when smaller".
type Rank = (bool, u8, bool, i32, Reverse<usize>, u32, Reverse<i32>, Reverse<Option<Timestamp>>, String);

fn rank(pod: &Pod, crowd: &HashMap<String, usize>, now: Timestamp) -> Rank {
    let phase = match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = meta::annotation(&pod.metadata, DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0);
    let crowding = crowd.get(pods::node(pod).unwrap_or_default()).copied().unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (
        pods::node(pod).is_some(),
        phase,
        pods::is_ready(pod),
        cost,
        Reverse(crowding),
        age_log2(pods::ready_since(pod), now),
        Reverse(pods::restarts(pod)),
        Reverse(created),
        meta::name(&pod.metadata).to_owned(),
    )
}

/// Ages are compared by order of magnitude, so that pods of about one age do not fall in a fixed order.
fn age_log2(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let age_s = since.map_or(0, |t| now.as_second().saturating_sub(t.as_second()).max(0));
    64 - age_s.unsigned_abs().leading_zeros()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn status(rs: &ReplicaSet, held: &[&Pod], active: &[&Pod], view: &View<'_>) -> ReplicaSetStatus {
    let old = rs.status.clone().unwrap_or_default();
    let spec = &rs.spec;
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let template = spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone());
    let template = template.unwrap_or_default();
    let number = |keep: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|p| keep(p)).count());
    let some = |n: i32| (n != 0).then_some(n);
    let terminating = count(held.iter().filter(|p| meta::is_deleting(&p.metadata) && !pods::is_finished(p)).count());
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(number(&|p| labels::contains(&template, p.metadata.labels.as_ref()))),
        ready_replicas: some(number(&pods::is_ready)),
        available_replicas: some(number(&|p| pods::is_available(p, min_ready_s, view.now))),
        terminating_replicas: Some(terminating),
        observed_generation: rs.metadata.generation,
        conditions: failure_condition(rs, active.len(), old, view),
    }
}

/// `ReplicaFailure` while the last attempt failed, nothing otherwise.
fn failure_condition(
    rs: &ReplicaSet,
    active: usize,
    old: ReplicaSetStatus,
    view: &View<'_>,
) -> Option<Vec<ReplicaSetCondition>> {
    let present = old.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(FAILURE)).cloned();
    let mut others: Vec<_> = old.conditions.unwrap_or_default();
    others.retain(|c| c.type_.as_deref() != Some(FAILURE));
    if let Some(failure) = view.failure.filter(|_| active != wanted(rs)) {
        others.push(present.unwrap_or_else(|| ReplicaSetCondition {
            type_: Some(FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some(if active < wanted(rs) { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            message: Some(failure.to_owned()),
            last_transition_time: Some(conditions::time(view.now)),
        }));
    }
    (!others.is_empty()).then_some(others)
}
