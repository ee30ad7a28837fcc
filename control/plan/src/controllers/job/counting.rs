//! Every end of a pod is counted once.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::{Work, indexes, is_tracked, uids, untrack};
use crate::controllers::Plan;
use crate::controllers::common::{meta, pods};

/// How a pod ended, as far as the Job is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed,
}

impl Work<'_> {
    /// A pod being deleted counts as failed already, unless replacements wait for its end.
    fn end(&self, pod: &Pod) -> Option<End> {
        let patient = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        match pods::phase(pod) {
            "Succeeded" => Some(End::Succeeded),
            "Failed" => Some(End::Failed),
            _ if meta::is_deleting(&pod.metadata) && !patient => Some(End::Failed),
            _ => None,
        }
    }

    /// Moves what has lost its finalizer into the counters, and notes what has ended since.
    pub(super) fn count(&self, status: &mut JobStatus) {
        let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let tracked: BTreeSet<&str> =
            self.pods.iter().filter(|p| is_tracked(p)).map(|p| meta::uid(&p.metadata)).collect();
        let settle = |list: Option<Vec<String>>| -> (Vec<String>, usize) {
            let (held, free): (Vec<String>, Vec<String>) =
                list.unwrap_or_default().into_iter().partition(|uid| tracked.contains(uid.as_str()));
            (held, free.len())
        };
        let (mut succeeded, freed_succeeded) = settle(uncounted.succeeded);
        let (mut failed, freed_failed) = settle(uncounted.failed);
        add(&mut status.succeeded, freed_succeeded);
        add(&mut status.failed, freed_failed);
        let mut done = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
        for pod in self.pods.iter().filter(|p| is_tracked(p)) {
            let uid = meta::uid(&pod.metadata).to_owned();
            if succeeded.contains(&uid) || failed.contains(&uid) {
                continue;
            }
            match self.end(pod) {
                Some(End::Succeeded) if self.is_indexed() => match self.index(pod) {
                    Some(index) if done.insert(index) => succeeded.push(uid),
                    // A second success of an index adds nothing, but must not keep its finalizer.
                    _ => failed.push(uid),
                },
                Some(End::Succeeded) => succeeded.push(uid),
                Some(End::Failed) => failed.push(uid),
                None => {}
            }
        }
        if self.is_indexed() {
            status.completed_indexes = Some(indexes::format(&done)).filter(|s| !s.is_empty());
        }
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
    }

    /// Takes the finalizer from pods that the written status already lists.
    pub(super) fn untrack_counted(&self, written: &JobStatus, plan: &mut Plan) {
        let Some(uncounted) = &written.uncounted_terminated_pods else { return };
        let listed: BTreeSet<&str> =
            uids(uncounted.succeeded.as_ref()).union(&uids(uncounted.failed.as_ref())).copied().collect();
        for pod in self.pods.iter().filter(|p| is_tracked(p) && listed.contains(meta::uid(&p.metadata))) {
            plan.push(untrack(pod));
        }
    }

    /// The index of a pod of an Indexed Job, if it is one the Job has.
    pub(super) fn index(&self, pod: &Pod) -> Option<usize> {
        let index = meta::annotation(&pod.metadata, super::INDEX)?.parse().ok()?;
        self.completions().is_none_or(|n| index < n).then_some(index)
    }
}

/// Succeeded pods, those not yet in the counter included.
pub(super) fn succeeded(status: &JobStatus) -> usize {
    let listed = status.uncounted_terminated_pods.as_ref().and_then(|u| u.succeeded.as_ref()).map_or(0, Vec::len);
    usize::try_from(status.succeeded.unwrap_or(0)).unwrap_or(0) + listed
}

/// Failed pods, those not yet in the counter included.
pub(super) fn failed(status: &JobStatus) -> usize {
    let listed = status.uncounted_terminated_pods.as_ref().and_then(|u| u.failed.as_ref()).map_or(0, Vec::len);
    usize::try_from(status.failed.unwrap_or(0)).unwrap_or(0) + listed
}

fn add(counter: &mut Option<i32>, by: usize) {
    if by > 0 {
        *counter = Some(counter.unwrap_or(0).saturating_add(i32::try_from(by).unwrap_or(i32::MAX)));
    }
}
