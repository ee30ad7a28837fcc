//! Taking in what happened: every message changes what is observed, nothing more.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pintle_kubelet_plan::containers::{find, uid};
use pintle_kubelet_plan::image::{ImageName, missing, pull_policy};
use pintle_kubelet_plan::observed::{Failure, Stage, Unhealthy};
use pintle_kubelet_plan::probe::ProbeKind;
use pintle_shim::Event;

use super::{Message, ProbeReport, Worker};
use crate::disk;
use crate::error::{PodError, chain};
use crate::images::{ImageError, ResolvedImage};

/// How long to wait before a failed sandbox, volume or tear-down is tried again: first, and at most.
const RETRY_S: i64 = 2;
const RETRY_S_MAX: i64 = 120;

impl Worker {
    pub(super) fn handle(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => self.pod_changed(pod),
            Message::Mirror(mirror) => {
                let uid = |m: &Option<Arc<k8s_openapi::api::core::v1::Pod>>| m.as_ref().map(|m| uid(m).to_owned());
                if uid(&mirror) != uid(&self.mirror) {
                    self.reporter.forget();
                }
                self.mirror = mirror;
            }
            Message::Gone(pod) => {
                self.pod = pod;
                self.gone = true;
            }
            Message::ObjectsChanged => self.objects_changed(),
            Message::Wake => {}
            Message::Sandbox(result) => self.sandbox_done(result),
            Message::Volumes(result) => self.volumes_done(result),
            Message::Image { container, result } => self.image_done(&container, result),
            Message::Started { container, id, result } => self.started(&container, &id, result),
            Message::Shim(Some(Event::Exited { state })) => self.exited(state),
            // Execs are waited for on connections of their own.
            Message::Shim(Some(Event::ExecExited { .. })) => {}
            Message::Shim(None) => self.shim_gone(),
            Message::Probe(report) => self.probed(report),
            Message::TornDown(result) => self.torn_down(result),
            Message::Deleted => self.gone = true,
            Message::StatusWritten(result) => self.status_written(result),
        }
    }

    fn pod_changed(&mut self, pod: Arc<k8s_openapi::api::core::v1::Pod>) {
        self.ctx.objects.watch(&pod, &self.tell);
        let shown = |p: &k8s_openapi::api::core::v1::Pod| (p.metadata.labels.clone(), p.metadata.annotations.clone());
        if shown(&self.pod) != shown(&pod) {
            self.refresh_volumes = true;
        }
        self.pod = pod;
    }

    fn objects_changed(&mut self) {
        self.refresh_volumes = true;
        for obs in self.seen.containers.values_mut() {
            // What was missing may be there now; the back-off was for its absence.
            obs.start_failure = obs.start_failure.take().filter(|f| f.reason != "CreateContainerConfigError");
        }
        if let Stage::Failed { retry_at, .. } = &mut self.seen.volumes {
            *retry_at = Timestamp::now();
        }
    }

    fn sandbox_done(&mut self, result: Result<(crate::shim::Shim, Vec<String>), PodError>) {
        self.seen.sandbox = match result {
            Ok((shim, ips)) => {
                self.shim = Some(shim);
                self.failures = 0;
                Stage::Ready(ips)
            }
            Err(e) => {
                let message = chain(&e);
                let told = format!("Failed to create pod sandbox: {message}");
                self.ctx.event(&self.pod, None, "FailedCreatePodSandBox", told);
                self.failed(message)
            }
        };
    }

    fn volumes_done(&mut self, result: Result<(), PodError>) {
        let up = self.seen.volumes.ready().is_some();
        self.refresh_at = self.tokens.try_lock().ok().and_then(|t| t.renew_at());
        match result {
            Ok(()) => self.seen.volumes = Stage::Ready(()),
            // A refresh that fails leaves the old contents; running containers are not disturbed.
            Err(e) if up => {
                tracing::warn!(pod = self.pod.metadata.name, error = chain(&e), "cannot refresh volumes");
                self.refresh_at = Some(Timestamp::now() + SignedDuration::from_secs(30));
            }
            Err(e) => {
                let message = chain(&e);
                self.ctx.event(&self.pod, None, "FailedMount", format!("MountVolume.SetUp failed : {message}"));
                self.seen.volumes = self.failed(message);
            }
        }
    }

    /// A failed stage, tried again after a while that doubles with every failure in a row.
    fn failed<T>(&mut self, message: String) -> Stage<T> {
        let wait_s = (RETRY_S << self.failures.min(10)).min(RETRY_S_MAX);
        self.failures += 1;
        Stage::Failed { message, retry_at: Timestamp::now() + SignedDuration::from_secs(wait_s) }
    }

    /// Starts a refresh of volumes that is due.
    pub(super) fn refresh(&mut self, now: Timestamp) {
        let due = self.refresh_volumes || self.refresh_at.is_some_and(|at| at <= now);
        if due && self.seen.volumes.ready().is_some() && self.seen.terminating_since.is_none() {
            self.refresh_volumes = false;
            self.refresh_at = None;
            self.mount_volumes();
        }
    }

    fn image_done(&mut self, container: &str, result: Result<Option<ResolvedImage>, ImageError>) {
        let Some((_, spec)) = find(&self.pod, container) else { return };
        match result {
            Ok(Some(image)) => {
                let name = spec.image.as_deref().unwrap_or_default();
                let message = format!("Container image \"{name}\" already present on machine");
                self.ctx.event(&self.pod, Some(spec), "Pulled", message);
                self.images.insert(container.to_owned(), Arc::new(image));
                let obs = self.seen.containers.entry(container.to_owned()).or_default();
                obs.image = Stage::Ready(());
                obs.image_failure = None;
            }
            Ok(None) => {
                let Ok(name) = ImageName::parse(spec.image.as_deref().unwrap_or_default()) else { return };
                let policy = pull_policy(spec.image_pull_policy.as_deref(), &name);
                let (reason, message) = missing(policy, &name);
                self.image_failed(container, reason, &message);
            }
            Err(e) => self.image_failed(container, "ErrImagePull", &chain(&e)),
        }
    }

    /// Keeps the failure, with the back-off's name from the second time on.
    pub(super) fn image_failed(&mut self, container: &str, reason: &str, message: &str) {
        let now = Timestamp::now();
        let obs = self.seen.containers.entry(container.to_owned()).or_default();
        let backoff = obs.image_failure.as_ref().map(|f| f.backoff).unwrap_or_default().raised(now);
        let again = obs.image_failure.is_some() && reason == "ErrImagePull";
        let reason = if again { "ImagePullBackOff" } else { reason };
        let failure = Failure { reason: reason.to_owned(), message: message.to_owned(), at: now, backoff };
        obs.image = Stage::Failed { message: message.to_owned(), retry_at: backoff.allowed_at(now) };
        obs.image_failure = Some(failure);
        if let Some((_, spec)) = find(&self.pod, container) {
            let image = spec.image.as_deref().unwrap_or_default();
            if again {
                self.ctx.event(&self.pod, Some(spec), "BackOff", format!("Back-off pulling image \"{image}\""));
            } else {
                self.ctx.event(&self.pod, Some(spec), "Failed", format!("Error: {reason}: {message}"));
            }
        }
    }

    fn probed(&mut self, report: ProbeReport) {
        let current = self.jobs.get(&report.container).is_some_and(|job| job.id == report.id);
        let Some(obs) = self.seen.containers.get_mut(&report.container).filter(|o| current && o.running()) else {
            return;
        };
        if let (Some(why), Some((_, spec))) = (&report.failure, find(&self.pod, &report.container)) {
            let message = format!("{} probe failed: {why}", report.kind.word());
            self.ctx.event(&self.pod, Some(spec), "Unhealthy", message);
        }
        if let (Some(why), Some((_, spec))) = (&report.warning, find(&self.pod, &report.container)) {
            let message = format!("{} probe warning: {why}", report.kind.word());
            self.ctx.event(&self.pod, Some(spec), "ProbeWarning", message);
        }
        let unhealthy = |probe| Some(Unhealthy { probe, grace_s: report.grace_s });
        match (report.kind, report.good) {
            (_, None) => {}
            (ProbeKind::Readiness, Some(good)) => obs.probes.ready = good,
            (ProbeKind::Startup, Some(false)) => obs.probes.unhealthy = unhealthy("startup"),
            (ProbeKind::Liveness, Some(false)) => obs.probes.unhealthy = unhealthy("liveness"),
            (ProbeKind::Liveness, Some(true)) => {}
            (ProbeKind::Startup, Some(true)) => {
                if !obs.probes.started {
                    obs.probes.started = true;
                    self.begin_probes(&report.container, true);
                }
            }
        }
    }

    fn torn_down(&mut self, result: Result<(), PodError>) {
        match result {
            Ok(()) => {
                self.seen.sandbox = Stage::Removed;
                self.seen.volumes = Stage::Removed;
            }
            Err(e) => {
                let message = chain(&e);
                tracing::warn!(pod = self.pod.metadata.name, error = message, "cannot tear down a pod");
                self.seen.sandbox = self.failed(message);
                self.seen.volumes = Stage::Absent;
            }
        }
    }

    /// Removes the last traces of a pod that is torn down and in nobody's books any more.
    pub(super) fn finish_if_gone(&mut self) {
        let removed = matches!(self.seen.sandbox, Stage::Removed) && matches!(self.seen.volumes, Stage::Removed);
        if !(self.gone && removed) {
            return;
        }
        let dirs = &self.ctx.config.dirs;
        let pod_dir = super::start::log_dir(&self.pod);
        let swept = disk::remove_tree(&dirs.pod_run(uid(&self.pod)))
            .and_then(|()| disk::remove_tree(&dirs.pod_logs.join(pod_dir)));
        if let Err(e) = swept {
            tracing::warn!(pod = self.pod.metadata.name, error = chain(&e), "cannot remove a pod's last files");
        }
        self.finished = true;
    }
}
