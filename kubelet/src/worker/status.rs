//! Telling the API server: one status write under way at a time, the newest wins.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use pintle_client::Patch;
use pintle_kubelet_plan::containers::{name, namespace, uid};
use pintle_kubelet_plan::observed::{AttemptState, ContainerObs, Stage};
use pintle_kubelet_plan::status::pod_status;
use serde_json::{Map, Value, json};

use super::{ContainerView, Message, Origin, PodView, Worker};
use crate::error::chain;

/// A pod that is being made tells nothing for this long: the news that it runs would have to wait for the answer.
const QUIET_MS: i64 = 200;

/// What was told last.
#[derive(Default)]
pub(super) struct Reporter {
    busy: bool,
    told: Option<PodStatus>,
    backoff: Option<pintle_client::Backoff>,
}

impl Reporter {
    /// What was told was told to another object.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }
}

impl Worker {
    /// Computes the status, shows it to the kubelet's API and writes it if it is news. Returns when to come back.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<Timestamp> {
        let target = match self.origin {
            Origin::Manifest => self.mirror.clone(),
            Origin::ApiServer => Some(self.pod.clone()),
        };
        let shown = target.as_ref().unwrap_or(&self.pod).status.clone().unwrap_or_default();
        let previous = self.reporter.told.clone().map_or(shown.clone(), |told| with_foreign(told, &shown));
        let facts = self.ctx.facts_of(&self.pod, &self.ips());
        let status = pod_status(&self.pod, &self.seen, &previous, &facts, now);
        self.show(&status);
        let target = target.filter(|_| !self.gone)?;
        let known = self.reporter.told.as_ref().unwrap_or(&shown);
        if self.reporter.busy || *known == status {
            return None;
        }
        let quiet_until = self.born + SignedDuration::from_millis(QUIET_MS);
        if now < quiet_until && self.just_setting_up() {
            return Some(quiet_until);
        }
        let patch = patch_of(&target, known, &status);
        self.reporter.busy = true;
        self.reporter.told = Some(status);
        let (ctx, pause) = (self.ctx.clone(), self.reporter.backoff.as_mut().map(pintle_client::Backoff::delay));
        self.spawn_step(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let (namespace, name) = (namespace(&target), name(&target));
            let written = ctx.client.patch_sub::<Pod>(namespace, name, "status", &Patch::Merge(patch)).await;
            Message::StatusWritten(written.map(Box::new))
        });
        None
    }

    /// Whether all there is to tell is that the pod is being made, without any trouble.
    fn just_setting_up(&self) -> bool {
        let calm =
            |obs: &ContainerObs| obs.attempt.is_none() && obs.start_failure.is_none() && obs.image_failure.is_none();
        let failed =
            matches!(self.seen.sandbox, Stage::Failed { .. }) || matches!(self.seen.volumes, Stage::Failed { .. });
        let live = self.seen.rejected.is_none() && self.seen.terminating_since.is_none();
        live && !failed && self.seen.containers.values().all(calm)
    }

    pub(super) fn status_written(&mut self, result: Result<Box<Pod>, pintle_client::Error>) {
        self.reporter.busy = false;
        match result {
            Ok(_) => self.reporter.backoff = None,
            // The pod is gone, or another has its name: its deletion is on its way to us.
            Err(e) if e.is_not_found() || e.is_conflict() => {}
            Err(e) => {
                tracing::warn!(pod = name(&self.pod), error = chain(&e), "cannot write a pod's status");
                self.reporter.told = None;
                let longest = Duration::from_secs(10);
                self.reporter
                    .backoff
                    .get_or_insert_with(|| pintle_client::Backoff::new(Duration::from_millis(200), longest));
            }
        }
    }

    fn show(&self, status: &PodStatus) {
        let view = |obs: &ContainerObs| {
            obs.attempt.as_ref().map(|attempt| ContainerView {
                id: attempt.id.clone(),
                attempt: attempt.number,
                running: matches!(attempt.state, AttemptState::Running { .. }),
                previous_attempt: obs.previous.as_ref().map(|p| p.number),
            })
        };
        let containers: std::collections::BTreeMap<_, _> =
            self.seen.containers.iter().filter_map(|(n, obs)| Some((n.clone(), view(obs)?))).collect();
        let pod = self.pod.clone();
        self.view.send_if_modified(|old| {
            let same = old.status == *status && old.containers == containers && Arc::ptr_eq(&old.pod, &pod);
            if !same {
                *old = PodView { pod, status: status.clone(), containers };
            }
            !same
        });
    }
}

/// What we told, with the conditions others wrote since.
fn with_foreign(mut told: PodStatus, shown: &PodStatus) -> PodStatus {
    const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = told.conditions.get_or_insert_default();
    conditions.retain(|c| OWN.contains(&c.type_.as_str()));
    let foreign = shown.conditions.iter().flatten().filter(|c| !OWN.contains(&c.type_.as_str()));
    conditions.extend(foreign.cloned());
    told
}

/// A merge patch of the fields that differ. The uid keeps it off a new pod of the same name.
fn patch_of(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Value {
    let fields = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let mut changed: Map<String, Value> =
        new.iter().filter(|(k, v)| old.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    for gone in old.keys().filter(|k| !new.contains_key(*k)) {
        changed.insert(gone.clone(), Value::Null);
    }
    json!({ "metadata": { "uid": uid(pod) }, "status": changed })
}
