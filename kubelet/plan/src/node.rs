//! The node's own object: labels, capacity, conditions, addresses.
//!
//! Owns: its shape. Does not own: reading the machine, writing to the API server, the Lease's rhythm.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// Images named in a node's status at most (kubelet's default `nodeStatusMaxImages`).
const IMAGES_MAX: usize = 50;

/// The runtimes RuntimeClasses can name: there is one, a drop-in for runc.
pub const HANDLERS: [&str; 1] = ["runc"];

/// What the machine and the configuration say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineFacts {
    /// The node's name.
    pub name: String,
    /// Host name.
    pub hostname: String,
    /// Addresses, the primary one first.
    pub ips: Vec<String>,
    /// Cores.
    pub cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of the file system that holds the state.
    pub disk: i64,
    /// Pods at most.
    pub pods_max: i64,
    /// Kernel release.
    pub kernel: String,
    /// E.g. `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// /etc/machine-id.
    pub machine_id: String,
    /// Boot id of the kernel.
    pub boot_id: String,
    /// DMI product uuid, or the machine id.
    pub system_uuid: String,
    /// Labels from the configuration.
    pub labels: BTreeMap<String, String>,
    /// Taints from the configuration.
    pub taints: Vec<Taint>,
    /// Port of the kubelet's API.
    pub kubelet_port: i32,
    /// Version of Kubernetes this node speaks.
    pub kubelet_version: String,
    /// Version of this program.
    pub runtime_version: String,
    /// Names and bytes of images in the store.
    pub images: Vec<(Vec<String>, i64)>,
    /// Why the node cannot run pods; empty if it can.
    pub not_ready: Option<String>,
}

/// What pods may use: a core and memory kept for the node's own processes is not withheld yet.
pub fn allocatable(facts: &MachineFacts) -> (i64, i64) {
    (facts.cpus * 1000, facts.memory - (100 << 20))
}

/// The labels every node has.
pub fn labels(facts: &MachineFacts) -> BTreeMap<String, String> {
    let arch = architecture();
    let mut out = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), facts.name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch.to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch.to_owned()),
    ]);
    out.extend(facts.labels.clone());
    out
}

/// A new node, as first written to the API server.
pub fn new_node(facts: &MachineFacts, now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels(facts)),
            annotations: Some(BTreeMap::from([(
                "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                "true".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!facts.taints.is_empty()).then(|| facts.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status(facts, &NodeStatus::default(), now)),
    }
}

/// The node's status now; `previous` keeps transition times and what others wrote.
pub fn status(facts: &MachineFacts, previous: &NodeStatus, now: Timestamp) -> NodeStatus {
    let (cpu_milli, memory) = allocatable(facts);
    let amounts = |cpu: i64, memory: i64| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(if cpu % 1000 == 0 { (cpu / 1000).to_string() } else { format!("{cpu}m") })),
            ("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", facts.disk / 1024))),
            ("pods".to_owned(), Quantity(facts.pods_max.to_string())),
        ])
    };
    let mut addresses: Vec<NodeAddress> = facts.ips.iter().map(|ip| address("InternalIP", ip)).collect();
    addresses.push(address("Hostname", &facts.hostname));
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(amounts(facts.cpus * 1000, facts.memory)),
        allocatable: Some(amounts(cpu_milli, memory)),
        conditions: Some(conditions(facts, previous, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: facts.kubelet_port }),
        }),
        images: Some(images(&facts.images)),
        node_info: Some(info(facts)),
        runtime_handlers: Some(handlers()),
        volumes_attached: previous.volumes_attached.clone(),
        ..NodeStatus::default()
    }
}

/// The default handler has no name.
fn handlers() -> Vec<NodeRuntimeHandler> {
    let features = NodeRuntimeHandlerFeatures { recursive_read_only_mounts: Some(true), user_namespaces: Some(false) };
    let handler = |name: &str| NodeRuntimeHandler { name: Some(name.to_owned()), features: Some(features.clone()) };
    std::iter::once("").chain(HANDLERS).map(handler).collect()
}

/// Whether a status differs in more than its heartbeat times.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |s: &NodeStatus| {
        let mut out = s.clone();
        for condition in out.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        out
    };
    still(a) != still(b)
}

fn address(type_: &str, value: &str) -> NodeAddress {
    NodeAddress { address: value.to_owned(), type_: type_.to_owned() }
}

fn images(list: &[(Vec<String>, i64)]) -> Vec<ContainerImage> {
    let mut list = list.to_vec();
    list.sort_by_key(|image| std::cmp::Reverse(image.1));
    list.truncate(IMAGES_MAX);
    list.into_iter().map(|(names, bytes)| ContainerImage { names: Some(names), size_bytes: Some(bytes) }).collect()
}

fn info(facts: &MachineFacts) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: facts.boot_id.clone(),
        container_runtime_version: format!("pintle://{}", facts.runtime_version),
        kernel_version: facts.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: facts.kubelet_version.clone(),
        machine_id: facts.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: facts.os_image.clone(),
        system_uuid: facts.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

fn conditions(facts: &MachineFacts, previous: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let ready = match &facts.not_ready {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("Ready", false, "KubeletNotReady", why.clone()),
    };
    let all = [
        ("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available".to_owned()),
        ("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_owned()),
        ("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned()),
        ready,
    ];
    let old: Vec<&NodeCondition> = previous.conditions.iter().flatten().collect();
    let mut out: Vec<NodeCondition> = Vec::new();
    for (type_, holds, reason, message) in all {
        let status = if holds { "True" } else { "False" };
        let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
        out.push(NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(whole_second(now)),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(whole_second(now))),
        });
    }
    out.extend(old.into_iter().filter(|c| !all_types().contains(&c.type_.as_str())).cloned());
    out
}

fn all_types() -> [&'static str; 4] {
    ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
}

fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
