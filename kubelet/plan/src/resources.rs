//! Requests and limits as cgroup values; QoS classes.
//!
//! Owns: the arithmetic and the cgroup paths. Does not own: writing cgroup files (the runtime does).
//! Figures: `cpu.shares` = milliCPU × 1024 / 1000 within 2..262144; quota over 100 ms, at least 1 ms.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources};

use crate::containers::{Role, containers, spec};
use crate::quantity::{milli_of, units_of};

const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
const PERIOD_US: u64 = 100_000;
const QUOTA_US_MIN: i64 = 1000;

/// How a pod is treated when the node runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// Every container's limits equal its requests.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        })
    }
}

/// CPU in thousandths of a core, memory and local disk in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of `ephemeral-storage`: emptyDirs on disk, writable layers, logs.
    pub storage: i64,
}

impl Amounts {
    fn read(map: Option<&BTreeMap<String, Quantity>>) -> Amounts {
        let units = |name| units_of(map, name);
        Amounts { cpu_milli: milli_of(map, "cpu"), memory: units("memory"), storage: units("ephemeral-storage") }
    }
    fn merged(self, other: Amounts, pick: fn(i64, i64) -> i64) -> Amounts {
        Amounts {
            cpu_milli: pick(self.cpu_milli, other.cpu_milli),
            memory: pick(self.memory, other.memory),
            storage: pick(self.storage, other.storage),
        }
    }
    fn plus(self, other: Amounts) -> Amounts {
        self.merged(other, |a, b| a + b)
    }
    /// These, and the others where these are 0.
    fn over(self, other: Amounts) -> Amounts {
        self.merged(other, |a, b| if a == 0 { b } else { a })
    }
    fn max(self, other: Amounts) -> Amounts {
        self.merged(other, i64::max)
    }
    /// These with the others added where these are not 0.
    fn widened(self, other: Amounts) -> Amounts {
        self.merged(other, |a, b| if a == 0 { 0 } else { a + b })
    }
    /// What QoS classes are made of.
    fn cpu_and_memory(self) -> (i64, i64) {
        (self.cpu_milli, self.memory)
    }
}

/// A container's requests; where absent, its limits.
pub fn requests(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let asked = resources.and_then(|r| r.requests.as_ref());
    let limits = limits(container);
    let has = |name: &str| asked.is_some_and(|m| m.contains_key(name));
    let read = Amounts::read(asked);
    Amounts {
        cpu_milli: if has("cpu") { read.cpu_milli } else { limits.cpu_milli },
        memory: if has("memory") { read.memory } else { limits.memory },
        storage: if has("ephemeral-storage") { read.storage } else { limits.storage },
    }
}

/// A container's limits; 0 means none.
pub fn limits(container: &Container) -> Amounts {
    Amounts::read(container.resources.as_ref().and_then(|r: &ResourceRequirements| r.limits.as_ref()))
}

/// What the pod as a whole requests: the larger of its running time and its start-up, plus overhead.
pub fn pod_requests(pod: &Pod) -> Amounts {
    let mut sidecars = Amounts::default();
    let mut start_up = Amounts::default();
    let mut running = Amounts::default();
    for (role, container) in containers(pod) {
        let own = requests(container);
        match role {
            Role::Sidecar => sidecars = sidecars.plus(own),
            Role::Init => start_up = start_up.max(sidecars.plus(own)),
            Role::Main => running = running.plus(own),
        }
    }
    let sum = whole_requests(pod).over(running.plus(sidecars).max(start_up));
    sum.plus(Amounts::read(spec(pod).overhead.as_ref()))
}

/// What the pod asks for as a whole (`spec.resources`); where absent, its limits. 0 leaves it to its containers.
fn whole_requests(pod: &Pod) -> Amounts {
    let resources = spec(pod).resources.as_ref();
    Amounts::read(resources.and_then(|r| r.requests.as_ref())).over(whole_limits(pod))
}

fn whole_limits(pod: &Pod) -> Amounts {
    Amounts::read(spec(pod).resources.as_ref().and_then(|r| r.limits.as_ref()))
}

/// The pod's QoS class.
pub fn qos_class(pod: &Pod) -> QosClass {
    let mut any = false;
    let mut guaranteed = true;
    // Resources of the pod as a whole decide alone.
    let whole = (whole_requests(pod), whole_limits(pod));
    let parts = containers(pod).map(|(_, c)| (requests(c), limits(c)));
    let parts: Vec<_> = if spec(pod).resources.is_some() { vec![whole] } else { parts.collect() };
    for (asked, limited) in parts {
        let (asked, limited) = (asked.cpu_and_memory(), limited.cpu_and_memory());
        any |= asked != (0, 0) || limited != (0, 0);
        guaranteed &= asked == limited && limited.0 > 0 && limited.1 > 0;
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// The cgroup of all pods of a class, relative to every controller's root.
pub fn class_cgroup(root: &str, class: QosClass) -> String {
    let root = root.trim_end_matches('/');
    match class {
        QosClass::Guaranteed => format!("{root}/kubepods"),
        QosClass::Burstable => format!("{root}/kubepods/burstable"),
        QosClass::BestEffort => format!("{root}/kubepods/besteffort"),
    }
}

/// The pod's cgroup, relative to every controller's root.
pub fn pod_cgroup(root: &str, class: QosClass, uid: &str) -> String {
    format!("{}/pod{uid}", class_cgroup(root, class))
}

/// The value for `/proc/<pid>/oom_score_adj` (kubelet's `qos.GetContainerOOMScoreAdjust`).
pub fn oom_score_adj(class: QosClass, container: &Container, machine_memory: i64) -> i32 {
    match class {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let share = 1000 * requests(container).memory / machine_memory.max(1);
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// The container's cgroup values.
pub fn container_resources(container: &Container, privileged: bool) -> LinuxResources {
    let mut device = LinuxDeviceCgroup::default();
    device.set_allow(privileged).set_access(Some("rwm".to_owned()));
    let mut out = cgroup_values(requests(container), limits(container));
    out.set_devices(Some(vec![device]));
    out
}

/// The pod's cgroup values. A limit holds for the pod only if every container has one.
pub fn pod_resources(pod: &Pod, pids_max: Option<i64>) -> LinuxResources {
    let mut sum = Amounts::default();
    let mut largest_init = Amounts::default();
    let (mut cpu_all, mut memory_all) = (true, true);
    for (role, container) in containers(pod) {
        let own = limits(container);
        match role {
            Role::Init => largest_init = largest_init.max(own),
            Role::Main | Role::Sidecar => sum = sum.plus(own),
        }
        cpu_all &= own.cpu_milli > 0;
        memory_all &= own.memory > 0;
    }
    let limit = sum.max(largest_init);
    let limit = Amounts {
        cpu_milli: if cpu_all { limit.cpu_milli } else { 0 },
        memory: if memory_all { limit.memory } else { 0 },
        storage: 0,
    };
    let limit = whole_limits(pod).over(limit).widened(Amounts::read(spec(pod).overhead.as_ref()));
    let mut out = cgroup_values(pod_requests(pod), limit);
    if let Some(max) = pids_max {
        let mut pids = LinuxPids::default();
        pids.set_limit(max);
        out.set_pids(Some(pids));
    }
    out
}

/// Shares for a CPU request in thousandths of a core.
pub fn shares(cpu_milli: i64) -> u64 {
    let shares = u64::try_from(cpu_milli).unwrap_or(0) * 1024 / 1000;
    shares.clamp(SHARES_MIN, SHARES_MAX)
}

fn cgroup_values(requests: Amounts, limits: Amounts) -> LinuxResources {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(shares(requests.cpu_milli))).set_period(Some(PERIOD_US));
    if limits.cpu_milli > 0 {
        cpu.set_quota(Some((limits.cpu_milli * 100).max(QUOTA_US_MIN)));
    }
    let mut out = LinuxResources::default();
    out.set_devices(None).set_cpu(Some(cpu));
    if limits.memory > 0 {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limits.memory));
        out.set_memory(Some(memory));
    }
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn pod(resources: &[&str]) -> Pod {
        let containers: Vec<String> = resources.iter().map(|r| format!(r#"{{"name":"c","resources":{r}}}"#)).collect();
        let text = format!(r#"{{"metadata":{{}},"spec":{{"containers":[{}]}}}}"#, containers.join(","));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn qos_classes_follow_from_requests_and_limits() {
        let whole = r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#;
        let table = [
            (vec!["{}"], QosClass::BestEffort),
            (vec![whole], QosClass::Guaranteed),
            (vec![whole, "{}"], QosClass::Burstable),
            (vec![r#"{"requests":{"cpu":"1"}}"#], QosClass::Burstable),
            (vec![r#"{"limits":{"cpu":"1"}}"#], QosClass::Burstable),
            (
                vec![r#"{"requests":{"cpu":"500m","memory":"1Gi"},"limits":{"cpu":"1","memory":"1Gi"}}"#],
                QosClass::Burstable,
            ),
        ];
        for (resources, class) in table {
            assert_eq!(qos_class(&pod(&resources)), class, "{resources:?}");
        }
    }

    #[test]
    fn resources_of_the_whole_pod_go_before_those_of_its_containers() {
        let mut pod = pod(&[r#"{"requests":{"cpu":"100m"}}"#]);
        let whole = serde_json::json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
        pod.spec.as_mut().unwrap().resources = Some(serde_json::from_value(whole).unwrap());
        assert_eq!(qos_class(&pod), QosClass::Burstable);
        assert_eq!(pod_requests(&pod), Amounts { cpu_milli: 250, memory: 64 << 20, storage: 0 });
        let json = serde_json::to_string(&pod_resources(&pod, None)).unwrap();
        insta::assert_snapshot!(json, @r#"{"memory":{"limit":67108864},"cpu":{"shares":256,"quota":50000,"period":100000}}"#);
    }

    #[test]
    fn cgroup_values_of_a_limited_container() {
        let pod = pod(&[r#"{"requests":{"cpu":"250m"},"limits":{"cpu":"500m","memory":"64Mi"}}"#]);
        let container = &spec(&pod).containers[0];
        let json = serde_json::to_string(&container_resources(container, false)).unwrap();
        insta::assert_snapshot!(json, @r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":67108864},"cpu":{"shares":256,"quota":50000,"period":100000}}"#);
        assert_eq!(oom_score_adj(qos_class(&pod), container, 1 << 30), 938);
        assert_eq!(shares(0), 2);
    }
}
