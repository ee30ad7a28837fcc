//! What controllers want to know of a pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::meta;

/// status.phase, empty before the kubelet wrote one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The node the pod is bound to; None while it waits for the scheduler.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// Whether the pod ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted: the pods a ReplicaSet counts.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !meta::is_deleting(&pod.metadata)
}

/// A condition.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// Whether the Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").filter(|c| c.status == "True")?.last_transition_time.as_ref().map(|t| t.0)
}

/// When the pod becomes available if it stays ready: at once without minReadySeconds. None while it is not ready.
pub fn available_at(pod: &Pod, min_ready_s: i32) -> Option<Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_s <= 0 {
        return Some(Timestamp::MIN);
    }
    Some(ready_since(pod)? + SignedDuration::from_secs(i64::from(min_ready_s)))
}

/// Whether the pod has been ready for `min_ready_s`.
pub fn is_available(pod: &Pod, min_ready_s: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_s).is_some_and(|at| at <= now)
}

/// The earliest moment at which a pod that is ready now becomes available.
pub fn next_available<'a>(pods: impl Iterator<Item = &'a Pod>, min_ready_s: i32, now: Timestamp) -> Option<Timestamp> {
    pods.filter_map(|p| available_at(p, min_ready_s)).filter(|at| *at > now).min()
}

/// Restarts of the container that restarted most.
pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    status.into_iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.restart_count).max().unwrap_or(0)
}
