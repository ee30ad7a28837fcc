//! NodePorts: a port of the host serves one pod.

use k8s_openapi::api::core::v1::Pod;

use super::{Cluster, Filter, NodeInfo, Waiting};

pub(super) struct NodePorts;

/// (address, protocol, port); an empty address means all of them.
type HostPort<'a> = (&'a str, &'a str, i32);

fn host_ports(pod: &Pod) -> impl Iterator<Item = HostPort<'_>> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|s| {
        let sidecars = s.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        s.containers.iter().chain(sidecars)
    });
    containers.flat_map(|c| c.ports.iter().flatten()).filter_map(|p| {
        let port = p.host_port.filter(|n| *n > 0)?;
        let address = p.host_ip.as_deref().filter(|ip| *ip != "0.0.0.0" && *ip != "::").unwrap_or_default();
        Some((address, p.protocol.as_deref().unwrap_or("TCP"), port))
    })
}

fn collide(a: HostPort<'_>, b: HostPort<'_>) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0.is_empty() || b.0.is_empty() || a.0 == b.0)
}

impl Filter for NodePorts {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> Result<(), String> {
        let taken = |wanted| node.pods.iter().flat_map(|p| host_ports(p)).any(|used| collide(wanted, used));
        if host_ports(pod.pod).any(taken) {
            return Err("node(s) didn't have free ports for the requested pod ports".to_owned());
        }
        Ok(())
    }
}
