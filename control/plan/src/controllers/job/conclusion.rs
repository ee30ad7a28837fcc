//! When a Job is over, and how that is said.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};

use super::{Work, counting, indexes};
use crate::controllers::Plan;
use crate::controllers::common::{conditions, meta, pods};

/// What is to become of the Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Running,
    /// Enough pods succeeded.
    Complete,
    /// It failed, for this reason and with these words.
    Failed(&'static str, &'static str),
}

impl Work<'_> {
    pub(super) fn verdict(&self, status: &JobStatus, plan: &mut Plan) -> Verdict {
        if let Some(target) = find(status, "FailureTarget").filter(|c| c.status == "True") {
            return failure(target.reason.as_deref().unwrap_or_default());
        }
        if find(status, "SuccessCriteriaMet").is_some_and(|c| c.status == "True") || self.is_enough(status) {
            return Verdict::Complete;
        }
        if self.has_too_many_failures(status) {
            return failure("BackoffLimitExceeded");
        }
        match self.deadline(status) {
            Some(at) if at <= self.view.now => failure("DeadlineExceeded"),
            Some(at) => {
                plan.wake(at);
                Verdict::Running
            }
            None => Verdict::Running,
        }
    }

    fn is_enough(&self, status: &JobStatus) -> bool {
        let succeeded = counting::succeeded(status);
        match self.completions() {
            Some(wanted) if self.is_indexed() => {
                indexes::parse(status.completed_indexes.as_deref().unwrap_or_default()).len() >= wanted
            }
            Some(wanted) => succeeded >= wanted,
            // A work queue is empty when one says so and all are done.
            None => succeeded > 0 && self.active().next().is_none(),
        }
    }

    /// Failed pods, and restarts within pods that restart in place.
    fn has_too_many_failures(&self, status: &JobStatus) -> bool {
        let limit = usize::try_from(self.spec.backoff_limit.unwrap_or(6)).unwrap_or(usize::MAX);
        if counting::failed(status) > limit {
            return true;
        }
        let in_place = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
        let restarts: i32 = self.active().map(pods::restarts).sum();
        let restarts = usize::try_from(restarts).unwrap_or(0);
        in_place && if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn deadline(&self, status: &JobStatus) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        let start = status.start_time.as_ref().map_or(self.view.now, |t| t.0);
        Some(start + SignedDuration::from_secs(seconds))
    }

    /// Says the verdict: the target at once, the final condition when every pod has ended and is counted.
    pub(super) fn conclude(&self, verdict: Verdict, status: &mut JobStatus, plan: &mut Plan) {
        let now = self.view.now;
        let (target, last, reason, message) = match verdict {
            Verdict::Running => return,
            Verdict::Complete => {
                ("SuccessCriteriaMet", "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
            }
            Verdict::Failed(reason, message) => ("FailureTarget", "Failed", reason, message),
        };
        set(status, condition(target, "True", reason, message, now));
        let uncounted = status.uncounted_terminated_pods.as_ref();
        let all_counted = uncounted.is_none_or(|u| u.succeeded.is_none() && u.failed.is_none());
        if !all_counted || status.active.is_some() || status.terminating.unwrap_or(0) > 0 {
            return;
        }
        set(status, condition(last, "True", reason, message, now));
        status.ready = Some(0);
        if verdict == Verdict::Complete {
            status.completion_time = Some(conditions::time(now));
            plan.events.push(meta::normal(self.job, "Completed", "Job completed"));
        } else {
            plan.events.push(meta::warning(self.job, reason, message));
        }
    }
}

fn failure(reason: &str) -> Verdict {
    match reason {
        "DeadlineExceeded" => Verdict::Failed("DeadlineExceeded", "Job was active longer than specified deadline"),
        _ => Verdict::Failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
    }
}

pub(super) fn is_finished(status: &JobStatus) -> bool {
    ["Complete", "Failed"].iter().any(|t| find(status, t).is_some_and(|c| c.status == "True"))
}

pub(super) fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_)
}

pub(super) fn condition(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(conditions::time(now)),
        last_transition_time: Some(conditions::time(now)),
    }
}

/// Sets a condition unless one of its type has that status already.
pub(super) fn set(status: &mut JobStatus, new: JobCondition) {
    let list = status.conditions.get_or_insert_default();
    match list.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) if old.status == new.status => {}
        Some(old) => *old = new,
        None => list.push(new),
    }
}
