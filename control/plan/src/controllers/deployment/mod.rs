//! Deployment: replaces one generation of pods by the next, within bounds.
//!
//! Owns which ReplicaSets exist and how many pods each is to have, revisions, and the rollout's status. Does not own
//! pods: it never writes one. Every plan is one wave: it stops at the first thing that must be seen done before the
//! next can be decided, and the change it causes calls it again.

mod history;
mod replicas;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

pub(in crate::controllers) use replicas::{Round, share};

use super::common::{claim, labels, meta, template};
use super::{Change, Controller, Key, KindRef, Name, Plan, Question, Snapshot, View};

/// Which generation a ReplicaSet is; kubectl reads it.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions a ReplicaSet had before it was rolled back to.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// spec.replicas of the Deployment when the ReplicaSet was last scaled.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The above plus maxSurge.
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Label that keeps generations apart.
const HASH: &str = "pod-template-hash";

/// The controller.
pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Deployment>(), KindRef::of::<ReplicaSet>(), KindRef::of::<Pod>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let mut keys = template::owners::<ReplicaSet, Deployment>(change, snapshot, |d| Some(&d.spec.selector));
        keys.extend(template::itself::<Deployment>(change));
        keys.extend(recreated_pod(change, snapshot));
        keys
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let Some(d) = view.snapshot.get::<Deployment>(&key.name) else { return Vec::new() };
        let spec = &d.spec;
        if labels::is_empty(&spec.selector) {
            return Vec::new();
        }
        claim::ask::<ReplicaSet, Deployment>(d, &spec.selector, view.snapshot)
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(d) = view.snapshot.get::<Deployment>(&key.name) else { return plan };
        let spec = &d.spec;
        if labels::is_empty(&spec.selector) {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            plan.events.push(meta::warning(d, "SelectingAll", message));
            return plan;
        }
        let claimed = claim::claim::<ReplicaSet, Deployment>(d, &spec.selector, view, |_| true);
        if !claimed.writes.is_empty() {
            claimed.writes.into_iter().for_each(|w| plan.push(w));
            return plan;
        }
        let rollout = Rollout::new(d, spec, claimed.held, view);
        if !meta::is_deleting(&d.metadata) {
            rollout.advance(&mut plan);
        }
        rollout.report(&mut plan);
        plan
    }
}

/// A Recreate rollout waits for the old pods to be gone, so the end of a pod concerns the Deployment too.
fn recreated_pod(change: &Change, snapshot: &Snapshot) -> Option<Key> {
    let (Some(old), new) = change.of::<Pod>()? else { return None };
    if new.is_some_and(|n| !super::pods::is_finished(n)) {
        return None;
    }
    let namespace = meta::namespace(&old.metadata);
    let rs = meta::controller_named::<ReplicaSet>(&old.metadata)?;
    let rs = snapshot.get::<ReplicaSet>(&Name::new(namespace, rs))?;
    let name = Name::new(namespace, meta::controller_named::<Deployment>(&rs.metadata)?);
    let d = snapshot.get::<Deployment>(&name)?;
    is_recreate(&d.spec).then(|| Key::new(KindRef::of::<Deployment>(), name))
}

fn is_recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

/// One Deployment with its ReplicaSets, sorted out.
struct Rollout<'a> {
    d: &'a Deployment,
    spec: &'a DeploymentSpec,
    /// The ReplicaSet of the wanted template, if it exists.
    new: Option<&'a ReplicaSet>,
    /// All others, oldest first.
    old: Vec<&'a ReplicaSet>,
    bounds: replicas::Bounds,
    view: &'a View<'a>,
}

impl<'a> Rollout<'a> {
    fn new(d: &'a Deployment, spec: &'a DeploymentSpec, mut held: Vec<&'a ReplicaSet>, view: &'a View<'a>) -> Self {
        held.sort_by_key(|rs| (rs.metadata.creation_timestamp.clone(), rs.metadata.name.clone()));
        let new = held.iter().copied().find(|rs| history::has_template(rs, &spec.template));
        let old = held.into_iter().filter(|rs| !new.is_some_and(|n| std::ptr::eq(n, *rs))).collect();
        Rollout { d, spec, new, old, bounds: replicas::Bounds::of(spec), view }
    }

    fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> + '_ {
        self.old.iter().copied().chain(self.new)
    }

    /// Decides the next wave. Waves in order: scale as a whole, revision of the new ReplicaSet, then the strategy.
    fn advance(&self, plan: &mut Plan) {
        if self.spec.paused == Some(true) {
            self.scale_as_whole(plan);
            return;
        }
        if self.is_scaling() && self.scale_as_whole(plan) {
            return;
        }
        if is_recreate(self.spec) {
            self.recreate(plan);
        } else {
            self.roll(plan);
        }
        if plan.writes.is_empty() {
            self.forget_history(plan);
        }
    }
}
