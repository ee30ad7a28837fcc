//! What a kubelet may do: its own node, the pods bound to it, and what those pods refer to.
//!
//! Follows the Node authorizer (kubernetes: plugin/pkg/auth/authorizer/node). Owns: the decision. What a write may
//! contain is admission's business (NodeRestriction).

use super::{Access, Decision, NODES, User};

/// What the node rules ask of the cluster's state.
pub trait NodeFacts {
    /// Whether a pod bound to `node`, in `namespace`, refers to this object. `resource` is one of `secrets`,
    /// `configmaps`, `persistentvolumeclaims`, `serviceaccounts`.
    fn pod_refers(&self, node: &str, resource: &str, namespace: &str, name: &str) -> bool;
    /// Whether this pod is bound to `node`.
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool;
}

/// The node a user is, if they are one.
pub fn node_name(user: &User) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|name| !name.is_empty() && user.is_in(NODES))
}

pub(super) fn authorize(node: &str, access: &Access<'_>, facts: &dyn NodeFacts) -> Decision {
    let allowed = match (access.group, access.resource) {
        ("", "nodes") => own_node(node, access),
        ("", "pods") => pods(node, access, facts),
        ("", "secrets" | "configmaps" | "persistentvolumeclaims") => return referenced(node, access, facts),
        ("", "serviceaccounts") => {
            access.subresource == "token"
                && access.verb == "create"
                && facts.pod_refers(node, "serviceaccounts", access.namespace, access.name)
        }
        ("coordination.k8s.io", "leases") => own_lease(node, access),
        ("storage.k8s.io", "csinodes") => access.name == node && access.subresource.is_empty(),
        _ => false,
    };
    if allowed { Decision::Allow } else { Decision::Deny(String::new()) }
}

fn own_node(node: &str, access: &Access<'_>) -> bool {
    let own = access.name == node || (access.name.is_empty() && selects(access, "metadata.name", node));
    match (access.verb, access.subresource) {
        // A create request names its object only in the body; admission compares it.
        ("create", "") => true,
        ("get" | "list" | "watch" | "update" | "patch", "") | ("get" | "update" | "patch", "status") => own,
        _ => false,
    }
}

fn pods(node: &str, access: &Access<'_>, facts: &dyn NodeFacts) -> bool {
    match (access.verb, access.subresource) {
        ("list" | "watch", "") => selects(access, "spec.nodeName", node),
        // Mirror pods; admission looks at what they contain.
        ("create", "") => true,
        ("get" | "delete", "") | ("get" | "update" | "patch", "status") | ("create", "eviction") => {
            facts.pod_is_on(node, access.namespace, access.name)
        }
        _ => false,
    }
}

fn own_lease(node: &str, access: &Access<'_>) -> bool {
    let verb = matches!(access.verb, "get" | "create" | "update" | "patch" | "delete");
    // As for nodes: the name of what is created stands in the body.
    let named = access.name == node || access.verb == "create";
    access.namespace == "kube-node-lease" && verb && named && access.subresource.is_empty()
}

fn referenced(node: &str, access: &Access<'_>, facts: &dyn NodeFacts) -> Decision {
    let selected = access.field_selector.strip_prefix("metadata.name=").unwrap_or_default();
    let name = if access.name.is_empty() { selected } else { access.name };
    let reads = matches!(access.verb, "get" | "list" | "watch") && access.subresource.is_empty();
    if reads && !name.is_empty() && facts.pod_refers(node, access.resource, access.namespace, name) {
        return Decision::Allow;
    }
    let reason = format!("no relationship found between node '{node}' and this object");
    Decision::Deny(if reads { reason } else { String::new() })
}

/// Whether the field selector has this requirement among its own.
fn selects(access: &Access<'_>, field: &str, value: &str) -> bool {
    access.field_selector.split(',').any(|requirement| {
        let pair = requirement.split_once("==").or_else(|| requirement.split_once('='));
        pair.is_some_and(|(found, wanted)| found == field && wanted == value)
    })
}
