//! What the proxy reads from Nodes: its own, for the planner's configuration; the others', for routes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use pintle_net::Cidr;
use pintle_proxy_plan::{Config, DetectLocal};

use crate::kube_config::LocalMode;

const ZONE: &str = "topology.kubernetes.io/zone";

/// The planner's configuration with what our Node says.
pub fn configure(config: &Config, mode: &LocalMode, node: &Node) -> Config {
    let detect_local = match mode {
        LocalMode::NodeCidr => DetectLocal::NodeCidr(pod_ranges(node)),
        LocalMode::ClusterCidr | LocalMode::BridgeInterface(_) | LocalMode::InterfacePrefix(_) => {
            config.detect_local.clone()
        }
    };
    let mut node_addrs = addrs(node);
    // What the configuration says besides: `bindAddress`.
    node_addrs.extend(config.node_addrs.iter().filter(|a| !addrs(node).contains(a)));
    Config { zone: label(node, ZONE), node_addrs, detect_local, ..config.clone() }
}

/// Whether load balancers should stop sending to this node.
pub fn is_leaving(node: &Node) -> bool {
    node.metadata.deletion_timestamp.is_some()
}

/// Which ranges lie behind which other node, by our own node's name.
pub fn routes<'a>(us: &str, nodes: impl Iterator<Item = &'a Node>) -> BTreeMap<Cidr, IpAddr> {
    let mut routes = BTreeMap::new();
    for node in nodes.filter(|n| n.metadata.name.as_deref() != Some(us)) {
        let Some(via) = addrs(node).into_iter().find(IpAddr::is_ipv4) else { continue };
        for range in pod_ranges(node).into_iter().filter(|r| r.addr().is_ipv4()) {
            routes.insert(range, via);
        }
    }
    routes
}

fn pod_ranges(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let texts = spec.pod_cidrs.clone().or_else(|| spec.pod_cidr.clone().map(|c| vec![c])).unwrap_or_default();
    texts.iter().filter_map(|t| t.parse::<Cidr>().ok()).map(|c| c.network()).collect()
}

fn addrs(node: &Node) -> Vec<IpAddr> {
    let listed = node.status.as_ref().and_then(|s| s.addresses.as_ref()).into_iter().flatten();
    listed.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect()
}

fn label(node: &Node, name: &str) -> Option<String> {
    node.metadata.labels.as_ref()?.get(name).cloned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn node(name: &str, range: Option<&str>, addr: Option<&str>) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": range},
            "status": {"addresses": addr.map(|a| vec![serde_json::json!({"type": "InternalIP", "address": a})])},
        }))
        .unwrap()
    }

    #[test]
    fn routes_lead_to_every_other_node_that_has_a_range_and_an_address() {
        let nodes = [
            node("us", Some("10.42.0.0/24"), Some("192.0.2.1")),
            node("b", Some("10.42.1.0/24"), Some("192.0.2.2")),
            node("no-range", None, Some("192.0.2.3")),
            node("no-address", Some("10.42.3.0/24"), None),
            node("nonsense", Some("10.42.3/24"), Some("192.0.2.4")),
        ];
        let shown: Vec<String> = routes("us", nodes.iter()).iter().map(|(d, v)| format!("{d} via {v}")).collect();
        assert_eq!(shown, ["10.42.1.0/24 via 192.0.2.2"]);
    }
}
