//! What a restarted kubelet must know of a pod and cannot learn from its supervisor: attempts, restart counts, verdicts.
//!
//! Owns: the file `record.json` in the pod's run directory. After a reboot it is gone with the containers; then the
//! status in the API server tells the restart counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use pintle_kubelet_plan::backoff::Backoff;
use pintle_kubelet_plan::observed::{Attempt, ContainerObs, Observed, ProbeView, Rejection, Stage};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{At as _, FileError};

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) pod: Pod,
    pub(crate) started_at: Timestamp,
    pub(crate) rejected: Option<Rejection>,
    pub(crate) ips: Option<Vec<String>>,
    pub(crate) volumes_ready: bool,
    pub(crate) removed: bool,
    pub(crate) containers: BTreeMap<String, ContainerRecord>,
}

/// A container's part of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerRecord {
    pub(crate) attempt: Option<Attempt>,
    pub(crate) previous: Option<Attempt>,
    pub(crate) restarts: u32,
    pub(crate) crash: Backoff,
    pub(crate) started: bool,
    pub(crate) ready: bool,
}

impl Record {
    /// The record of what is observed now.
    pub(crate) fn of(pod: &Pod, seen: &Observed, now: Timestamp) -> Record {
        let container = |obs: &ContainerObs| ContainerRecord {
            attempt: obs.attempt.clone(),
            previous: obs.previous.clone(),
            restarts: obs.restarts,
            crash: obs.crash,
            started: obs.probes.started,
            ready: obs.probes.ready,
        };
        // The status changes all the time and is not needed: the containers above say it all.
        let pod = Pod { metadata: pod.metadata.clone(), spec: pod.spec.clone(), status: None };
        Record {
            pod,
            started_at: seen.started_at.unwrap_or(now),
            rejected: seen.rejected.clone(),
            ips: seen.sandbox.ready().cloned(),
            volumes_ready: seen.volumes.ready().is_some(),
            removed: matches!(seen.sandbox, Stage::Removed) && matches!(seen.volumes, Stage::Removed),
            containers: seen.containers.iter().map(|(name, obs)| (name.clone(), container(obs))).collect(),
        }
    }

    /// What was observed when the record was written; nothing is busy any more.
    pub(crate) fn observed(&self) -> Observed {
        let container = |record: &ContainerRecord| ContainerObs {
            attempt: record.attempt.clone(),
            previous: record.previous.clone(),
            restarts: record.restarts,
            crash: record.crash,
            probes: ProbeView { started: record.started, ready: record.ready, unhealthy: None },
            ..ContainerObs::default()
        };
        let sandbox = match (&self.ips, self.removed) {
            (_, true) => Stage::Removed,
            (Some(ips), false) => Stage::Ready(ips.clone()),
            (None, false) => Stage::Absent,
        };
        Observed {
            rejected: self.rejected.clone(),
            started_at: Some(self.started_at),
            terminating_since: None,
            sandbox,
            volumes: if self.removed { Stage::Removed } else { Stage::Absent },
            containers: self.containers.iter().map(|(n, c)| (n.clone(), container(c))).collect(),
        }
    }

    /// Writes the record into a pod's run directory.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), FileError> {
        let path = dir.join("record.json");
        let bytes = serde_json::to_vec(self).map_err(io::Error::other).at("encode", &path)?;
        disk::make_dir(dir, 0o700)?;
        disk::replace(&path, &bytes, 0o600)
    }

    /// Reads the record of a pod's run directory; `None` if there is none or it was never finished.
    pub(crate) fn load(dir: &Path) -> Result<Option<Record>, FileError> {
        let path = dir.join("record.json");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", &path),
        }
    }
}
