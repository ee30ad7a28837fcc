//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use super::taints::tolerates_key;
use super::{Cluster, Filter, NodeInfo, Waiting};

pub(super) struct Unschedulable;

impl Filter for Unschedulable {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> Result<(), String> {
        let cordoned = node.node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
        if cordoned && !tolerates_key(pod.pod, "node.kubernetes.io/unschedulable", "NoSchedule") {
            return Err("node(s) were unschedulable".to_owned());
        }
        Ok(())
    }
}
