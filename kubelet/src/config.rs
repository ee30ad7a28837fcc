//! What a kubelet is told when it starts, and where it keeps things.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Taint;

/// The version of Kubernetes whose behaviour this node follows.
pub const KUBERNETES_VERSION: &str = "v1.37.0";

/// The directories and the cgroup a kubelet lives in. All that [`crate::cleanup`] needs.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// `/var/lib/pintle`.
    pub state: PathBuf,
    /// `/run/pintle`.
    pub run: PathBuf,
    /// `/var/log/pods`.
    pub pod_logs: PathBuf,
    /// The parent of `kubepods`, relative to every controller's root: `/` or `/name`.
    pub cgroup_root: String,
}

impl Dirs {
    /// Runtime files of a pod.
    pub fn pod_run(&self, uid: &str) -> PathBuf {
        self.run.join("pods").join(uid)
    }
    /// Persistent files of a pod.
    pub fn pod_state(&self, uid: &str) -> PathBuf {
        self.state.join("agent/pods").join(uid)
    }
    /// Bundle of a container.
    pub fn bundle(&self, uid: &str, container: &str) -> PathBuf {
        self.pod_run(uid).join("containers").join(container)
    }
    /// A pod's volume.
    pub fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod_state(uid).join("volumes").join(plugin).join(name)
    }
    /// A container's log file.
    pub fn log_file(&self, pod_dir: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_logs.join(pod_dir).join(container).join(format!("{attempt}.log"))
    }
    /// The image store.
    pub fn images(&self) -> PathBuf {
        self.state.join("agent/images")
    }
    /// Allocated addresses.
    pub fn ipam(&self) -> PathBuf {
        self.state.join("agent/ipam")
    }
    /// The kubelet's own certificates.
    pub fn pki(&self) -> PathBuf {
        self.state.join("agent/pki")
    }
    /// `pintle-runc --root`.
    pub fn runtime_root(&self) -> PathBuf {
        self.run.join("runc")
    }
    /// The parent of all pods' cgroups.
    pub fn kubepods(&self) -> String {
        format!("{}/kubepods", self.cgroup_root.trim_end_matches('/'))
    }
}

/// Everything a kubelet needs to know.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// The node's address, as other nodes and the API server reach it.
    pub node_ip: IpAddr,
    /// Client configuration; if absent it is made from `bootstrap_kubeconfig` and written here.
    pub kubeconfig: PathBuf,
    /// Token and CA with which to ask for a client certificate.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Where things are kept.
    pub dirs: Dirs,
    /// The runtime binary, `pintle-runc`.
    pub runtime: PathBuf,
    /// Directory of static pods.
    pub manifests: Option<PathBuf>,
    /// Cluster DNS servers; empty if there are none.
    pub cluster_dns: Vec<IpAddr>,
    /// E.g. `cluster.local`.
    pub cluster_domain: String,
    /// Labels the node registers with.
    pub labels: BTreeMap<String, String>,
    /// Taints the node registers with.
    pub taints: Vec<Taint>,
    /// Pods at most.
    pub max_pods: u32,
    /// Where the kubelet's API listens.
    pub listen: IpAddr,
    /// Port of the kubelet's API; 10250.
    pub port: u16,
    /// Port of `/healthz` on 127.0.0.1; 10248. 0 does not listen.
    pub health_port: u16,
    /// The pods' addresses on this node; `None` takes the Node's `spec.podCIDR`.
    pub pod_cidr: Option<pintle_net::Cidr>,
    /// Rotate container logs beyond this many bytes.
    pub log_max_bytes: u64,
    /// Keep at most this many log files of a container.
    pub log_max_files: u32,
    /// Processes per pod at most.
    pub pod_pids_max: Option<i64>,
}

impl KubeletConfig {
    /// A configuration with the documented defaults.
    pub fn new(node_name: &str, node_ip: IpAddr, dirs: Dirs, runtime: &Path) -> KubeletConfig {
        let agent = dirs.state.join("agent");
        KubeletConfig {
            node_name: node_name.to_owned(),
            node_ip,
            kubeconfig: agent.join("kubelet.kubeconfig"),
            bootstrap_kubeconfig: Some(agent.join("bootstrap.kubeconfig")),
            manifests: Some(agent.join("manifests")),
            dirs,
            runtime: runtime.to_owned(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            listen: IpAddr::from([0, 0, 0, 0]),
            port: 10250,
            health_port: 10248,
            pod_cidr: None,
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            pod_pids_max: None,
        }
    }
}
