//! NodeName: kept for pods that name a node and are judged all the same (DaemonSet asks whether its pod would fit).

use super::{Cluster, Filter, NodeInfo, Waiting, pods};

pub(super) struct NodeName;

impl Filter for NodeName {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> Result<(), String> {
        match pods::node(pod.pod) {
            Some(name) if name != node.name => Err("node(s) didn't match the requested node name".to_owned()),
            _ => Ok(()),
        }
    }
}
