//! Whether a node takes a pod that was bound to it.
//!
//! Owns: the last check before anything is made: name, selector, host ports, resources, pod count, and what no retry
//! can grant: AppArmor, sysctls, another operating system.
//! Does not own: choosing nodes (the scheduler).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::affinity;
use crate::containers::{containers, host_network, spec};
use crate::observed::Rejection;
use crate::quantity;
use crate::refusals::{Host, confines, place};
use crate::resources::{Amounts, pod_requests};
use crate::security::{apparmor_profile, sysctls};

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
    /// Allocatable local disk, in bytes.
    pub storage: i64,
    /// Pods at most.
    pub pods_max: usize,
    /// What the kernel enforces.
    pub host: Host,
}

type Check = fn(&Pod, &[&Pod], &NodeView) -> Option<Rejection>;

/// In the order in which the kubelet reports them.
const CHECKS: [Check; 8] =
    [wrong_system, resources_short, huge_pages, wrong_node, wrong_labels, port_taken, no_apparmor, forbidden_sysctl];

/// Sysctls every pod may set: namespaced, and harmless to others (Kubernetes' list of safe sysctls).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

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
    let sum = |of: fn(&Amounts) -> i64| used.iter().map(of).sum::<i64>();
    let table = [
        ("cpu", wanted.cpu_milli, sum(|a| a.cpu_milli), node.cpu_milli),
        ("memory", wanted.memory, sum(|a| a.memory), node.memory),
        ("ephemeral-storage", wanted.storage, sum(|a| a.storage), node.storage),
    ];
    let (what, wanted, used, has) = table.into_iter().find(|(_, asks, used, has)| *asks > 0 && asks + used > *has)?;
    rejection(&format!("OutOf{what}"), short(what, wanted, used, has))
}

fn short(what: &str, wanted: i64, used: i64, capacity: i64) -> String {
    format!("Node didn't have enough resource: {what}, requested: {wanted}, used: {used}, capacity: {capacity}")
}

fn wrong_system(pod: &Pod, _: &[&Pod], _: &NodeView) -> Option<Rejection> {
    let wanted = &spec(pod).os.as_ref().filter(|os| os.name != "linux")?.name;
    rejection("PodOSNotSupported", format!("spec.os.name is {wanted}, and this is a linux node"))
}

/// None are set aside on this node; other resources it does not have are the scheduler's matter.
fn huge_pages(pod: &Pod, _: &[&Pod], _: &NodeView) -> Option<Rejection> {
    let amounts = containers(pod).filter_map(|(_, c)| c.resources.as_ref());
    let all = amounts.flat_map(|r| r.requests.iter().flatten().chain(r.limits.iter().flatten()));
    let (name, bytes) = all
        .filter(|(name, _)| name.starts_with("hugepages-"))
        .find_map(|(name, amount)| Some((name, quantity::units(amount).filter(|b| *b > 0)?)))?;
    rejection(&format!("OutOf{name}"), short(name, bytes, 0, 0))
}

fn no_apparmor(pod: &Pod, _: &[&Pod], node: &NodeView) -> Option<Rejection> {
    let asks = |c| apparmor_profile(pod, c).is_some_and(|profile| confines(&profile));
    let (_, container) = containers(pod).find(|(_, c)| !node.host.apparmor && asks(c))?;
    let at = place(pod, container);
    let why = format!("Cannot enforce AppArmor: it is not enabled on the host ({at}.securityContext.appArmorProfile)");
    rejection("AppArmor", why)
}

fn forbidden_sysctl(pod: &Pod, _: &[&Pod], _: &NodeView) -> Option<Rejection> {
    let shared = |name: &str| {
        (host_network(pod) && name.starts_with("net."))
            || (spec(pod).host_ipc == Some(true) && (name.starts_with("kernel.") || name.starts_with("fs.mqueue.")))
    };
    let of_pod = sysctls(pod);
    let (name, why) = of_pod.iter().find_map(|(name, _)| match name {
        name if shared(name) => Some((name, "belongs to a namespace of the host that the pod shares")),
        name if !SAFE_SYSCTLS.contains(&name.as_str()) => Some((name, "is not one of the safe ones")),
        _ => None,
    })?;
    rejection("SysctlForbidden", format!("forbidden sysctl: \"{name}\" {why} (spec.securityContext.sysctls)"))
}

fn wrong_node(pod: &Pod, _: &[&Pod], node: &NodeView) -> Option<Rejection> {
    let bound = spec(pod).node_name.as_deref().filter(|n| !n.is_empty() && *n != node.name)?;
    rejection("NodeName", format!("Predicate NodeName failed: the pod is bound to \"{bound}\""))
}

fn wrong_labels(pod: &Pod, _: &[&Pod], node: &NodeView) -> Option<Rejection> {
    let unmet = spec(pod).node_selector.iter().flatten().find(|(k, v)| node.labels.get(*k) != Some(v));
    if let Some((key, value)) = unmet {
        let why = format!("Predicate NodeAffinity failed: the node has no label {key}={value} (spec.nodeSelector)");
        return rejection("NodeAffinity", why);
    }
    let affinity = spec(pod).affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    if affinity::matches(required, &node.name, &node.labels) {
        return None;
    }
    let why = "Predicate NodeAffinity failed: no term of spec.affinity.nodeAffinity matches the node";
    rejection("NodeAffinity", why.to_owned())
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
        let near = |key: &str, operator: &str, values: &[&str]| {
            let term = serde_json::json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
            pod(serde_json::json!({"containers": [], "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}))
        };
        let node = NodeView {
            name: "n".to_owned(),
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            cpu_milli: 1000,
            memory: 1 << 30,
            storage: 1 << 30,
            pods_max: 2,
            ..NodeView::default()
        };
        let table = [
            (plain(serde_json::json!({"containers": []})), None),
            (one(serde_json::json!({"cpu": "600m"})), Some("OutOfcpu")),
            (one(serde_json::json!({"memory": "2Gi"})), Some("OutOfmemory")),
            (one(serde_json::json!({"ephemeral-storage": "2Gi"})), Some("OutOfephemeral-storage")),
            (one(serde_json::json!({})), Some("NodePorts")),
            (near("zone", "In", &["a", "b"]), None),
            (near("zone", "NotIn", &["a"]), Some("NodeAffinity")),
            (plain(serde_json::json!({"containers": [], "nodeName": "m"})), Some("NodeName")),
            (plain(serde_json::json!({"containers": [], "nodeSelector": {"a": "b"}})), Some("NodeAffinity")),
            (plain(serde_json::json!({"containers": [], "os": {"name": "windows"}})), Some("PodOSNotSupported")),
            (
                plain(serde_json::json!({"containers": [{"name": "c",
                    "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}]})),
                Some("AppArmor"),
            ),
            (
                plain(serde_json::json!({"containers": [{"name": "c",
                    "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]})),
                None,
            ),
            (
                plain(serde_json::json!({"containers": [{"name": "c",
                    "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}]})),
                Some("OutOfhugepages-2Mi"),
            ),
            (
                plain(serde_json::json!({"containers": [],
                    "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}})),
                Some("SysctlForbidden"),
            ),
            (
                plain(serde_json::json!({"containers": [], "hostNetwork": true,
                    "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}})),
                Some("SysctlForbidden"),
            ),
            (
                plain(serde_json::json!({"containers": [],
                    "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}})),
                None,
            ),
        ];
        for (pod, reason) in table {
            let refused = admit(&pod, &[&other], &node).err().map(|r| r.reason);
            assert_eq!(refused.as_deref(), reason);
        }
        let full = plain(serde_json::json!({"containers": []}));
        assert_eq!(admit(&full, &[&other, &other], &node).unwrap_err().reason, "OutOfpods");
    }
}
