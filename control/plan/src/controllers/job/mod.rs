//! Job: pods that run to completion, so many times, so many at once.
//!
//! Owns counting that survives the loss of pods: each pod carries a finalizer until its end is written to the status.
//!
//! ```text
//!   pod ends ─► uid in status.uncountedTerminatedPods ─► finalizer removed ─► counted in succeeded/failed
//! ```
//!
//! Each arrow is a write of its own, seen in the caches before the next is planned: killed at any moment, nothing is
//! counted twice or not at all. Jobs with `managedBy` somebody else are not touched.

mod conclusion;
mod counting;
mod indexes;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::common::{claim, conditions, labels, meta, pods, template};
use super::{Change, Controller, Key, KindRef, Plan, Question, Snapshot, View};
use conclusion::Verdict;

/// Holds a pod until it is counted.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of pods of Indexed Jobs.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const US: &str = "kubernetes.io/job-controller";

/// The controller.
pub struct Jobs;

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Job>(), KindRef::of::<Pod>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let mut keys = template::owners::<Pod, Job>(change, snapshot, selector);
        keys.extend(template::itself::<Job>(change));
        keys
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let job = view.snapshot.get::<Job>(&key.name).filter(|j| is_ours(j));
        let Some((job, selector)) = job.and_then(|j| Some((j, selector(j)?))) else { return Vec::new() };
        claim::ask::<Pod, Job>(job, selector, view.snapshot)
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(job) = view.snapshot.get::<Job>(&key.name).filter(|j| is_ours(j)) else {
            free_orphans(key, view, &mut plan);
            return plan;
        };
        let (Some(spec), Some(selector)) = (&job.spec, selector(job)) else { return plan };
        let claimed = claim::claim::<Pod, Job>(job, selector, view, pods::is_active);
        claimed.writes.into_iter().for_each(|w| plan.push(w));
        let work = Work::new(job, spec, claimed.held, view);
        if plan.writes.is_empty() {
            work.advance(&mut plan);
        }
        plan
    }
}

fn is_ours(job: &Job) -> bool {
    job.spec.as_ref().and_then(|s| s.managed_by.as_deref()).is_none_or(|m| m == US)
}

/// The Job's selector; the server generates it. An empty one would select everything.
fn selector(job: &Job) -> Option<&LabelSelector> {
    job.spec.as_ref()?.selector.as_ref().filter(|s| !labels::is_empty(s))
}

/// Pods of a Job that is gone must not be held by a finalizer nobody will remove.
fn free_orphans(key: &Key, view: &View<'_>, plan: &mut Plan) {
    if view.snapshot.get::<Job>(&key.name).is_some() {
        return;
    }
    for pod in view.snapshot.list_in::<Pod>(&key.name.namespace) {
        let named = meta::controller_named::<Job>(&pod.metadata) == Some(&key.name.name);
        if named && is_tracked(pod) {
            plan.push(untrack(pod));
        }
    }
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == TRACKING)
}

fn untrack(pod: &Pod) -> super::Action {
    let rest: Vec<String> = pod.metadata.finalizers.iter().flatten().filter(|f| *f != TRACKING).cloned().collect();
    meta::patch_links(
        KindRef::of::<Pod>(),
        &pod.metadata,
        pod.metadata.owner_references.as_deref().unwrap_or_default(),
        &rest,
    )
}

/// One Job with its pods.
struct Work<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    /// Owned pods.
    pods: Vec<&'a Pod>,
    view: &'a View<'a>,
}

impl<'a> Work<'a> {
    fn new(job: &'a Job, spec: &'a JobSpec, mut pods: Vec<&'a Pod>, view: &'a View<'a>) -> Work<'a> {
        pods.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), p.metadata.name.clone()));
        Work { job, spec, pods, view }
    }

    fn status(&self) -> JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    fn active(&self) -> impl Iterator<Item = &'a Pod> + '_ {
        self.pods.iter().copied().filter(|p| pods::is_active(p))
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn parallelism(&self) -> usize {
        usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0)
    }

    fn completions(&self) -> Option<usize> {
        self.spec.completions.and_then(|c| usize::try_from(c).ok())
    }

    /// One wave: count, then conclude, then make or remove pods; the status last.
    fn advance(&self, plan: &mut Plan) {
        let old = self.status();
        if conclusion::is_finished(&old) {
            self.pods.iter().filter(|p| is_tracked(p)).for_each(|p| plan.push(untrack(p)));
            return;
        }
        let mut status = old.clone();
        self.count(&mut status);
        self.untrack_counted(&old, plan);
        let verdict = self.verdict(&status, plan);
        self.start(&mut status, plan);
        if meta::is_deleting(&self.job.metadata) || verdict != Verdict::Running || self.is_suspended() {
            self.active().for_each(|p| self.remove(p, plan));
        } else {
            self.scale(&status, plan);
        }
        self.observe(&mut status);
        self.conclude(verdict, &mut status, plan);
        if self.job.status.as_ref() != Some(&status) {
            let job = Job { status: Some(status), ..self.job.clone() };
            plan.push(claim::put_status(&job));
        }
    }

    /// startTime and the Suspended condition.
    fn start(&self, status: &mut JobStatus, plan: &mut Plan) {
        let suspended = conclusion::find(status, "Suspended").is_some_and(|c| c.status == "True");
        if self.is_suspended() {
            if !suspended {
                let condition =
                    conclusion::condition("Suspended", "True", "JobSuspended", "Job suspended", self.view.now);
                conclusion::set(status, condition);
                plan.events.push(meta::normal(self.job, "Suspended", "Job suspended"));
            }
            status.start_time = None;
            return;
        }
        if suspended {
            let condition = conclusion::condition("Suspended", "False", "JobResumed", "Job resumed", self.view.now);
            conclusion::set(status, condition);
            plan.events.push(meta::normal(self.job, "Resumed", "Job resumed"));
        }
        if status.start_time.is_none() {
            status.start_time = Some(conditions::time(self.view.now));
        }
    }

    fn remove(&self, pod: &Pod, plan: &mut Plan) {
        let note = meta::normal(self.job, "SuccessfulDelete", format!("Deleted pod: {}", meta::name(&pod.metadata)));
        plan.push_noted(meta::delete(KindRef::of::<Pod>(), &pod.metadata), note);
    }

    /// Numbers that are simply what is.
    fn observe(&self, status: &mut JobStatus) {
        let some = |n: usize| i32::try_from(n).ok().filter(|n| *n > 0);
        status.active = some(self.active().count());
        status.ready = Some(some(self.active().filter(|p| pods::is_ready(p)).count()).unwrap_or(0));
        let leaving = |p: &&&Pod| meta::is_deleting(&p.metadata) && !pods::is_finished(p);
        status.terminating = Some(some(self.pods.iter().filter(leaving).count()).unwrap_or(0));
    }
}

/// Uids in one of the two lists of uncounted pods.
fn uids(list: Option<&Vec<String>>) -> BTreeSet<&str> {
    list.into_iter().flatten().map(String::as_str).collect()
}
