//! NodeResourcesFit and NodeResourcesBalancedAllocation: room, and how evenly it is used.

use super::{Cluster, Filter, NodeInfo, Scale, Score, Waiting};

pub(super) struct Fit;
pub(super) struct LeastAllocated;
pub(super) struct Balanced;

impl Filter for Fit {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> Result<(), String> {
        let mut lacking = Vec::new();
        let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        if pods + 1 > node.allocatable.get("pods") {
            lacking.push("Too many pods".to_owned());
        }
        let wanted = pod.requests.0.iter().filter(|(name, amount)| **amount > 0 && name.as_str() != "pods");
        for (name, amount) in wanted {
            if amount.saturating_add(node.requested.get(name)) > node.allocatable.get(name) {
                lacking.push(format!("Insufficient {name}"));
            }
        }
        if lacking.is_empty() { Ok(()) } else { Err(lacking.join("\n")) }
    }
}

/// Use of CPU and memory with the pod on it, in thousandths of what there is.
fn use_permille(pod: &Waiting<'_>, node: &NodeInfo<'_>) -> [i64; 2] {
    let own = pod.requests.floored();
    ["cpu", "memory"].map(|name| {
        let (all, used) = (node.allocatable.get(name), node.floored.get(name) + own.get(name));
        let permille = if all <= 0 { 1000 } else { i128::from(used) * 1000 / i128::from(all) };
        i64::try_from(permille).unwrap_or(1000).clamp(0, 1000)
    })
}

impl Score for LeastAllocated {
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> i64 {
        let [cpu, memory] = use_permille(pod, node);
        (2000 - cpu - memory) / 20
    }
    fn weight(&self) -> i64 {
        1
    }
    fn scale(&self) -> Scale {
        Scale::Percent
    }
}

impl Score for Balanced {
    /// 100 less the deviation; of two values that is half their distance.
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> i64 {
        let [cpu, memory] = use_permille(pod, node);
        (1000 - (cpu - memory).abs() / 2) / 10
    }
    fn weight(&self) -> i64 {
        1
    }
    fn scale(&self) -> Scale {
        Scale::Percent
    }
}
