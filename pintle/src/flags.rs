//! Flags several subcommands share, named as k3s and the Kubernetes components name them.
//!
//! `up` hands its own on to its children and remembers them for `down`: each group can be written as arguments again.

use clap::{Args, ValueEnum};
use pintle_proxy::connect_time::Wanted;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The directories.
#[derive(Args, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirs {
    /// Everything that must survive: keys, the store, images, volumes
    #[arg(long, default_value = "/var/lib/pintle", env = "PINTLE_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Everything that must not survive a reboot: sockets, pod bundles, network namespaces
    #[arg(long, default_value = "/run/pintle", env = "PINTLE_RUN_DIR", value_name = "DIR")]
    pub run_dir: PathBuf,
}

/// What all parts of a cluster must agree on.
#[derive(Args, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Addresses of pods; every node gets a /24 of it
    #[arg(long, default_value = "10.42.0.0/16", value_name = "CIDR")]
    pub cluster_cidr: String,
    /// Virtual addresses of Services
    #[arg(long, default_value = "10.43.0.0/16", value_name = "CIDR")]
    pub service_cidr: String,
    /// Domain of the cluster's names
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
}

/// Where the API server listens.
#[derive(Args, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Address the API server listens on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), value_name = "IP")]
    pub bind_address: IpAddr,
    /// Port the API server listens on
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub https_listen_port: u16,
    /// Address under which others reach the API server [default: the node's]
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Further names or addresses for the API server's certificate
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// Ports of the nodes that Services may have: FIRST-LAST
    #[arg(long, default_value = "30000-32767", value_name = "PORTS")]
    pub service_node_port_range: String,
}

/// What a node is.
#[derive(Args, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the Node object [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The node's address [default: the one used to reach the API server]
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Labels the node registers with
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    pub node_labels: Vec<String>,
    /// Taints the node registers with
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE:EFFECT")]
    pub register_with_taints: Vec<String>,
    /// Cgroup below which kubepods is made
    #[arg(long, default_value = "/pintle", value_name = "CGROUP")]
    pub cgroup_root: String,
    /// Where containers' output is written, in the CRI format
    #[arg(long, default_value = "/var/log/pods", value_name = "DIR")]
    pub pod_logs_dir: PathBuf,
    /// Directory of static pods [default: <state-dir>/agent/manifests]
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// The OCI runtime and pod supervisor [default: pintle-runc next to pintle, else in PATH]
    #[arg(long, value_name = "FILE")]
    pub runtime: Option<PathBuf>,
}

/// How sockets of a node and its pods come to Services, besides the rules that serve everything.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectTime {
    /// Lead sockets of this node and its pods to endpoints as they connect, by eBPF on cgroup v2, besides the rules that
    /// serve everything else: on, off, or auto, which does without where it is impossible [without a value: auto]
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub connect_time: When,
}

/// When something optional is done.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Not at all.
    #[default]
    Off,
    /// Where it is possible.
    Auto,
    /// Or nothing is done at all.
    On,
}

impl ConnectTime {
    /// As arguments.
    pub fn to_args(&self) -> Vec<String> {
        let when = match self.connect_time {
            When::Off => "off",
            When::Auto => "auto",
            When::On => "on",
        };
        vec![flag("connect-time", when)]
    }

    /// As the proxy says it.
    pub fn wanted(&self) -> Wanted {
        match self.connect_time {
            When::Off => Wanted::Off,
            When::Auto => Wanted::Auto,
            When::On => Wanted::On,
        }
    }
}

impl Dirs {
    /// As arguments.
    pub fn to_args(&self) -> Vec<String> {
        vec![flag("state-dir", self.state_dir.display()), flag("run-dir", self.run_dir.display())]
    }

    /// The server's half of the state directory.
    pub fn server(&self) -> PathBuf {
        self.state_dir.join("server")
    }

    /// The agent's half of the state directory.
    pub fn agent(&self) -> PathBuf {
        self.state_dir.join("agent")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state_dir.join("kubeconfig")
    }

    /// The join token's file.
    pub fn token(&self) -> PathBuf {
        self.server().join("token")
    }
}

impl Cluster {
    /// As arguments.
    pub fn to_args(&self) -> Vec<String> {
        vec![
            flag("cluster-cidr", &self.cluster_cidr),
            flag("service-cidr", &self.service_cidr),
            flag("cluster-domain", &self.cluster_domain),
        ]
    }
}

impl Api {
    /// As arguments.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            flag("bind-address", self.bind_address),
            flag("https-listen-port", self.https_listen_port),
            flag("service-node-port-range", &self.service_node_port_range),
        ];
        args.extend(self.advertise_address.map(|a| flag("advertise-address", a)));
        args.extend(self.tls_san.iter().map(|n| flag("tls-san", n)));
        args
    }
}

impl Node {
    /// As arguments.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![flag("cgroup-root", &self.cgroup_root), flag("pod-logs-dir", self.pod_logs_dir.display())];
        args.extend(self.node_name.iter().map(|n| flag("node-name", n)));
        args.extend(self.node_ip.map(|ip| flag("node-ip", ip)));
        args.extend(self.node_labels.iter().map(|l| flag("node-labels", l)));
        args.extend(self.register_with_taints.iter().map(|t| flag("register-with-taints", t)));
        args.extend(self.pod_manifest_path.iter().map(|p| flag("pod-manifest-path", p.display())));
        args.extend(self.runtime.iter().map(|p| flag("runtime", p.display())));
        args
    }

    /// The Node object's name: what was asked for, or the host's name in the form Kubernetes allows.
    pub fn name(&self) -> anyhow::Result<String> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        Self::host_name()
    }

    /// The host's name in the form Kubernetes allows.
    pub fn host_name() -> anyhow::Result<String> {
        let host = nix::unistd::gethostname()?.to_string_lossy().to_lowercase();
        Ok(host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect())
    }
}

/// Makes a directory, with its parents, that only its owner may enter; one that exists stays as it is.
pub fn make_private_dir(path: &std::path::Path) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

/// The address this machine would use to reach `to`. Asks the routing table only: no packet is sent.
pub fn source_address(to: std::net::SocketAddr) -> std::io::Result<IpAddr> {
    let any: std::net::SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// The address by which other machines would reach this one: that of the default route, else loopback.
pub fn own_address() -> IpAddr {
    // RFC 5737 TEST-NET-1: routed as the rest of the world is, and nobody's.
    source_address((Ipv4Addr::new(192, 0, 2, 1), 9).into()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug, PartialEq, Eq)]
    struct All {
        #[command(flatten)]
        dirs: Dirs,
        #[command(flatten)]
        cluster: Cluster,
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        node: Node,
        #[command(flatten)]
        connect_time: ConnectTime,
    }

    impl All {
        fn to_args(&self) -> Vec<String> {
            let mut args = vec!["pintle".to_owned()];
            args.extend([self.dirs.to_args(), self.cluster.to_args(), self.api.to_args()].concat());
            args.extend([self.node.to_args(), self.connect_time.to_args()].concat());
            args
        }
    }

    #[test]
    fn flags_written_as_arguments_are_read_back_the_same() {
        let given = [
            "pintle",
            "--state-dir=/s d",
            "--run-dir=/r",
            "--cluster-cidr=10.1.0.0/16",
            "--bind-address=10.0.0.1",
            "--advertise-address=10.0.0.2",
            "--tls-san=a,b",
            "--service-node-port-range=30000-30100",
            "--node-name=n",
            "--node-ip=10.0.0.3",
            "--node-labels=a=b,c=d",
            "--register-with-taints=k=v:NoSchedule",
            "--pod-manifest-path=/m",
            "--runtime=/bin/x",
            "--cgroup-root=/c",
            "--pod-logs-dir=/l",
            "--connect-time",
        ];
        let all = All::parse_from(given);
        assert_eq!(all.connect_time.connect_time, When::Auto);
        assert_eq!(All::parse_from(all.to_args()), all);
        let defaults = All::parse_from(["pintle"]);
        assert_eq!(All::parse_from(defaults.to_args()), defaults);
    }
}
