//! Starting what a plan says. Nothing is decided here.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use pintle_kubelet_plan::Action;
use pintle_kubelet_plan::containers::{find, name, namespace, uid};
use pintle_kubelet_plan::image::ImageName;
use pintle_kubelet_plan::life::StopReason;
use pintle_kubelet_plan::observed::{Busy, Stage};
use tokio_util::sync::CancellationToken;

use super::{Job, Message, Origin, Worker, blocking, sandbox, start, stop, tear_down};
use crate::context::Context;
use crate::error::chain;

impl Worker {
    pub(super) fn apply(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::SetUpSandbox => {
                self.seen.sandbox = Stage::Busy;
                let (ctx, pod, tell) = (self.ctx.clone(), self.pod.clone(), self.tell.clone());
                self.spawn_step(async move { Message::Sandbox(sandbox::set_up(ctx, pod, tell).await) });
            }
            Action::MountVolumes => {
                self.seen.volumes = Stage::Busy;
                self.mount_volumes();
            }
            Action::ResolveImage { container } => self.resolve_image(container),
            Action::Start { container, attempt } => self.start(&container, attempt, now),
            Action::Stop { container, deadline, why } => self.stop(&container, deadline, why),
            Action::TearDown => self.tear_down(),
            Action::Delete => self.delete(),
        }
    }

    /// Volumes may need the pod's addresses, which come with the sandbox; without a field that asks for them they
    /// do not wait. Also used to refresh volumes that are there.
    pub(super) fn mount_volumes(&self) {
        let (ctx, pod, tokens, ips) = (self.ctx.clone(), self.pod.clone(), self.tokens.clone(), self.ips());
        self.spawn_step(async move { Message::Volumes(sandbox::mount_volumes(ctx, pod, tokens, ips).await) });
    }

    fn resolve_image(&mut self, container: String) {
        let image = find(&self.pod, &container).and_then(|(_, c)| c.image.clone()).unwrap_or_default();
        self.seen.containers.entry(container.clone()).or_default().image = Stage::Busy;
        let name = match ImageName::parse(&image) {
            Ok(name) => name,
            Err(e) => return self.image_failed(&container, "InvalidImageName", &e.to_string()),
        };
        let images = self.ctx.images.clone();
        self.spawn_step(async move {
            let result = blocking(move || images.resolve(&name.full)).await;
            Message::Image { container, result }
        });
    }

    fn start(&mut self, container: &str, attempt: u32, now: Timestamp) {
        let (Some((role, spec)), Some(image), Some(shim)) =
            (find(&self.pod, container), self.images.get(container).cloned(), self.shim.clone())
        else {
            return;
        };
        let obs = self.seen.containers.entry(container.to_owned()).or_default();
        obs.busy = Some(Busy::Starting);
        obs.probes = Default::default();
        if obs.attempt.is_some() {
            obs.crash = obs.crash.raised(now);
        }
        let id = start::new_id(uid(&self.pod), container, attempt, now);
        let exited = CancellationToken::new();
        let job = Job { id: id.clone(), exited: exited.clone(), probes: Vec::new(), stop: None };
        self.jobs.insert(container.to_owned(), job);
        let order = start::Order {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            role,
            container: spec.clone(),
            id: id.clone(),
            attempt,
            old: obs.attempt.clone(),
            image,
            shim,
            ips: self.seen.sandbox.ready().cloned().unwrap_or_default(),
            exited,
        };
        let container = container.to_owned();
        self.spawn_step(async move { Message::Started { container, id, result: start::run(order).await } });
    }

    fn stop(&mut self, container: &str, deadline: Timestamp, why: StopReason) {
        let Some((_, spec)) = find(&self.pod, container) else { return };
        let message = match why {
            StopReason::PodEnds | StopReason::MainsOver => format!("Stopping container {container}"),
            StopReason::Unhealthy => {
                let probe = self.seen.container(container).probes.unhealthy.as_ref().map_or("liveness", |u| u.probe);
                format!("Container {container} failed {probe} probe, will be restarted")
            }
        };
        let Some(obs) = self.seen.containers.get_mut(container) else { return };
        let again = matches!(obs.busy, Some(Busy::Stopping { .. }));
        obs.busy = Some(Busy::Stopping { deadline });
        let (Some(shim), Some(job)) = (self.shim.clone(), self.jobs.get_mut(container)) else { return };
        if let Some(old) = job.stop.take() {
            old.abort();
        }
        if !again {
            self.ctx.event(&self.pod, Some(spec), "Killing", message);
        }
        let order = stop::Order {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            container: spec.clone(),
            id: job.id.clone(),
            signal: self.images.get(container).map(|i| i.settings.stop_signal.clone()).unwrap_or_default(),
            deadline,
            hook: !again,
            shim,
            ips: self.seen.sandbox.ready().cloned().unwrap_or_default(),
            exited: job.exited.clone(),
        };
        let task = tokio::spawn(Box::pin(stop::run(order)));
        if let Some(job) = self.jobs.get_mut(container) {
            job.stop = Some(task.abort_handle());
        }
    }

    fn tear_down(&mut self) {
        self.seen.sandbox = Stage::Busy;
        self.seen.volumes = Stage::Busy;
        self.jobs.clear();
        let (ctx, pod, shim) = (self.ctx.clone(), self.pod.clone(), self.shim.take());
        self.spawn_step(async move { Message::TornDown(tear_down::run(ctx, uid(&pod).to_owned(), shim).await) });
    }

    fn delete(&mut self) {
        if self.deleting || self.gone || self.origin == Origin::Manifest {
            return;
        }
        self.deleting = true;
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        self.spawn_step(async move {
            delete(&ctx, &pod).await;
            Message::Deleted
        });
    }
}

/// Deletes the object for good, however long the API server is away.
async fn delete(ctx: &Context, pod: &Pod) {
    let options = pintle_client::delete_options(Some(uid(pod)), Some(0));
    let mut backoff = pintle_client::Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        match ctx.client.delete::<Pod>(namespace(pod), name(pod), &options).await {
            Ok(_) => return,
            // Gone, or another pod of that name by now: this one is deleted either way.
            Err(e) if e.is_not_found() || e.is_conflict() => return,
            Err(e) => tracing::warn!(pod = name(pod), error = chain(&e), "cannot delete a pod's object"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}
