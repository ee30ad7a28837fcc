//! The planner's configuration, of what the proxy is told.

use pintle_proxy_plan::{Config, DetectLocal, Egress, Invalid, Loopback, NodePortAddresses};

use crate::config::ProxyConfig;
use crate::kube_config::{LocalMode, NodePorts};

/// The planner's configuration in a mode.
pub(crate) fn planner_config(config: &ProxyConfig, mode: &str) -> Config {
    let rules = config.kube.rules(mode);
    Config {
        table: config.table.clone(),
        fresh_from: config.fresh_from,
        detect_local: match &config.local_mode {
            LocalMode::ClusterCidr => DetectLocal::ClusterCidr,
            // Our Node says which; until then nobody is known.
            LocalMode::NodeCidr => DetectLocal::NodeCidr(Vec::new()),
            LocalMode::BridgeInterface(name) => DetectLocal::BridgeInterface(name.clone()),
            LocalMode::InterfacePrefix(prefix) => DetectLocal::InterfaceNamePrefix(prefix.clone()),
        },
        node_port_addresses: match &config.node_ports {
            NodePorts::All => NodePortAddresses::All,
            NodePorts::Primary => NodePortAddresses::Primary,
            NodePorts::In(ranges) => NodePortAddresses::In(ranges.clone()),
        },
        loopback: if config.localhost_node_ports { Loopback::Answers } else { Loopback::Silent },
        // A text that is no address was refused before.
        node_addrs: config.kube.node_address().ok().flatten().into_iter().collect(),
        masquerade: rules.masquerade,
        masquerade_mark: rules.masquerade_mark,
        invalid: if config.kube.conntrack.tcp_be_liberal { Invalid::Pass } else { Invalid::Drop },
        egress: if config.cluster_ranges.is_empty() { Egress::Leave } else { config.egress },
        ..Config::new(&config.node, config.cluster_ranges.clone(), config.service_ranges.clone())
    }
}
