//! One frontend as a socket: who may speak to it, and whom it leads to. The same serving always gives the same
//! listeners, so a change is the difference of two.

use std::net::IpAddr;
use std::sync::Arc;

use pintle_nft::{Cidr, Proto};

use crate::config::{Config, DetectLocal};
use crate::endpoints::{Backend, Selection};
use crate::map::Served;
use crate::service::{Affinity, Claim, Frontend, Policy, Port, Service, ServiceName, Via};

/// What listens at a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose it is. Clients with affinity are remembered by it, at all of its frontends alike.
    pub port: PortName,
    /// Where pods and this node itself go.
    pub insiders: Box<[Backend]>,
    /// Where everybody else goes. Nowhere, where only insiders are served: they hear nothing.
    pub outsiders: Box<[Backend]>,
    /// Whose packets are heard at all.
    pub guard: Guard,
    /// Whether a client stays with its server.
    pub sticky: Option<Sticky>,
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// The Service.
    pub service: Arc<ServiceName>,
    /// The port's name; may be empty.
    pub port: Box<str>,
    /// Its transport protocol.
    pub proto: Proto,
}

impl PortName {
    /// The name of a Service's port.
    #[must_use]
    pub fn of(service: &Arc<ServiceName>, port: &Port) -> Self {
        Self { service: service.clone(), port: port.name.clone(), proto: port.proto }
    }
}

/// Session affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// How long a silent client is remembered.
    pub timeout_ms: u64,
}

impl Sticky {
    /// If a Service has it.
    #[must_use]
    pub fn of(affinity: Affinity) -> Option<Self> {
        match affinity {
            Affinity::None => None,
            Affinity::ClientIp { timeout_ms } => Some(Self { timeout_ms }),
        }
    }
}

/// Whose packets a listener hears: those that every list lets in. The others' are dropped without a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard(pub Vec<Sources>);

/// Some senders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Whether this machine is among them, whatever address it uses.
    pub machine: bool,
    /// Addresses.
    pub ranges: Vec<Cidr>,
}

impl Sources {
    /// Whether a packet from there is among them; `is_local` tells whether this machine sent it.
    #[must_use]
    pub fn contain(&self, source: IpAddr, is_local: bool) -> bool {
        (self.machine && is_local) || self.ranges.iter().any(|range| range.contains(source))
    }
}

impl std::fmt::Display for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let machine = self.machine.then(|| "this machine".to_owned());
        let all: Vec<String> = machine.into_iter().chain(self.ranges.iter().map(ToString::to_string)).collect();
        f.write_str(&if all.is_empty() { "nobody".to_owned() } else { all.join(", ") })
    }
}

/// From where a connection comes, as policy Local tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod, or this machine itself.
    Inside,
    /// Anywhere else.
    Outside,
}

impl Listener {
    /// Whether it matters where a connection comes from.
    #[must_use]
    pub fn asks_origin(&self) -> bool {
        self.insiders != self.outsiders
    }

    /// Who serves connections from there.
    #[must_use]
    pub fn servers(&self, origin: Origin) -> &[Backend] {
        match origin {
            Origin::Inside => &self.insiders,
            Origin::Outside => &self.outsiders,
        }
    }
}

/// Where a Service answers, and how. Frontends of a port that nobody serves are not listened for, so that they refuse.
pub fn listeners<'a>(
    config: &'a Config,
    name: &'a Arc<ServiceName>,
    served: &'a Served,
) -> impl Iterator<Item = (Claim, Listener)> + 'a {
    let with_servers = served.ports().filter(|(_, selection)| !selection.is_empty());
    with_servers.flat_map(move |(port, selection)| {
        served
            .frontends(port)
            .map(move |frontend| (frontend.at, listener(config, name, &served.service, port, selection, frontend)))
    })
}

fn listener(
    config: &Config,
    name: &Arc<ServiceName>,
    service: &Service,
    port: &Port,
    selection: &Selection,
    frontend: Frontend,
) -> Listener {
    let policy = service.policy(frontend.via);
    // Policy Local of a ClusterIP is for everybody; of all others, for those who come from outside.
    let insiders = if frontend.via == Via::ClusterIp { selection.of(policy) } else { selection.of(Policy::Cluster) };
    let outsiders = selection.of(policy);
    let mut guard = Guard::default();
    guard.0.extend(source_ranges(config, service, frontend));
    if outsiders.is_empty() {
        guard.0.extend(served_sources(config, insiders));
    }
    Listener {
        port: PortName::of(name, port),
        insiders: insiders.into(),
        outsiders: outsiders.into(),
        guard,
        sticky: Sticky::of(service.affinity),
    }
}

/// Whom the Service names as sources for its load balancers' addresses. This node's own packets can have such an
/// address as their source, where it is an address of this node too.
fn source_ranges(config: &Config, service: &Service, frontend: Frontend) -> Option<Sources> {
    let told = service.source_ranges.as_deref().filter(|_| frontend.via == Via::LoadBalancer)?;
    let mut ranges = config.ours(told);
    if config.node_addrs.iter().any(|a| ranges.iter().any(|r| r.contains(*a))) {
        ranges.extend(service.load_balancer_ips.iter().map(|a| Cidr::host(*a)));
    }
    Some(Sources { machine: false, ranges })
}

/// Who is heard where outsiders are served by nobody. Pods that are told by their interface are found out only once
/// their connection is there: then nobody is kept from speaking.
fn served_sources(config: &Config, insiders: &[Backend]) -> Option<Sources> {
    if insiders.is_empty() {
        return Some(Sources::default());
    }
    config.pod_sources().map(|ranges| Sources { machine: true, ranges })
}

/// Where a packet back to a client would go, as the routing table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It would stay here.
    Here,
    /// Out of this interface.
    Out(String),
    /// Nowhere.
    None,
}

impl Origin {
    /// Tells a client by its address and the way back to it.
    #[must_use]
    pub fn of(config: &Config, client: IpAddr, way: &Way) -> Self {
        let is_pod = match (&config.detect_local, way) {
            (_, Way::Here) => true,
            (DetectLocal::ClusterCidr | DetectLocal::NodeCidr(_), _) => {
                config.pod_sources().is_some_and(|ranges| ranges.iter().any(|r| r.contains(client)))
            }
            (DetectLocal::BridgeInterface(bridge), Way::Out(name)) => name == bridge,
            (DetectLocal::InterfaceNamePrefix(prefix), Way::Out(name)) => name.starts_with(prefix.as_str()),
            (DetectLocal::BridgeInterface(_) | DetectLocal::InterfaceNamePrefix(_), Way::None) => false,
        };
        if is_pod { Self::Inside } else { Self::Outside }
    }
}
