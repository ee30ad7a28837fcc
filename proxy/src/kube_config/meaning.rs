//! What the fields mean here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pintle_net::Cidr;
use pintle_proxy_plan::Masquerade;

use super::{ConfigError, KubeProxyConfiguration, Nftables};

/// How pods of this node are told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalMode {
    /// By the cluster's ranges, `clusterCIDR`.
    ClusterCidr,
    /// By the ranges of our Node, `spec.podCIDRs`.
    NodeCidr,
    /// By the bridge they are behind.
    BridgeInterface(String),
    /// By how their interfaces' names begin.
    InterfacePrefix(String),
}

/// What a mode's section says of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// Who is masqueraded on the way to a ClusterIP.
    pub masquerade: Masquerade,
    /// The bit of the packet mark that asks for masquerading, as a mask.
    pub masquerade_mark: u32,
    /// How often what is installed is looked at.
    pub check_every: Duration,
    /// How long a synchronisation waits for the one before at least.
    pub hold: Duration,
}

/// Which of this machine's addresses answer on node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// All of them.
    All,
    /// Those the Node object lists.
    Primary,
    /// Those in these ranges.
    In(Vec<Cidr>),
}

impl KubeProxyConfiguration {
    /// The address that `bindAddress` names as this node's; `None` where it names all.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn node_address(&self) -> Result<Option<IpAddr>, ConfigError> {
        match self.bind_address.trim().parse::<IpAddr>() {
            Ok(addr) => Ok(Some(addr).filter(|a| !a.is_unspecified())),
            Err(_) if self.bind_address.trim().is_empty() => Ok(None),
            Err(_) => {
                let why = format!("\"{}\" is no address", self.bind_address);
                Err(ConfigError::Field { field: "bindAddress", why })
            }
        }
    }

    /// How pods of this node are told from others.
    ///
    /// # Errors
    /// When the mode is unknown or lacks its argument.
    pub fn local_mode(&self) -> Result<LocalMode, ConfigError> {
        let need = |field: &'static str, value: &str| match value {
            "" => Err(ConfigError::Field {
                field,
                why: format!("is needed by detectLocalMode {}", self.detect_local_mode),
            }),
            value => Ok(value.to_owned()),
        };
        match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => Ok(LocalMode::ClusterCidr),
            "NodeCIDR" => Ok(LocalMode::NodeCidr),
            "BridgeInterface" => {
                need("detectLocal.bridgeInterface", &self.detect_local.bridge_interface).map(LocalMode::BridgeInterface)
            }
            "InterfaceNamePrefix" => need("detectLocal.interfaceNamePrefix", &self.detect_local.interface_name_prefix)
                .map(LocalMode::InterfacePrefix),
            other => {
                let why = format!("\"{other}\" is none of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix");
                Err(ConfigError::Field { field: "detectLocalMode", why })
            }
        }
    }

    /// Where the cluster's pods live; empty when not told.
    ///
    /// # Errors
    /// When a text is no range.
    pub fn cluster_ranges(&self) -> Result<Vec<Cidr>, ConfigError> {
        ranges("clusterCIDR", self.cluster_cidr.split(',').filter(|t| !t.trim().is_empty()))
    }

    /// Which of this machine's addresses answer on node ports: `None` for all, and whether the Node's own addresses
    /// are meant (`primary`).
    ///
    /// # Errors
    /// When a text is no range.
    pub fn node_port_ranges(&self) -> Result<NodePorts, ConfigError> {
        match self.node_port_addresses.as_deref() {
            None | Some([]) => Ok(NodePorts::All),
            Some([only]) if only == "primary" => Ok(NodePorts::Primary),
            Some(texts) => Ok(NodePorts::In(ranges("nodePortAddresses", texts.iter().map(String::as_str))?)),
        }
    }

    /// Where `/healthz` is served.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn health(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("healthzBindAddress", &self.healthz_bind_address, 10256)
    }

    /// Where `/metrics` is served.
    ///
    /// # Errors
    /// When the text is no address.
    pub fn metrics(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("metricsBindAddress", &self.metrics_bind_address, 10249)
    }

    /// What holds for rules in a mode: its own section, or that of `nftables` for a mode that has none.
    #[must_use]
    pub fn rules(&self, mode: &str) -> RuleSettings {
        let (nftables, iptables) = (&self.nftables, &self.iptables);
        let (bit, everybody, check_every, hold) = if mode == "iptables" {
            (iptables.masquerade_bit, iptables.masquerade_all, iptables.sync_period, iptables.min_sync_period)
        } else {
            (nftables.masquerade_bit, nftables.masquerade_all, nftables.sync_period, nftables.min_sync_period)
        };
        let bit = bit.and_then(|b| u32::try_from(b).ok()).unwrap_or(14);
        // kube-proxy's default of a second is for those whose synchronisations cost a second.
        let at_once = mode != "iptables" && hold == Nftables::default().min_sync_period;
        RuleSettings {
            masquerade: if everybody { Masquerade::All } else { Masquerade::OffCluster },
            masquerade_mark: 1 << bit.min(31),
            check_every: check_every.0.max(Duration::from_secs(1)),
            hold: if at_once { Duration::ZERO } else { hold.0 },
        }
    }
}

fn ranges<'a>(field: &'static str, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Cidr>, ConfigError> {
    texts
        .map(|text| match text.trim().parse::<Cidr>() {
            Ok(range) => Ok(range.network()),
            Err(_) => Err(ConfigError::Field { field, why: format!("\"{text}\" is no address range") }),
        })
        .collect()
}

/// An address with or without a port; nowhere when empty or when the port is 0.
fn address(field: &'static str, text: &str, port: u16) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = text.parse::<SocketAddr>().or_else(|_no_port| text.parse::<IpAddr>().map(|ip| (ip, port).into()));
    match whole {
        Ok(addr) if addr.port() == 0 => Ok(None),
        Ok(addr) => Ok(Some(addr)),
        Err(_) => Err(ConfigError::Field { field, why: format!("\"{text}\" is no address, with or without a port") }),
    }
}
