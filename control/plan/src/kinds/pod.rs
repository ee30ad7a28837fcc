//! Pod: what only pods have beside their spec: status, updates, deletion, columns.
//!
//! Owns: the kind. Does not own: the spec's defaults and rules (`podspec`), the columns' computation (`pod/cells`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus, Toleration};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::pod as words;
use serde_json::Value;

use super::podspec;
use crate::kind::{Column, DeletePlan, Kind, Names, Scope, Subresource};

mod cells;

/// See the module.
pub struct Pods;

/// Seconds between asking a pod to end and ending it, where neither the pod nor the caller says.
const GRACE_S_DEFAULT: i64 = 30;

impl Kind for Pods {
    type Object = Pod;
    const NAMES: Names = Names { singular: "pod", short: &["po"], categories: &["all"] };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Status,
        Subresource::Log,
        Subresource::Exec,
        Subresource::Attach,
        Subresource::PortForward,
        Subresource::Eviction,
        Subresource::Binding,
    ];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        Column::text("Status", "The aggregate status of the containers in this pod."),
        Column::text("Restarts", "How often containers restarted, and when last."),
        Column::AGE,
        Column::text("IP", "The pod's first address.").wide(),
        Column::text("Node", "Where the pod was bound to.").wide(),
        Column::text("Nominated Node", "Where preemption makes room for it.").wide(),
        Column::text("Readiness Gates", "Additional conditions of readiness.").wide(),
    ];
    const FIELDS: &'static [&'static str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ];

    fn default(object: &mut Pod) {
        let Some(spec) = &mut object.spec else { return };
        podspec::default(spec);
        podspec::default_requests(spec);
        if spec.enable_service_links.is_none() {
            spec.enable_service_links = Some(true);
        }
    }

    fn prepare_create(object: &mut Pod) {
        let mut status = PodStatus { phase: Some("Pending".to_owned()), ..PodStatus::default() };
        if let Some(spec) = &object.spec {
            status.qos_class = Some(words::qos(spec).as_str().to_owned());
            if is_gated(spec) {
                status.conditions = Some(vec![gated_condition()]);
            }
        }
        object.status = Some(status);
    }

    fn prepare_update(new: &mut Pod, old: &Pod) {
        new.status.clone_from(&old.status);
        let gated = new.spec.as_ref().is_some_and(is_gated);
        if old.spec.as_ref().is_some_and(is_gated) && !gated {
            // The gates are gone; the scheduler writes this condition from now on.
            let conditions = new.status.as_mut().and_then(|status| status.conditions.as_mut());
            if let Some(conditions) = conditions {
                conditions.retain(|condition| condition.reason.as_deref() != Some("SchedulingGated"));
            }
        }
    }

    fn prepare_status(new: &mut Pod, old: &Pod) {
        new.spec.clone_from(&old.spec);
        let class = old.status.as_ref().and_then(|status| status.qos_class.clone());
        if class.is_some() {
            new.status.get_or_insert_default().qos_class = class;
        }
    }

    fn generation_changed(new: &Pod, old: &Pod) -> Option<bool> {
        Some(new.spec != old.spec)
    }

    fn validate(object: &Pod, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        match &object.spec {
            Some(spec) => podspec::validate(spec, &path, errors),
            None => errors.required(&path.child("containers"), ""),
        }
    }

    fn validate_update(new: &Pod, old: &Pod, errors: &mut FieldErrors) {
        if let (Some(new), Some(old)) = (&new.spec, &old.spec) {
            spec_update(new, old, errors);
        }
    }

    fn row(object: &Pod, now: Timestamp) -> Vec<Value> {
        cells::row(object, now)
    }

    fn fields(object: &Pod) -> Vec<String> {
        let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
        let spec_text = |pick: fn(&PodSpec) -> Option<&String>| spec.and_then(pick).cloned().unwrap_or_default();
        let status_text = |pick: fn(&PodStatus) -> Option<&String>| status.and_then(pick).cloned().unwrap_or_default();
        let ips: Vec<&str> =
            status.into_iter().flat_map(|s| s.pod_ips.iter().flatten()).map(|ip| ip.ip.as_str()).collect();
        vec![
            spec_text(|s| s.node_name.as_ref()),
            spec_text(|s| s.restart_policy.as_ref()),
            spec_text(|s| s.scheduler_name.as_ref()),
            spec_text(|s| s.service_account_name.as_ref()),
            spec.is_some_and(|s| s.host_network == Some(true)).to_string(),
            status_text(|s| s.phase.as_ref()),
            status_text(|s| s.pod_ip.as_ref()),
            ips.join(","),
            status_text(|s| s.nominated_node_name.as_ref()),
        ]
    }

    fn delete(object: &Pod, asked_grace_s: Option<i64>) -> DeletePlan {
        let spec = object.spec.as_ref();
        let unscheduled = spec.and_then(|s| s.node_name.as_deref()).is_none_or(str::is_empty);
        if unscheduled || words::is_terminal(object) {
            return DeletePlan::Now;
        }
        let own = spec.and_then(|s| s.termination_grace_period_seconds);
        match asked_grace_s.or(own).unwrap_or(GRACE_S_DEFAULT) {
            0 => DeletePlan::Now,
            // A negative grace is an old mistake that upstream heals to the shortest real one.
            grace_s if grace_s < 0 => DeletePlan::Graceful { grace_s: 1 },
            grace_s => DeletePlan::Graceful { grace_s },
        }
    }
}

fn is_gated(spec: &PodSpec) -> bool {
    spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())
}

fn gated_condition() -> PodCondition {
    PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..PodCondition::default()
    }
}

/// What may change in a pod's spec: images, a shorter deadline, more tolerations, fewer gates, and while gated the
/// placement. Everything else is compared after putting the old values of those into the new spec.
fn spec_update(new: &PodSpec, old: &PodSpec, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    deadline(new, old, &path, errors);
    tolerations(new, old, &path, errors);
    gates(new, old, &path, errors);
    let mut masked = new.clone();
    let lists = [
        (&mut masked.containers, &old.containers),
        (masked.init_containers.get_or_insert_default(), &old.init_containers.clone().unwrap_or_default()),
    ];
    for (ours, theirs) in lists {
        for (ours, theirs) in ours.iter_mut().zip(theirs) {
            ours.image.clone_from(&theirs.image);
            ours.image_pull_policy.clone_from(&theirs.image_pull_policy);
        }
    }
    if old.init_containers.is_none() && masked.init_containers.as_ref().is_some_and(Vec::is_empty) {
        masked.init_containers = None;
    }
    masked.active_deadline_seconds = old.active_deadline_seconds;
    masked.tolerations.clone_from(&old.tolerations);
    masked.scheduling_gates.clone_from(&old.scheduling_gates);
    masked.termination_grace_period_seconds = old.termination_grace_period_seconds;
    if is_gated(old) {
        masked.node_selector.clone_from(&old.node_selector);
        masked.affinity.clone_from(&old.affinity);
    }
    if masked != *old {
        errors.forbidden(
            &path,
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        );
    } else if new.termination_grace_period_seconds != old.termination_grace_period_seconds
        && old.termination_grace_period_seconds.is_none_or(|grace_s| grace_s >= 0)
    {
        errors.forbidden(&path.child("terminationGracePeriodSeconds"), "field is immutable");
    }
}

fn deadline(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let same = |a: &Toleration, b: &Toleration| {
        a.key == b.key && a.operator == b.operator && a.value == b.value && a.effect == b.effect
    };
    let kept = |old: &Toleration| new.tolerations.iter().flatten().any(|new| same(new, old));
    if !old.tolerations.iter().flatten().all(kept) {
        errors.forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn gates(new: &PodSpec, old: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let had: Vec<&str> = old.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str()).collect();
    for gate in new.scheduling_gates.iter().flatten().filter(|gate| !had.contains(&gate.name.as_str())) {
        let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
        errors.forbidden(&path.child("schedulingGates"), why);
    }
}

#[cfg(test)]
mod tests;
