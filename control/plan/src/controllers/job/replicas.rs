//! How many pods run now, and which indexes they have.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobStatus;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodTemplateSpec};

use super::{INDEX, TRACKING, Work, counting, indexes};
use crate::controllers::common::{claim, meta, pods, template};
use crate::controllers::{Plan, Write};

/// First pause after a failure; it doubles with every further one.
const BACKOFF_S: i64 = 10;
const BACKOFF_S_MAX: i64 = 600;
/// Pods made or removed by one plan.
const BURST: usize = 500;

impl Work<'_> {
    /// Makes or removes pods so that as many run as may.
    pub(super) fn scale(&self, status: &JobStatus, plan: &mut Plan) {
        let active: Vec<&Pod> = self.active().collect();
        let wanted = self.wanted(status);
        if active.len() > wanted {
            // The youngest have done least.
            active.iter().rev().take(active.len() - wanted).for_each(|p| self.remove(p, plan));
            return;
        }
        // Replacements that wait for the end of pods being deleted leave their places taken.
        let patient = self.spec.pod_replacement_policy.as_deref() == Some("Failed");
        let leaving = self.pods.iter().filter(|p| meta::is_deleting(&p.metadata) && !pods::is_finished(p)).count();
        let missing = wanted.saturating_sub(active.len() + if patient { leaving } else { 0 }).min(BURST);
        if missing == 0 {
            return;
        }
        if let Some(at) = self.backoff_end().filter(|at| *at > self.view.now) {
            plan.wake(at);
            return;
        }
        if self.is_indexed() {
            let free = self.free_indexes(status, &active);
            plan.writes.extend(free.into_iter().take(missing).map(|i| self.creation(Some(i))));
        } else {
            plan.writes.extend((0..missing).map(|_| self.creation(None)));
        }
    }

    /// Pods that may run at once.
    fn wanted(&self, status: &JobStatus) -> usize {
        let succeeded = counting::succeeded(status);
        match self.completions() {
            Some(completions) => self.parallelism().min(completions.saturating_sub(succeeded)),
            // Once one worker found the queue empty, no new ones start.
            None if succeeded > 0 => self.active().count().min(self.parallelism()),
            None => self.parallelism(),
        }
    }

    fn free_indexes(&self, status: &JobStatus, active: &[&Pod]) -> Vec<usize> {
        let done = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default());
        let taken: BTreeSet<usize> = active.iter().filter_map(|p| self.index(p)).collect();
        (0..self.completions().unwrap_or(0)).filter(|i| !done.contains(i) && !taken.contains(i)).collect()
    }

    /// Until when no pod may be made, because the last ones failed.
    fn backoff_end(&self) -> Option<Timestamp> {
        let last_success = self.ends("Succeeded").max();
        let failures: Vec<Timestamp> = self.ends("Failed").filter(|at| Some(*at) >= last_success).collect();
        let doublings = u32::try_from(failures.len().checked_sub(1)?).unwrap_or(u32::MAX).min(10);
        let pause_s = (BACKOFF_S << doublings).min(BACKOFF_S_MAX);
        failures.into_iter().max().map(|at| at + SignedDuration::from_secs(pause_s))
    }

    /// When pods that ended that way ended.
    fn ends(&self, phase: &'static str) -> impl Iterator<Item = Timestamp> + '_ {
        self.pods.iter().filter(move |p| pods::phase(p) == phase).filter_map(|p| end_of(p))
    }

    fn creation(&self, index: Option<usize>) -> Write {
        let mut pod = template::pod(self.job, &self.template(index));
        pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
        if let Some(index) = index {
            pod.metadata.generate_name = Some(format!("{}-{index}-", meta::name(&self.job.metadata)));
            pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
            pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
        }
        Write {
            action: claim::create(&pod),
            done: Some(meta::normal(self.job, "SuccessfulCreate", "Created pod: {name}")),
            failed: Some(meta::warning(self.job, "FailedCreate", "Error creating: {error}")),
        }
    }

    /// The Job's template; for an index with its host name and environment variable.
    fn template(&self, index: Option<usize>) -> PodTemplateSpec {
        let mut template = self.spec.template.clone();
        let (Some(index), Some(spec)) = (index, template.spec.as_mut()) else { return template };
        spec.hostname.get_or_insert_with(|| format!("{}-{index}", meta::name(&self.job.metadata)));
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for container in containers {
            let env = container.env.get_or_insert_default();
            if !env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
                env.push(index_variable());
            }
        }
        template
    }
}

fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: format!("metadata.annotations['{INDEX}']"),
    };
    EnvVar {
        name: "JOB_COMPLETION_INDEX".to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

/// When the last container ended; the pod's birth where no container ever ran.
fn end_of(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let ended = statuses.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()).map(|t| t.0).max();
    ended.or_else(|| pod.metadata.creation_timestamp.as_ref().map(|t| t.0))
}
