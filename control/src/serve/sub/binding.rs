//! `/binding`: a pod gets its node, once. Owns: the decision whether it may.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use pintle_api::{status, time};
use pintle_control_plan::strategy::Target;

use super::super::Api;
use super::super::answer::{Failure, Outcome, json};
use super::super::call::Call;
use super::super::write::change;

/// POST.
///
/// # Errors
/// 400, 404, 409.
pub async fn bind(api: &Arc<Api>, call: &Call) -> Outcome {
    let binding: Binding = super::body(call, "Binding")?;
    let node = binding.target.name.clone().unwrap_or_default();
    let kind = binding.target.kind.as_deref().unwrap_or("Node");
    if node.is_empty() || !matches!(kind, "" | "Node") {
        return Err(status::bad_request("a Binding needs the name of a Node in target.name").into());
    }
    let wanted_uid = binding.metadata.uid.clone().filter(|uid| !uid.is_empty());
    change(api, call, Target::Whole, &|old| {
        let mut object = old.boxed_clone();
        object.metadata_mut().resource_version = None;
        let about = call.about();
        let pod = object.downcast_mut::<Pod>().ok_or_else(status::no_such_path)?;
        if wanted_uid.is_some() && wanted_uid != pod.metadata.uid {
            return Err(Failure::from(status::conflict(about, "the pod was replaced by another of the same name")));
        }
        assign(pod, &node, (api.clock)()).map_err(|why| Failure::from(status::conflict(about, &why)))?;
        pod.metadata.annotations = merged(pod.metadata.annotations.take(), binding.metadata.annotations.clone());
        Ok(object)
    })
    .await?;
    let mut success = status::success(None);
    success.code = Some(201);
    Ok(json(StatusCode::CREATED, &*success))
}

type Annotations = Option<std::collections::BTreeMap<String, String>>;

fn merged(old: Annotations, new: Annotations) -> Annotations {
    match (old, new) {
        (Some(mut old), Some(new)) => {
            old.extend(new);
            Some(old)
        }
        (old, new) => old.or(new),
    }
}

/// The error is the conflict's reason.
fn assign(pod: &mut Pod, node: &str, now: jiff::Timestamp) -> Result<(), String> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(bound) = spec.node_name.as_deref().filter(|bound| !bound.is_empty()) {
        return Err(format!("pod {name} is already assigned to node {bound:?}"));
    }
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    spec.node_name = Some(node.to_owned());
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(time::time(now)),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|condition| condition.type_ == scheduled.type_) {
        Some(condition) => *condition = scheduled,
        None => conditions.push(scheduled),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let mut pod = Pod::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        assign(&mut pod, "n1", now).unwrap();
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
        assert_eq!(assign(&mut pod, "n2", now).unwrap_err(), "pod  is already assigned to node \"n1\"");
        assert_eq!(pod.status.unwrap().conditions.unwrap().len(), 1);
    }
}
