//! NodeRestriction: what a kubelet may write into the objects it may write (upstream: plugin/pkg/admission/
//! noderestriction). Owns: contents. Does not own: which objects (authorization).

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use pintle_api::status;
use pintle_control_plan::authz;

use super::{Plugin, Review};
use crate::serve::answer::Failure;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels by which pods keep away from nodes that do not deserve them: not for nodes to give themselves.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io/";

pub(super) struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        let Some(node) = authz::node_name(&review.call.user) else { return Ok(()) };
        let kind = review.call.kind;
        let object = review.object.as_deref();
        let refusal = match (kind.group(), kind.plural()) {
            ("", "nodes") => own_node(
                node,
                review.name,
                object.and_then(|object| object.downcast_ref::<Node>()),
                review.old.and_then(|old| old.downcast_ref::<Node>()),
            ),
            ("", "pods") if review.creates("", "pods") => {
                object.and_then(|object| object.downcast_ref::<Pod>()).and_then(|pod| mirror_pod(node, pod))
            }
            ("", "pods") => review.old.and_then(|old| old.downcast_ref::<Pod>()).and_then(|pod| own_pod(node, pod)),
            ("coordination.k8s.io", "leases") => (review.name != node)
                .then(|| format!("can only access node lease with the same name as the requesting node {node:?}")),
            _ => None,
        };
        match refusal {
            Some(why) => Err(status::forbidden(kind.about(review.name), &why).into()),
            None => Ok(()),
        }
    }
}

fn own_node(node: &str, name: &str, new: Option<&Node>, old: Option<&Node>) -> Option<String> {
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let (new, old) = (new?, old);
    let restricted = |node: Option<&Node>| -> Vec<(String, String)> {
        let labels = node.into_iter().flat_map(|node| node.metadata.labels.iter().flatten());
        labels.filter(|(key, _)| key.contains(RESTRICTED_LABELS)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    if restricted(Some(new)) != restricted(old) {
        return Some(format!("node {node:?} is not allowed to modify labels under {RESTRICTED_LABELS}"));
    }
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    if old.is_some_and(|old| taints(old) != taints(new)) {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    None
}

fn own_pod(node: &str, pod: &Pod) -> Option<String> {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    (bound != node).then(|| format!("node {node:?} can only change pods with spec.nodeName set to itself"))
}

/// A node creates only mirrors of its static pods, which refer to nothing in the API.
fn mirror_pod(node: &str, pod: &Pod) -> Option<String> {
    if !pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Some(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    let owned = pod.metadata.owner_references.iter().flatten().collect::<Vec<_>>();
    let by_itself = matches!(owned.as_slice(), [owner] if owner.kind == "Node" && owner.name == node);
    if !by_itself {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    own_pod(node, pod).or_else(|| pod.spec.as_ref().and_then(|spec| references(node, spec)))
}

fn references(node: &str, spec: &PodSpec) -> Option<String> {
    let account = spec.service_account_name.as_deref().unwrap_or_default();
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let from_environment = containers.into_iter().any(|container| {
        let keys = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        let mut keys = keys.map(|from| from.secret_key_ref.is_some() || from.config_map_key_ref.is_some());
        keys.any(|refers| refers) || container.env_from.as_ref().is_some_and(|from| !from.is_empty())
    });
    let from_volumes = spec.volumes.iter().flatten().any(|volume| {
        volume.secret.is_some()
            || volume.config_map.is_some()
            || volume.projected.is_some()
            || volume.persistent_volume_claim.is_some()
    });
    let refers = !account.is_empty()
        || from_environment
        || from_volumes
        || spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty());
    refers.then(|| {
        format!("node {node:?} can not create pods that reference service accounts, secrets, configmaps or claims")
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: &Value) -> Pod {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn a_node_creates_only_mirrors_of_its_own_that_refer_to_nothing() {
        let good = json!({
            "metadata": {"annotations": {MIRROR: "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "a"}]},
        });
        assert_eq!(mirror_pod("n1", &pod(&good)), None);
        for (pointer, value) in [
            ("/metadata/annotations", json!({})),
            ("/metadata/ownerReferences", json!([])),
            ("/spec/nodeName", json!("n2")),
            ("/spec/serviceAccountName", json!("default")),
            ("/spec/volumes", json!([{"name": "v", "secret": {"secretName": "s"}}])),
        ] {
            let mut bad = good.clone();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            bad.pointer_mut(parent).unwrap()[last] = value;
            assert!(mirror_pod("n1", &pod(&bad)).is_some(), "{pointer}");
        }
    }

    #[test]
    fn a_node_does_not_choose_its_taints_or_restricted_labels() {
        let node = |value: Value| -> Node { serde_json::from_value(value).unwrap() };
        let old = node(json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}));
        let untainted = node(json!({"metadata": {"name": "n1"}}));
        let mut labelled = old.clone();
        labelled.metadata.labels.get_or_insert_default().insert(format!("{RESTRICTED_LABELS}pci"), "yes".to_owned());
        assert_eq!(own_node("n1", "n1", Some(&old), Some(&old)), None);
        assert!(own_node("n1", "n1", Some(&untainted), Some(&old)).is_some());
        assert!(own_node("n1", "n1", Some(&labelled), Some(&old)).is_some());
        assert!(own_node("n1", "n2", Some(&old), None).is_some());
    }
}
