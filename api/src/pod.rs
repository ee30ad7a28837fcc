//! What everybody wants to know of a pod.
//!
//! Owns: readiness, phases, effective requests, quality of service. Does not own: any decision about a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::Amount;

/// Amounts by resource name (`cpu` in cores, `memory` in bytes, …).
pub type Amounts = BTreeMap<String, Amount>;

/// A condition by type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether the condition Ready is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// status.phase, `Pending` if unset.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether the pod will never run again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod is neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// An init container that runs beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What the scheduler must find on a node: containers and sidecars together, or the hungriest moment of
/// initialisation, plus overhead; pod-level requests replace the sum where they are given.
pub fn requests(spec: &PodSpec) -> Amounts {
    effective(spec, |resources| resources.requests.as_ref())
}

/// The pod's limits, computed alike. A resource that some container leaves unlimited is still summed over the others.
pub fn limits(spec: &PodSpec) -> Amounts {
    effective(spec, |resources| resources.limits.as_ref())
}

type Pick = fn(&ResourceRequirements) -> Option<&BTreeMap<String, Quantity>>;

fn effective(spec: &PodSpec, pick: Pick) -> Amounts {
    let of = |resources: Option<&ResourceRequirements>| amounts(resources.and_then(pick));
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container.resources.as_ref()));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut moment = of(container.resources.as_ref());
        if is_sidecar(container) {
            add(&mut sidecars, &moment);
            moment.clone_from(&sidecars);
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut peak, &moment);
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    total.extend(of(spec.resources.as_ref()));
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

fn amounts(map: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    map.into_iter().flatten().map(|(name, quantity)| (name.clone(), Amount::or_zero(quantity))).collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).copied().unwrap_or_default().plus(*amount);
        total.insert(name.clone(), sum);
    }
}

fn raise(total: &mut Amounts, moment: &Amounts) {
    for (name, amount) in moment {
        let entry = total.entry(name.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Every container has equal requests and limits of cpu and memory.
    Guaranteed,
    /// Some container asks for something.
    Burstable,
    /// Nobody asks for anything.
    BestEffort,
}

impl Qos {
    /// As in status.qosClass.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// The pod's class, from its spec alone.
pub fn qos(spec: &PodSpec) -> Qos {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let all: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(resources) if asks(Some(resources)) => vec![Some(resources)],
        _ => containers.map(|container| container.resources.as_ref()).collect(),
    };
    if !all.iter().any(|resources| asks(*resources)) {
        Qos::BestEffort
    } else if all.iter().all(|resources| is_guaranteed(*resources)) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

const QOS_RESOURCES: [&str; 2] = ["cpu", "memory"];

fn asks(resources: Option<&ResourceRequirements>) -> bool {
    let maps = resources.into_iter().flat_map(|r| [r.requests.as_ref(), r.limits.as_ref()]).flatten();
    maps.flatten().any(|(name, amount)| QOS_RESOURCES.contains(&name.as_str()) && !Amount::or_zero(amount).is_zero())
}

fn is_guaranteed(resources: Option<&ResourceRequirements>) -> bool {
    let Some(resources) = resources else { return false };
    QOS_RESOURCES.iter().all(|name| {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(*name)).map(Amount::or_zero);
        let request = resources.requests.as_ref().and_then(|requests| requests.get(*name)).map(Amount::or_zero);
        limit.is_some_and(|limit| !limit.is_zero() && request.unwrap_or(limit) == limit)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn spec(json: &str) -> PodSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn requests_cover_the_hungriest_moment() {
        let spec = spec(
            r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m","memory":"64Mi"}}},
                              {"name":"b","resources":{"requests":{"cpu":"200m"}}}],
                "initContainers":[{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"50m"}}},
                                  {"name":"i","resources":{"requests":{"cpu":"1","memory":"32Mi"}}}],
                "overhead":{"cpu":"10m"}}"#,
        );
        let shown: Vec<String> = requests(&spec).iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown.join(" "), "cpu=1060m memory=64Mi");
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let table = [
            (r#"{"containers":[{"name":"a"}]}"#, Qos::BestEffort),
            (r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]}"#, Qos::Burstable),
            (r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]}"#, Qos::Guaranteed),
            (
                r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"1Gi"}}},{"name":"b"}]}"#,
                Qos::Burstable,
            ),
            (
                r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"500m"},"limits":{"cpu":"1","memory":"1Gi"}}}]}"#,
                Qos::Burstable,
            ),
        ];
        for (json, class) in table {
            assert_eq!(qos(&spec(json)), class, "{json}");
        }
    }
}
