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
    /// From how many Services on there is a small table beside the large one ([`crate::small`]): few are looked through
    /// quickly as they are. Mode nftables only.
    pub fresh_from: usize,
    /// Whether there is: decided by the planner whenever everything is loaded.
    pub fresh: bool,
    /// Our node's name, to tell local endpoints.
    pub node: String,
    /// Our node's zone, for topology hints.
    pub zone: Option<String>,
    /// Our node's addresses: one inside a load balancer's source ranges lets the node itself in.
    pub node_addrs: Vec<IpAddr>,
    /// Where pods of the whole cluster live. Their packets to anywhere else leave with this machine's address.
    pub cluster_ranges: Vec<Cidr>,
    /// How pods' packets are told from others'. Sources that are no pods are masqueraded on their way to a ClusterIP.
    pub detect_local: DetectLocal,
    /// Where ClusterIPs are allocated. Unallocated ones are dropped here instead of leaving by the default route.
    pub service_ranges: Vec<Cidr>,
    /// Which of this machine's addresses answer on node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Whether node ports answer on loopback addresses too.
    pub loopback: Loopback,
    /// Who is masqueraded on the way to a ClusterIP.
    pub masquerade: Masquerade,
    /// The bits of the packet mark that ask for masquerading; nobody else may use them.
    pub masquerade_mark: u32,
    /// What happens to packets of pods that leave the cluster.
    pub egress: Egress,
    /// What happens to packets that connection tracking takes for no part of any connection; mode iptables only.
    pub invalid: Invalid,
}

/// How a pod's packet is told from others'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// Its source lies in the cluster's pod ranges ([`Config::cluster_ranges`]); without any, nobody can be told.
    ClusterCidr,
    /// Its source lies in this node's own pod ranges.
    NodeCidr(Vec<Cidr>),
    /// It comes in by this bridge.
    BridgeInterface(String),
    /// It comes in by an interface whose name begins so.
    InterfaceNamePrefix(String),
}

/// Which addresses answer on node ports. Loopback never does by rules; see [`crate::outputs::LoopbackPort`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of this machine's.
    All,
    /// Those of [`Config::node_addrs`]: what `primary` means to kube-proxy.
    Primary,
    /// Those in these ranges.
    In(Vec<Cidr>),
}

/// Whether node ports answer on loopback addresses, where [`NodePortAddresses`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// They do.
    Answers,
    /// They do not.
    Silent,
}

/// Who is masqueraded on the way to a ClusterIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// Whoever is no pod.
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

/// What happens to packets that connection tracking takes for no part of any connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// They are dropped: untranslated, they would make the client's or the server's kernel end a connection.
    Drop,
    /// They pass: somebody sees half of his connections only.
    Pass,
}

/// kube-proxy's bit, so that others who know it leave it alone.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// Here the kernel begins to take as long for a look through all of them as for all else of a change.
pub const FRESH_FROM: usize = 2_000;

impl Config {
    /// A node's configuration with defaults for everything but its name and the ranges; IPv4.
    #[must_use]
    pub fn new(node: &str, cluster_ranges: Vec<Cidr>, service_ranges: Vec<Cidr>) -> Self {
        Self {
            family: Family::V4,
            table: "pintle".into(),
            fresh_from: FRESH_FROM,
            fresh: false,
            node: node.into(),
            zone: None,
            node_addrs: Vec::new(),
            cluster_ranges,
            detect_local: DetectLocal::ClusterCidr,
            service_ranges,
            node_port_addresses: NodePortAddresses::All,
            loopback: Loopback::Answers,
            masquerade: Masquerade::OffCluster,
            masquerade_mark: MASQUERADE_MARK,
            egress: Egress::Masquerade,
            invalid: Invalid::Drop,
        }
    }

    /// The same for the other family; ranges and addresses of both may be mixed in every list.
    #[must_use]
    pub fn for_family(&self, family: Family) -> Self {
        Self { family, ..self.clone() }
    }

    pub(crate) fn ours(&self, ranges: &[Cidr]) -> Vec<Cidr> {
        ranges.iter().copied().filter(|r| r.family() == self.family).collect()
    }

    /// The ranges that answer on node ports; `None` for all of the machine's addresses.
    #[must_use]
    pub fn node_port_ranges(&self) -> Option<Vec<Cidr>> {
        match &self.node_port_addresses {
            NodePortAddresses::All => None,
            NodePortAddresses::Primary => {
                let ours = self.node_addrs.iter().copied().filter(|a| Family::of(*a) == self.family);
                Some(ours.map(Cidr::host).collect())
            }
            NodePortAddresses::In(ranges) => Some(self.ours(ranges)),
        }
    }

    /// The ranges by whose sources pods are told, if that is how.
    #[must_use]
    pub fn pod_sources(&self) -> Option<Vec<Cidr>> {
        match &self.detect_local {
            DetectLocal::ClusterCidr => Some(self.ours(&self.cluster_ranges)),
            DetectLocal::NodeCidr(ranges) => Some(self.ours(ranges)),
            DetectLocal::BridgeInterface(_) | DetectLocal::InterfaceNamePrefix(_) => None,
        }
    }
}
