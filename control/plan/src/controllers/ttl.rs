//! ttlSecondsAfterFinished: finished Jobs that are not to stay.

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;

use super::common::meta;
use super::{Action, Change, Controller, Key, KindRef, Plan, Propagation, Snapshot, View, name_of};

/// The controller.
pub struct TtlAfterFinished;

impl Controller for TtlAfterFinished {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Job>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        let finished = change.of::<Job>().and_then(|(_, new)| end(new?)).is_some();
        if finished { vec![change.key.clone()] } else { Vec::new() }
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(job) = view.snapshot.get::<Job>(&key.name) else { return plan };
        let Some(end) = end(job).filter(|_| !meta::is_deleting(&job.metadata)) else { return plan };
        if end > view.now {
            plan.wake(end);
            return plan;
        }
        plan.push(Action::Delete {
            kind: KindRef::of::<Job>(),
            name: name_of(&job.metadata),
            uid: meta::uid(&job.metadata).to_owned(),
            // Somebody may have raised the time to live since.
            resource_version: job.metadata.resource_version.clone(),
            grace_s: None,
            propagation: Some(Propagation::Foreground),
        });
        plan
    }
}

/// When the Job is to go. None while it runs, or where it has no time to live.
fn end(job: &Job) -> Option<jiff::Timestamp> {
    let ttl_s = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let finished =
        conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(finished.last_transition_time.as_ref()?.0 + SignedDuration::from_secs(i64::from(ttl_s)))
}
