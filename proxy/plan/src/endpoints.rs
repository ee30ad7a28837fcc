//! The endpoints of a Service in the proxy's own words, and the choice of those that serve. Slices of a Service are
//! merged; of an address told twice, the ready one counts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;
use pintle_nft::{Family, Proto};

use crate::config::Config;
use crate::issue::{Issue, Problem};
use crate::service::{Policy, Port, ServiceName, is_usable, parse_addr, proto, usable_port};

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Ports by name and protocol.
    pub ports: BTreeMap<(String, Proto), u16>,
    /// Endpoints; each listens on all ports.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub addr: IpAddr,
    /// Whether it takes connections, or is on its way out.
    pub state: State,
    /// Where it is.
    pub place: Place,
    /// Nodes it is meant to serve, empty where nothing is said.
    pub for_nodes: Vec<String>,
    /// Zones it is meant to serve, empty where nothing is said.
    pub for_zones: Vec<String>,
}

/// Whether an endpoint takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Ready.
    Ready,
    /// On its way out and still answering: the last resort.
    Leaving,
    /// Not to be used.
    Unready,
}

/// Where an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this node.
    Here,
    /// On another one, or outside.
    Elsewhere,
}

/// One server of one Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
}

/// The servers of one Service port, for each policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For policy Cluster; those on this node come first.
    pub cluster: Vec<Backend>,
    /// For policy Local.
    pub local: Vec<Backend>,
    /// Addresses on this node among both: they may reach themselves.
    pub here: Vec<IpAddr>,
}

impl Selection {
    /// The servers for a policy.
    #[must_use]
    pub fn of(&self, policy: Policy) -> &[Backend] {
        match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        }
    }

    /// Whether nobody serves anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.local.is_empty()
    }
}

/// The Service a slice belongs to.
#[must_use]
pub fn service_of(object: &discovery::EndpointSlice) -> Option<ServiceName> {
    let name = object.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
    Some(ServiceName { namespace: object.metadata.namespace.clone().unwrap_or_default(), name })
}

/// Reads a slice; one of the other family, or of host names, is empty.
pub fn read(
    config: &Config,
    service: &ServiceName,
    object: &discovery::EndpointSlice,
    issues: &mut Vec<Issue>,
) -> Slice {
    let family = match object.address_type.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    };
    if family != Some(config.family) {
        return Slice::default();
    }
    let mut ports = BTreeMap::new();
    for port in object.ports.iter().flatten() {
        // A port without a number means "all ports" to others; a Service cannot lead there.
        let Some(number) = port.port else { continue };
        let name = port.name.clone().unwrap_or_default();
        match (proto(port.protocol.as_deref()), usable_port(number)) {
            (Some(proto), Some(number)) => drop(ports.insert((name, proto), number)),
            _ => issues.push(Issue { service: service.clone(), problem: Problem::BadPort { port: name } }),
        }
    }
    let mut endpoints = Vec::new();
    for endpoint in object.endpoints.iter().flatten() {
        // Further addresses of one endpoint mean nothing, says the API.
        let Some(text) = endpoint.addresses.first() else { continue };
        match parse_addr(text).filter(|a| is_usable(*a) && Family::of(*a) == config.family) {
            Some(addr) => endpoints.push(read_endpoint(config, addr, endpoint)),
            None => {
                issues.push(Issue { service: service.clone(), problem: Problem::BadEndpoint { address: text.clone() } })
            }
        }
    }
    Slice { ports, endpoints }
}

fn read_endpoint(config: &Config, addr: IpAddr, endpoint: &discovery::Endpoint) -> Endpoint {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // Unset means ready; unset "serving" means the same as ready; unset "terminating" means no.
    let ready = conditions.ready.unwrap_or(true);
    let leaving = conditions.terminating.unwrap_or(false) && conditions.serving.unwrap_or(ready);
    let state = match (ready, leaving) {
        (true, _) => State::Ready,
        (false, true) => State::Leaving,
        (false, false) => State::Unready,
    };
    let hints = endpoint.hints.clone().unwrap_or_default();
    let here = endpoint.node_name.as_deref() == Some(&config.node);
    Endpoint {
        addr,
        state,
        place: if here { Place::Here } else { Place::Elsewhere },
        for_nodes: hints.for_nodes.unwrap_or_default().into_iter().map(|n| n.name).collect(),
        for_zones: hints.for_zones.unwrap_or_default().into_iter().map(|z| z.name).collect(),
    }
}

/// Chooses the servers of a port: the ready ones, or if there are none, those on their way out that still answer;
/// decided separately for all and for this node.
#[must_use]
pub fn select<'a>(config: &Config, port: &Port, slices: impl Iterator<Item = &'a Slice>) -> Selection {
    let mut all: BTreeMap<Backend, &Endpoint> = BTreeMap::new();
    for slice in slices {
        let Some(number) = slice.ports.get(&(port.name.clone(), port.proto)) else { continue };
        for endpoint in slice.endpoints.iter().filter(|e| e.state != State::Unready) {
            let backend = Backend { addr: endpoint.addr, port: *number };
            let known = all.entry(backend).or_insert(endpoint);
            if endpoint.state < known.state {
                *known = endpoint;
            }
        }
    }
    let all: Vec<(Backend, &Endpoint)> = all.into_iter().collect();
    let here: Vec<(Backend, &Endpoint)> = all.iter().filter(|(_, e)| e.place == Place::Here).copied().collect();
    let cluster = near(config, best(&all));
    let local = best(&here);
    let mut here: Vec<IpAddr> =
        cluster.iter().chain(&local).filter(|(_, e)| e.place == Place::Here).map(|(b, _)| b.addr).collect();
    here.sort();
    here.dedup();
    let (first, rest): (Vec<_>, Vec<_>) = cluster.into_iter().partition(|(_, e)| e.place == Place::Here);
    Selection {
        cluster: first.into_iter().chain(rest).map(|(b, _)| b).collect(),
        local: local.into_iter().map(|(b, _)| b).collect(),
        here,
    }
}

fn best<'a>(endpoints: &[(Backend, &'a Endpoint)]) -> Vec<(Backend, &'a Endpoint)> {
    let of = |state| endpoints.iter().filter(move |(_, e)| e.state == state).copied().collect::<Vec<_>>();
    let ready = of(State::Ready);
    if ready.is_empty() { of(State::Leaving) } else { ready }
}

/// Those meant for this node, else for this zone: if every one says whom it is meant for, and some are for us.
fn near<'a>(config: &Config, endpoints: Vec<(Backend, &'a Endpoint)>) -> Vec<(Backend, &'a Endpoint)> {
    let is_for = |hints: &[String], us: &str| hints.iter().any(|h| h == us);
    if endpoints.iter().any(|(_, e)| e.state != State::Ready) {
        return endpoints;
    }
    if endpoints.iter().all(|(_, e)| !e.for_nodes.is_empty()) {
        let ours: Vec<_> = endpoints.iter().filter(|(_, e)| is_for(&e.for_nodes, &config.node)).copied().collect();
        if !ours.is_empty() {
            return ours;
        }
    }
    if let Some(zone) = &config.zone
        && endpoints.iter().all(|(_, e)| !e.for_zones.is_empty())
    {
        let ours: Vec<_> = endpoints.iter().filter(|(_, e)| is_for(&e.for_zones, zone)).copied().collect();
        if !ours.is_empty() {
            return ours;
        }
    }
    endpoints
}
