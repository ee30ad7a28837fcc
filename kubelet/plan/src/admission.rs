//! Whether a node takes a pod that was bound to it.
//!
//! Owns: the last check before anything is made: name, selector, host ports, resources, pod count.
//! Does not own: choosing nodes (the scheduler).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::containers::{containers, host_network, spec};
use crate::observed::Rejection;
use crate::resources::pod_requests;

/// The node as far as admission looks at it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Allocatable CPU, in thousandths of a core.
    pub cpu_milli: i64,
    /// Allocatable memory, in bytes.
    pub memory: i64,
    /// Pods at most.
    pub pods_max: usize,
}

type Check = fn(&Pod, &[&Pod], &NodeView) -> Option<Rejection>;

/// In the order in which the kubelet reports them.
const CHECKS: [Check; 4] = [resources_short, wrong_node, wrong_labels, port_taken];

/// Takes the pod beside those already taken, or says why not.
pub fn admit(pod: &Pod, others: &[&Pod], node: &NodeView) -> Result<(), Rejection> {
    match CHECKS.iter().find_map(|check| check(pod, others, node)) {
        Some(rejection) => Err(rejection),
        None => Ok(()),
    }
}

fn rejection(reason: &str, message: String) -> Option<Rejection> {
    Some(Rejection { reason: reason.to_owned(), message })
}

fn resources_short(pod: &Pod, others: &[&Pod], node: &NodeView) -> Option<Rejection> {
    if others.len() + 1 > node.pods_max {
        return rejection("OutOfpods", short("pods", 1, others.len() as i64, node.pods_max as i64));
    }
    let wanted = pod_requests(pod);
    let used: Vec<_> = others.iter().map(|p| pod_requests(p)).collect();
    let used_cpu = used.iter().map(|a| a.cpu_milli).sum::<i64>();
    let used_memory = used.iter().map(|a| a.memory).sum::<i64>();
    if wanted.cpu_milli > 0 && wanted.cpu_milli + used_cpu > node.cpu_milli {
        return rejection("OutOfcpu", short("cpu", wanted.cpu_milli, used_cpu, node.cpu_milli));
    }
    if wanted.memory > 0 && wanted.memory + used_memory > node.memory {
        return rejection("OutOfmemory", short("memory", wanted.memory, used_memory, node.memory));
    }
    None
}

fn short(what: &str, wanted: i64, used: i64, capacity: i64) -> String {
    format!("Node didn't have enough resource: {what}, requested: {wanted}, used: {used}, capacity: {capacity}")
}

fn wrong_node(pod: &Pod, _: &[&Pod], node: &NodeView) -> Option<Rejection> {
    let bound = spec(pod).node_name.as_deref().filter(|n| !n.is_empty() && *n != node.name)?;
    rejection("NodeName", format!("Predicate NodeName failed: the pod is bound to \"{bound}\""))
}

fn wrong_labels(pod: &Pod, _: &[&Pod], node: &NodeView) -> Option<Rejection> {
    let unmet = spec(pod).node_selector.iter().flatten().find(|(k, v)| node.labels.get(*k) != Some(v));
    let (key, value) = unmet?;
    rejection("NodeAffinity", format!("Predicate NodeAffinity failed: the node has no label {key}={value}"))
}

fn port_taken(pod: &Pod, others: &[&Pod], _: &NodeView) -> Option<Rejection> {
    let own = host_ports(pod);
    let taken: Vec<_> = others.iter().flat_map(|p| host_ports(p)).collect();
    let clash = own
        .iter()
        .find(|a| taken.iter().any(|b| a.0 == b.0 && a.1 == b.1 && (a.2 == b.2 || a.2.is_empty() || b.2.is_empty())))?;
    rejection("NodePorts", format!("Predicate NodePorts failed: host port {}/{} is taken", clash.0, clash.1))
}

/// Port, protocol, address (empty: all).
fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let own_network = host_network(pod);
    containers(pod)
        .flat_map(|(_, c)| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|p| *p > 0).or(own_network.then_some(p.container_port))?;
            let address = p.host_ip.clone().filter(|ip| ip != "0.0.0.0").unwrap_or_default();
            Some((port, p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_with_the_reason() {
        let one = |resources: serde_json::Value| {
            pod(serde_json::json!({"containers": [{"name": "c", "resources": {"requests": resources},
                "ports": [{"containerPort": 80, "hostPort": 8080}]}]}))
        };
        let other = one(serde_json::json!({"cpu": "500m"}));
        let plain = |spec| pod(spec);
        let node =
            NodeView { name: "n".to_owned(), cpu_milli: 1000, memory: 1 << 30, pods_max: 2, ..NodeView::default() };
        let table = [
            (plain(serde_json::json!({"containers": []})), None),
            (one(serde_json::json!({"cpu": "600m"})), Some("OutOfcpu")),
            (one(serde_json::json!({"memory": "2Gi"})), Some("OutOfmemory")),
            (one(serde_json::json!({})), Some("NodePorts")),
            (plain(serde_json::json!({"containers": [], "nodeName": "m"})), Some("NodeName")),
            (plain(serde_json::json!({"containers": [], "nodeSelector": {"a": "b"}})), Some("NodeAffinity")),
        ];
        for (pod, reason) in table {
            let refused = admit(&pod, &[&other], &node).err().map(|r| r.reason);
            assert_eq!(refused.as_deref(), reason);
        }
        let full = plain(serde_json::json!({"containers": []}));
        assert_eq!(admit(&full, &[&other, &other], &node).unwrap_err().reason, "OutOfpods");
    }
}
