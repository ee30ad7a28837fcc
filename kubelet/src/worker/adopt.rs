//! Coming back: a pod's task finds what an earlier kubelet left running and goes on with it.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use pintle_kubelet_plan::containers::find;
use pintle_kubelet_plan::image::ImageName;
use pintle_kubelet_plan::observed::{AttemptState, Stage};
use pintle_kubelet_plan::status::recall;
use pintle_shim::{Call, ContainerState, ContainerStatus};
use tokio_util::sync::CancellationToken;

use super::{Job, Worker, blocking, sandbox};
use crate::error::chain;
use crate::record::Record;
use crate::shim::Shim;

impl Worker {
    /// Restores what the record and the supervisor know.
    pub(super) async fn adopt(&mut self) {
        let now = Timestamp::now();
        match Record::load(&self.run_dir()) {
            Ok(Some(record)) => {
                self.seen = record.observed();
                self.saved = Some(record);
                self.refresh_volumes = self.seen.volumes.ready().is_some();
            }
            Ok(None) => self.seen.containers = recall(&self.pod, now),
            Err(e) => tracing::warn!(pod = self.pod.metadata.name, error = chain(&e), "cannot read a pod's record"),
        }
        let first = self.pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(now, |t| t.0);
        self.seen.started_at.get_or_insert(first);
        if matches!(self.seen.sandbox, Stage::Ready(_)) {
            match sandbox::connect(&self.run_dir(), self.tell.clone()).await {
                Ok((shim, states)) => self.reconcile(shim, states).await,
                Err(e) => {
                    tracing::warn!(
                        pod = self.pod.metadata.name,
                        error = chain(&e),
                        "a pod's supervisor does not answer"
                    );
                    self.lose_sandbox();
                }
            }
        }
    }

    /// Compares the record with what the supervisor says; the supervisor is right.
    async fn reconcile(&mut self, shim: Shim, states: Vec<ContainerState>) {
        let mut known = HashSet::new();
        let names: Vec<String> = self.seen.containers.keys().cloned().collect();
        for name in names {
            let Some(attempt) = self.seen.container(&name).attempt.clone() else { continue };
            known.insert(attempt.id.clone());
            if !matches!(attempt.state, AttemptState::Running { .. }) {
                continue;
            }
            let state = states.iter().find(|s| s.id == attempt.id);
            let job = Job { id: attempt.id.clone(), exited: CancellationToken::new(), probes: Vec::new(), stop: None };
            self.jobs.insert(name.clone(), job);
            match state {
                Some(state) if state.status != ContainerStatus::Stopped => {
                    let started = self.seen.container(&name).probes.started;
                    self.seen.containers.entry(name.clone()).or_default().image = Stage::Ready(());
                    self.recall_image(&name).await;
                    self.begin_probes(&name, started);
                }
                Some(state) => self.exited(state.clone()),
                None => self.exited(unknown(&attempt.id)),
            }
        }
        // A container made just before the kubelet died is in no record: it goes, and is made anew.
        for stray in states.iter().filter(|s| !known.contains(&s.id)) {
            for call in [
                Call::Kill { container: stray.id.clone(), signal: 9, all: true },
                Call::Delete { container: stray.id.clone() },
            ] {
                if let Err(e) = shim.call(call).await {
                    tracing::debug!(container = stray.id, error = chain(&e), "cannot remove a stray container");
                }
            }
        }
        self.shim = Some(shim);
    }

    /// A running container's image says how it wants to be stopped.
    async fn recall_image(&mut self, container: &str) {
        let image = find(&self.pod, container).and_then(|(_, c)| c.image.clone()).unwrap_or_default();
        let Ok(name) = ImageName::parse(&image) else { return };
        let images = self.ctx.images.clone();
        match blocking(move || images.resolve(&name.full)).await {
            Ok(Some(image)) => drop(self.images.insert(container.to_owned(), Arc::new(image))),
            Ok(None) => {}
            Err(e) => tracing::warn!(image, error = chain(&e), "cannot look at a running container's image"),
        }
    }
}

fn unknown(id: &str) -> ContainerState {
    ContainerState {
        id: id.to_owned(),
        pid: 0,
        status: ContainerStatus::Stopped,
        created_ms: 0,
        started_ms: 0,
        finished_ms: 0,
        exit: None,
    }
}
