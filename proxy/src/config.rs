//! What the proxy is told, and what can go wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pintle_net::{Cidr, NetError};
use pintle_proxy_plan::Egress;
use pintle_proxy_plan::config::FRESH_FROM;

use crate::backend::BackendError;
use crate::connect_time::{self, ConnectError};
use crate::http_server::Hardness;
use crate::kube_config::{ConfigError, KubeProxyConfiguration, LocalMode, NodePorts};

/// The table's name unless told otherwise.
pub const TABLE: &str = "pintle";

/// The proxy's configuration.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Our node's name.
    pub node: String,
    /// Where pods of all nodes live.
    pub cluster_ranges: Vec<Cidr>,
    /// How pods of this node are told from others.
    pub local_mode: LocalMode,
    /// Where ClusterIPs are allocated.
    pub service_ranges: Vec<Cidr>,
    /// Which of this machine's addresses answer on node ports.
    pub node_ports: NodePorts,
    /// What happens to packets of pods that leave the cluster.
    pub egress: Egress,
    /// Where `/healthz`, `/livez` and `/readyz` are served; `None` for nowhere.
    pub health: Option<SocketAddr>,
    /// Where `/metrics`, `/configz` and `/proxyMode` are served; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether it is the end if one of these addresses cannot be had.
    pub hardness: Hardness,
    /// Whether node ports answer on loopback addresses.
    pub localhost_node_ports: bool,
    /// Whether sockets are led to endpoints as they connect, besides.
    pub connect_time: connect_time::Options,
    /// How soon the kernel ends this process when memory is short; `None` where it does more than proxying.
    pub oom_score_adj: Option<i32>,
    /// The table's name.
    pub table: String,
    /// From how many Services on fresh ones are kept apart ([`pintle_proxy_plan::Config::fresh_from`]).
    pub fresh_from: usize,
    /// Everything else kube-proxy's file says: the mode, its section, and what `/configz` shows.
    pub kube: KubeProxyConfiguration,
}

impl ProxyConfig {
    /// The defaults for a node of a cluster with these ranges: kube-proxy's, and pods' packets that leave the cluster
    /// are masqueraded.
    #[must_use]
    pub fn new(node: &str, cluster_ranges: Vec<Cidr>, service_ranges: Vec<Cidr>) -> Self {
        let texts: Vec<String> = cluster_ranges.iter().map(ToString::to_string).collect();
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            node: node.to_owned(),
            cluster_ranges,
            local_mode: LocalMode::ClusterCidr,
            service_ranges,
            node_ports: NodePorts::All,
            egress: Egress::Masquerade,
            health: Some(SocketAddr::new(any, 10256)),
            metrics: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 10249)),
            hardness: Hardness::Fail,
            localhost_node_ports: true,
            connect_time: connect_time::Options::default(),
            oom_score_adj: None,
            table: TABLE.to_owned(),
            fresh_from: FRESH_FROM,
            kube: KubeProxyConfiguration { cluster_cidr: texts.join(","), ..KubeProxyConfiguration::default() },
        }
    }

    /// What kube-proxy's configuration says. Pods' packets that leave the cluster are left alone, as kube-proxy does.
    ///
    /// # Errors
    /// When a field's value makes no sense.
    pub fn from_kube(node: &str, service_ranges: Vec<Cidr>, kube: KubeProxyConfiguration) -> Result<Self, ConfigError> {
        kube.validate()?;
        let hardness = if kube.bind_address_hard_fail { Hardness::Fail } else { Hardness::Retry };
        Ok(Self {
            local_mode: kube.local_mode()?,
            node_ports: kube.node_port_ranges()?,
            egress: Egress::Leave,
            health: kube.health()?,
            metrics: kube.metrics()?,
            hardness,
            oom_score_adj: kube.oom_score_adj,
            localhost_node_ports: kube.iptables.localhost_node_ports.unwrap_or(true),
            ..Self::new(node, kube.cluster_ranges()?, service_ranges)
        }
        .with_kube(kube))
    }

    /// Packets of pods that leave the cluster get this machine's address.
    #[must_use]
    pub fn with_egress_masquerade(self) -> Self {
        Self { egress: Egress::Masquerade, ..self }
    }

    fn with_kube(self, kube: KubeProxyConfiguration) -> Self {
        Self { kube, ..self }
    }
}

/// Why the proxy cannot run. What passes by itself (a refused transaction, an API server that is away) is not here: it
/// is said and tried again.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A mode that was asked for, or the only one, does not work here.
    #[error("cannot serve Services in mode {mode}")]
    Mode {
        /// Its name.
        mode: &'static str,
        /// Why.
        source: BackendError,
    },
    /// Nobody asked for a mode, and none works here.
    #[error("this machine can serve Services in no mode: {reasons}")]
    NoMode {
        /// Why not in each.
        reasons: String,
    },
    /// What was installed in a mode could not be removed.
    #[error("cannot remove what mode {mode} installed")]
    Cleanup {
        /// Its name.
        mode: &'static str,
        /// Why.
        source: BackendError,
    },
    /// Services are to be served at connect time, and that is impossible here.
    #[error("cannot serve Services at connect time")]
    ConnectTime(#[source] ConnectError),
    /// Packets cannot be forwarded on this machine.
    #[error("cannot let this machine forward packets")]
    Forwarding(#[source] NetError),
    /// An address cannot be listened on.
    #[error("cannot serve {what} on {addr}")]
    Serve {
        /// What would have been served.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Routes could not be read or removed.
    #[error("cannot manage routes to other nodes")]
    Routes(#[source] NetError),
    /// A thread that speaks with the kernel died.
    #[error("the thread that speaks with the kernel was lost")]
    Lost,
}

impl ProxyError {
    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Mode { source, .. } | Self::Cleanup { source, .. } => source.hint(),
            Self::ConnectTime(e) => e.hint(),
            Self::Forwarding(e) | Self::Routes(e) => e.hint(),
            Self::Serve { .. } => Some("another proxy may be running on this machine"),
            Self::NoMode { .. } | Self::Lost => None,
        }
    }
}
