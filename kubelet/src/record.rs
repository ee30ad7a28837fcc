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
    /// Its source is a manifest of this node.
    pub(crate) is_static: bool,
    pub(crate) started_at: Timestamp,
    /// Since when it is ending: a restart of the kubelet gives no pod more grace than it was granted.
    #[serde(default)]
    pub(crate) terminating_since: Option<Timestamp>,
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
    pub(crate) fn of(pod: &Pod, is_static: bool, seen: &Observed, now: Timestamp) -> Record {
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
            is_static,
            started_at: seen.started_at.unwrap_or(now),
            terminating_since: seen.terminating_since,
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
            terminating_since: self.terminating_since,
            sandbox,
            // Mounts and directories outlive the kubelet; only their contents may be old, and are refreshed.
            volumes: match (self.removed, self.volumes_ready) {
                (true, _) => Stage::Removed,
                (false, true) => Stage::Ready(()),
                (false, false) => Stage::Absent,
            },
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

    /// The records of all pods below a run directory; one that cannot be read is told about and left out.
    pub(crate) fn all(run: &Path) -> Result<Vec<Record>, FileError> {
        let pods = run.join("pods");
        let mut out = Vec::new();
        for uid in disk::names(&pods)? {
            match Record::load(&pods.join(&uid)) {
                Ok(Some(record)) if record.pod.metadata.uid.as_deref() == Some(&uid) => out.push(record),
                Ok(_) => tracing::warn!(pod = uid, "a pod's directory holds no record of it"),
                Err(e) => tracing::warn!(pod = uid, error = crate::error::chain(&e), "cannot read a pod's record"),
            }
        }
        Ok(out)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use jiff::SignedDuration;
    use pintle_kubelet_plan::observed::AttemptState;
    use pintle_kubelet_plan::{Action, plan};

    #[test]
    fn a_pod_that_was_ending_is_ended_at_the_same_moment_by_the_next_kubelet() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"uid": "u", "deletionTimestamp": "1970-01-01T00:01:00Z", "deletionGracePeriodSeconds": 60},
            "spec": {"containers": [{"name": "main"}]}}))
        .unwrap();
        let at = |s: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(s);
        let state = AttemptState::Running { started_at: at(-9) };
        let attempt = Attempt { id: "i".to_owned(), number: 0, image_id: String::new(), user: (0, 0, vec![]), state };
        let main = ContainerObs { attempt: Some(attempt), ..ContainerObs::default() };
        let seen = Observed {
            terminating_since: Some(at(0)),
            sandbox: Stage::Ready(vec![]),
            volumes: Stage::Ready(()),
            containers: [("main".to_owned(), main)].into(),
            ..Observed::default()
        };
        let dir = tempfile::tempdir().unwrap();
        Record::of(&pod, false, &seen, at(0)).save(dir.path()).unwrap();
        let after = Record::load(dir.path()).unwrap().unwrap().observed();
        let deadlines = [plan(&pod, &seen, at(0)), plan(&pod, &after, at(45))].map(|plan| match &plan.actions[..] {
            [Action::Stop { deadline, .. }] => *deadline,
            other => panic!("{other:?}"),
        });
        assert_eq!(deadlines, [at(60), at(60)]);
    }
}
