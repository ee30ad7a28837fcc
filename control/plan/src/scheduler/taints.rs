//! TaintToleration: taints keep pods away unless tolerated; soft ones count in the score.

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

use super::{Cluster, Filter, NodeInfo, Scale, Score, Waiting};

pub(super) struct Taints;

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    let (own, theirs) = (toleration.value.as_deref().unwrap_or_default(), taint.value.as_deref().unwrap_or_default());
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" => !key.is_empty() && own == theirs,
        // Numeric comparisons: both sides must be whole numbers.
        "Gt" => compare(theirs, own) == Some(std::cmp::Ordering::Greater),
        "Lt" => compare(theirs, own) == Some(std::cmp::Ordering::Less),
        _ => false,
    }
}

fn compare(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    Some(a.parse::<i64>().ok()?.cmp(&b.parse().ok()?))
}

/// The pod's tolerations.
pub(crate) fn tolerations(pod: &Pod) -> impl Iterator<Item = &Toleration> {
    pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten())
}

/// Whether the pod tolerates a taint without value.
pub(super) fn tolerates_key(pod: &Pod, key: &str, effect: &str) -> bool {
    let taint = Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() };
    tolerations(pod).any(|t| tolerates(t, &taint))
}

fn untolerated<'a>(pod: &'a Pod, node: &'a NodeInfo<'_>, effects: &'a [&str]) -> impl Iterator<Item = &'a Taint> {
    let taints = node.node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| effects.contains(&t.effect.as_str()) && !tolerations(pod).any(|x| tolerates(x, t)))
}

impl Filter for Taints {
    fn check(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> Result<(), String> {
        match untolerated(pod.pod, node, &["NoSchedule", "NoExecute"]).next() {
            Some(t) => {
                let value = t.value.as_deref().unwrap_or_default();
                Err(format!("node(s) had untolerated taint {{{}: {value}}}", t.key))
            }
            None => Ok(()),
        }
    }
}

impl Score for Taints {
    fn score(&self, pod: &Waiting<'_>, node: &NodeInfo<'_>, _cluster: &Cluster<'_>) -> i64 {
        i64::try_from(untolerated(pod.pod, node, &["PreferNoSchedule"]).count()).unwrap_or(i64::MAX)
    }
    fn weight(&self) -> i64 {
        3
    }
    fn scale(&self) -> Scale {
        Scale::LessIsBetter
    }
}
