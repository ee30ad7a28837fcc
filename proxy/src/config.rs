//! What the proxy is told, and what can go wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pintle_net::nfnetlink::NftError;
use pintle_net::{Cidr, NetError};
use pintle_proxy_plan::{Egress, Masquerade, NodePortAddresses};

/// The table's name unless told otherwise.
pub const TABLE: &str = "pintle";

/// The proxy's configuration.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Our node's name.
    pub node: String,
    /// Where pods of all nodes live.
    pub cluster_ranges: Vec<Cidr>,
    /// Where ClusterIPs are allocated.
    pub service_ranges: Vec<Cidr>,
    /// Which of this machine's addresses answer on node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Who is masqueraded on the way to a ClusterIP.
    pub masquerade: Masquerade,
    /// What happens to packets of pods that leave the cluster.
    pub egress: Egress,
    /// Where `/healthz` and `/livez` are served; `None` for nowhere.
    pub health: Option<SocketAddr>,
    /// The table's name.
    pub table: String,
}

impl ProxyConfig {
    /// The defaults for a node of a cluster with these ranges; health on port 10256 of all addresses.
    #[must_use]
    pub fn new(node: &str, cluster_ranges: Vec<Cidr>, service_ranges: Vec<Cidr>) -> Self {
        Self {
            node: node.to_owned(),
            cluster_ranges,
            service_ranges,
            node_port_addresses: NodePortAddresses::All,
            masquerade: Masquerade::OffCluster,
            egress: Egress::Masquerade,
            health: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 10256)),
            table: TABLE.to_owned(),
        }
    }
}

/// Why the proxy cannot run. What passes by itself (a refused transaction, an API server that is away) is not here: it
/// is said and tried again.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The kernel's packet filter cannot be used.
    #[error("cannot use nf_tables")]
    Nft(#[source] NftError),
    /// Packets cannot be forwarded on this machine.
    #[error("cannot let this machine forward packets")]
    Forwarding(#[source] NetError),
    /// The health address cannot be listened on.
    #[error("cannot serve health on {addr}")]
    Health {
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
            Self::Nft(e) => e.hint(),
            Self::Forwarding(e) | Self::Routes(e) => e.hint(),
            Self::Health { .. } => Some("another proxy may be running on this machine"),
            Self::Lost => None,
        }
    }
}
