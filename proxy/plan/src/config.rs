//! What the planner must know of the node and of the operator's wishes.

use std::net::IpAddr;

use pintle_nft::{Cidr, Family};

/// The planner's configuration; constant as long as the proxy runs, but for what the Node object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which family of Services this planner serves.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// Our node's name, to tell local endpoints.
    pub node: String,
    /// Our node's zone, for topology hints.
    pub zone: Option<String>,
    /// Our node's addresses: one inside a load balancer's source ranges lets the node itself in.
    pub node_addrs: Vec<IpAddr>,
    /// Where pods live. Sources outside are masqueraded on their way to a ClusterIP.
    pub cluster_ranges: Vec<Cidr>,
    /// Where ClusterIPs are allocated. Unallocated ones are dropped here instead of leaving by the default route.
    pub service_ranges: Vec<Cidr>,
    /// Which of this machine's addresses answer on node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Who is masqueraded on the way to a ClusterIP.
    pub masquerade: Masquerade,
    /// What happens to packets of pods that leave the cluster.
    pub egress: Egress,
}

/// Which addresses answer on node ports. Loopback never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of this machine's.
    All,
    /// Those in these ranges.
    In(Vec<Cidr>),
}

/// Who is masqueraded on the way to a ClusterIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// Sources outside the cluster's ranges.
    OffCluster,
    /// Everybody.
    All,
}

/// What happens to packets of pods that leave the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// They get this machine's address: the world has no route back to pods.
    Masquerade,
    /// Nothing; somebody else takes care, or pods are routed.
    Leave,
}

impl Config {
    /// A node's configuration with defaults for everything but its name and the ranges.
    #[must_use]
    pub fn new(node: &str, cluster_ranges: Vec<Cidr>, service_ranges: Vec<Cidr>) -> Self {
        Self {
            family: Family::V4,
            table: "pintle".into(),
            node: node.into(),
            zone: None,
            node_addrs: Vec::new(),
            cluster_ranges,
            service_ranges,
            node_port_addresses: NodePortAddresses::All,
            masquerade: Masquerade::OffCluster,
            egress: Egress::Masquerade,
        }
    }

    pub(crate) fn ours(&self, ranges: &[Cidr]) -> Vec<Cidr> {
        ranges.iter().copied().filter(|r| r.family() == self.family).collect()
    }
}
