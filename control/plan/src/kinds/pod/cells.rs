//! The columns of `kubectl get pods`, above all STATUS.
//!
//! Owns: folding container states into one word, as upstream's printer does, so that people's habits and scripts hold.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_api::pod::{self as words, is_sidecar};
use pintle_api::time;
use serde_json::Value;

use crate::kinds::common;

/// All cells.
pub(super) fn row(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let ips = status.and_then(|s| s.pod_ips.as_ref()).and_then(|ips| ips.first()).map(|ip| ip.ip.as_str());
    vec![
        common::name_cell(&pod.metadata),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts(summary.restarts, summary.last_restart.as_ref(), now).into(),
        common::age(&pod.metadata, now),
        common::or_none(ips.or_else(|| status.and_then(|s| s.pod_ip.as_deref()))),
        common::or_none(spec.and_then(|s| s.node_name.as_deref())),
        common::or_none(status.and_then(|s| s.nominated_node_name.as_deref())),
        gates(pod).into(),
    ]
}

/// `0`, or `3 (5m ago)`.
fn restarts(count: i32, last: Option<&Time>, now: Timestamp) -> String {
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", time::age(Some(last), now)),
        _ => count.to_string(),
    }
}

fn gates(pod: &Pod) -> String {
    let gates: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten())
        .map(|gate| gate.condition_type.as_str())
        .collect();
    if gates.is_empty() {
        return common::NONE.to_owned();
    }
    let open = gates.iter().filter(|gate| words::condition(pod, gate).is_some_and(|c| c.status == "True")).count();
    format!("{open}/{}", gates.len())
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i32,
    last_restart: Option<Time>,
}

impl Summary {
    fn count_restarts(&mut self, status: &ContainerStatus) {
        self.restarts += status.restart_count;
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let finished = last.and_then(|terminated| terminated.finished_at.clone());
        self.last_restart = self.last_restart.take().max(finished);
    }
}

fn summarise(pod: &Pod) -> Summary {
    let sidecars: BTreeSet<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| is_sidecar(container))
        .map(|container| container.name.as_str())
        .collect();
    let status = pod.status.clone().unwrap_or_default();
    let mut summary = Summary {
        reason: first_reason(pod, &status),
        ready: 0,
        total: pod.spec.as_ref().map_or(0, |spec| spec.containers.len()) + sidecars.len(),
        restarts: 0,
        last_restart: None,
    };
    let initialising = init_containers(pod, &status, &sidecars, &mut summary);
    let initialised = words::condition(pod, "Initialized").is_some_and(|condition| condition.status == "True");
    if !initialising || initialised {
        containers(pod, &status, &sidecars, &mut summary);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            summary.reason = "Unknown".to_owned();
        } else if !words::is_terminal(pod) {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

fn first_reason(pod: &Pod, status: &PodStatus) -> String {
    let scheduled = words::condition(pod, "PodScheduled");
    if scheduled.is_some_and(|condition| condition.reason.as_deref() == Some("SchedulingGated")) {
        return "SchedulingGated".to_owned();
    }
    let reason = status.reason.clone().filter(|reason| !reason.is_empty());
    reason.or_else(|| status.phase.clone()).unwrap_or_default()
}

fn state(status: &ContainerStatus) -> ContainerState {
    status.state.clone().unwrap_or_default()
}

/// Folds init containers up to the first that is not done; answers whether the pod is still initialising.
fn init_containers(pod: &Pod, status: &PodStatus, sidecars: &BTreeSet<&str>, summary: &mut Summary) -> bool {
    let total = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).map_or(0, Vec::len);
    for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
        summary.count_restarts(container);
        let state = state(container);
        if state.terminated.as_ref().is_some_and(|terminated| terminated.exit_code == 0) {
            continue;
        }
        if sidecars.contains(container.name.as_str()) && container.started == Some(true) {
            summary.ready += usize::from(container.ready);
            continue;
        }
        let waiting = state.waiting.and_then(|waiting| waiting.reason);
        summary.reason = match (state.terminated, waiting) {
            (Some(terminated), _) => format!("Init:{}", ending(&terminated)),
            (None, Some(reason)) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
            (None, _) => format!("Init:{index}/{total}"),
        };
        return true;
    }
    false
}

/// `Completed`, `Error`, or `Signal:9`, `ExitCode:1` where no reason was given.
fn ending(terminated: &ContainerStateTerminated) -> String {
    match (terminated.reason.as_deref().unwrap_or(""), terminated.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn containers(pod: &Pod, status: &PodStatus, sidecars: &BTreeSet<&str>, summary: &mut Summary) {
    // Finished init containers no longer interest anybody; sidecars still do.
    (summary.restarts, summary.last_restart) = (0, None);
    let inits = status.init_container_statuses.iter().flatten();
    for container in inits.filter(|container| sidecars.contains(container.name.as_str())) {
        summary.count_restarts(container);
    }
    let mut running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        summary.count_restarts(container);
        let state = state(container);
        let waiting = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty());
        if let Some(reason) = waiting {
            summary.reason = reason;
        } else if let Some(terminated) = &state.terminated {
            summary.reason = ending(terminated);
        } else if container.ready && state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if words::is_ready(pod) { "Running" } else { "NotReady" }.to_owned();
    }
}
