//! The rollout's status: counts, Available, Progressing, ReplicaFailure.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::replicas::wanted;
use super::{Rollout, meta, rollout};
use crate::controllers::common::{claim, conditions};
use crate::controllers::{Action, Plan};

const PROGRESSING: &str = "Progressing";
/// 2^31-1 seconds stand for "never".
const NO_DEADLINE_S: i32 = i32::MAX;

impl Rollout<'_> {
    /// Adds the status write, if the status changed, and asks to be called when the deadline passes.
    pub(super) fn report(&self, plan: &mut Plan) {
        if rollout::writes_deployment(plan) {
            return;
        }
        let old = self.d.status.clone().unwrap_or_default();
        let mut status = self.counts(&old);
        self.conclude(&old, &mut status, plan);
        if Some(&status) != self.d.status.as_ref() {
            plan.push(claim::put_status(&Deployment { status: Some(status), ..self.d.clone() }));
        }
    }

    /// Nothing of the old generation is left and everything of the new is available.
    pub(super) fn is_complete(&self) -> bool {
        is_complete(&self.counts(&self.d.status.clone().unwrap_or_default()), self.bounds.wanted)
            && self.d.status.as_ref().and_then(|s| s.observed_generation) >= self.d.metadata.generation
    }

    fn counts(&self, old: &DeploymentStatus) -> DeploymentStatus {
        let sum = |f: &dyn Fn(&ReplicaSet) -> i32| self.all().map(f).sum::<i32>();
        let of = |rs: &ReplicaSet| rs.status.clone().unwrap_or_default();
        let some = |n: i32| (n > 0).then_some(n);
        let available = sum(&|rs| of(rs).available_replicas.unwrap_or(0));
        DeploymentStatus {
            observed_generation: self.d.metadata.generation,
            replicas: some(sum(&|rs| of(rs).replicas)),
            updated_replicas: some(self.new.map_or(0, |rs| of(rs).replicas)),
            ready_replicas: some(sum(&|rs| of(rs).ready_replicas.unwrap_or(0))),
            available_replicas: some(available),
            unavailable_replicas: some(sum(&wanted) - available),
            terminating_replicas: Some(sum(&|rs| of(rs).terminating_replicas.unwrap_or(0))),
            collision_count: old.collision_count,
            conditions: old.conditions.clone(),
        }
    }

    fn conclude(&self, old: &DeploymentStatus, status: &mut DeploymentStatus, plan: &mut Plan) {
        let enough = status.available_replicas.unwrap_or(0) >= self.bounds.least_available();
        let available = if enough {
            condition(
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".to_owned(),
            )
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            condition("Available", "False", "MinimumReplicasUnavailable", message)
        };
        self.set(status, available);
        self.conclude_progress(old, status, plan);
        let failing = self.all().flat_map(|rs| rs.status.iter().flat_map(|s| s.conditions.iter().flatten()));
        match failing
            .filter(|c| c.type_.as_deref() == Some("ReplicaFailure") && c.status.as_deref() == Some("True"))
            .last()
        {
            Some(c) => {
                let (reason, message) = (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default());
                self.set(status, condition("ReplicaFailure", "True", &reason, message));
            }
            None => remove(status, "ReplicaFailure"),
        }
    }

    /// The Progressing condition, whose lastUpdateTime is the clock of progressDeadlineSeconds.
    fn conclude_progress(&self, old: &DeploymentStatus, status: &mut DeploymentStatus, plan: &mut Plan) {
        let current = find(old, PROGRESSING);
        let reason = current.and_then(|c| c.reason.as_deref()).unwrap_or_default();
        let deadline_s = self.spec.progress_deadline_seconds.unwrap_or(600);
        if deadline_s == NO_DEADLINE_S {
            remove(status, PROGRESSING);
            return;
        }
        if self.spec.paused == Some(true) {
            if reason != "DeploymentPaused" && reason != "ProgressDeadlineExceeded" {
                let message = "Deployment is paused".to_owned();
                self.set(status, condition(PROGRESSING, "Unknown", "DeploymentPaused", message));
            }
            return;
        }
        if reason == "DeploymentPaused" {
            let message = "Deployment is resumed".to_owned();
            self.set(status, condition(PROGRESSING, "Unknown", "DeploymentResumed", message));
            return;
        }
        let Some(new) = self.new else {
            // The wave that makes the ReplicaSet starts the clock anew.
            if plan.writes.iter().any(|w| matches!(w.action, Action::Create { .. })) {
                let message = "Created new replica set".to_owned();
                self.set_always(status, condition(PROGRESSING, "True", "NewReplicaSetCreated", message));
            }
            return;
        };
        let subject = format!("ReplicaSet {:?}", meta::name(&new.metadata));
        let concluded = reason == "NewReplicaSetAvailable" && message_of(current).starts_with(&subject);
        if concluded && status.replicas == status.updated_replicas {
            // Scaling, or losing pods, after a rollout is not a rollout.
            return;
        }
        self.follow_progress(old, status, &subject, plan);
    }

    /// The Progressing condition while the new ReplicaSet exists and the rollout is not concluded.
    fn follow_progress(&self, old: &DeploymentStatus, status: &mut DeploymentStatus, subject: &str, plan: &mut Plan) {
        let current = find(old, PROGRESSING);
        let reason = current.and_then(|c| c.reason.as_deref()).unwrap_or_default();
        let deadline_s = self.spec.progress_deadline_seconds.unwrap_or(600);
        if is_complete(status, self.bounds.wanted) {
            if reason != "NewReplicaSetAvailable" || !message_of(current).starts_with(subject) {
                let message = format!("{subject} has successfully progressed.");
                self.set_always(status, condition(PROGRESSING, "True", "NewReplicaSetAvailable", message));
            }
        } else if current.is_none() || reason == "NewReplicaSetAvailable" && !message_of(current).starts_with(subject) {
            let message = format!("Found new {}", subject.replacen("ReplicaSet", "replica set", 1));
            self.set_always(status, condition(PROGRESSING, "True", "FoundNewReplicaSet", message));
        } else if is_progressing(old, status) {
            let message = format!("{subject} is progressing.");
            self.set_always(status, condition(PROGRESSING, "True", "ReplicaSetUpdated", message));
        } else if reason != "NewReplicaSetAvailable" && reason != "ProgressDeadlineExceeded" {
            self.watch_deadline(current, deadline_s, subject, status, plan);
        }
    }

    fn watch_deadline(
        &self,
        current: Option<&DeploymentCondition>,
        deadline_s: i32,
        subject: &str,
        status: &mut DeploymentStatus,
        plan: &mut Plan,
    ) {
        let since = current.and_then(|c| c.last_update_time.as_ref()).map_or(self.view.now, |t| t.0);
        let deadline = since + SignedDuration::from_secs(i64::from(deadline_s));
        if deadline > self.view.now {
            plan.wake(deadline);
            return;
        }
        let message = format!("{subject} has timed out progressing.");
        self.set(status, condition(PROGRESSING, "False", "ProgressDeadlineExceeded", message));
    }

    /// Sets a condition unless status and reason are the same.
    fn set(&self, status: &mut DeploymentStatus, new: DeploymentCondition) {
        let same = find(status, new.type_.as_deref().unwrap_or_default())
            .is_some_and(|c| c.status == new.status && c.reason == new.reason);
        if !same {
            self.set_always(status, new);
        }
    }

    /// Sets a condition and its update time; the transition time moves only with the status.
    fn set_always(&self, status: &mut DeploymentStatus, mut new: DeploymentCondition) {
        let now = conditions::time(self.view.now);
        let type_ = new.type_.clone().unwrap_or_default();
        let old = find(status, &type_).filter(|c| c.status == new.status);
        new.last_transition_time =
            Some(old.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| now.clone()));
        new.last_update_time = Some(now);
        remove(status, &type_);
        status.conditions.get_or_insert_default().push(new);
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: None,
        last_update_time: None,
    }
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(type_))
}

fn message_of(condition: Option<&DeploymentCondition>) -> &str {
    condition.and_then(|c| c.message.as_deref()).unwrap_or_default()
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(list) = &mut status.conditions {
        list.retain(|c| c.type_.as_deref() != Some(type_));
    }
}

fn is_complete(status: &DeploymentStatus, wanted: i32) -> bool {
    let is = |n: Option<i32>| n.unwrap_or(0) == wanted;
    is(status.updated_replicas) && is(status.replicas) && is(status.available_replicas)
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || outdated(new) < outdated(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}
