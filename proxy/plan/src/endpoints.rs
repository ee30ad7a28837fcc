//! The endpoints of a Service in the proxy's own words, and the choice of those that serve. Slices of a Service are
//! merged; of an address told twice, the ready one counts.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;
use pintle_nft::{Family, Proto};

use crate::config::Config;
use crate::issue::{Issue, Problem};
use crate::service::{Policy, Port, Service, ServiceName, is_usable, parse_addr, proto, usable_port};

/// The label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One EndpointSlice. There are hundreds of thousands of endpoints in a large cluster: it is kept small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Ports, each listened on by all endpoints.
    pub ports: Box<[SlicePort]>,
    /// Endpoints.
    pub endpoints: Box<[Endpoint]>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name, by which a Service's port finds it; may be empty.
    pub name: Box<str>,
    /// Transport protocol.
    pub proto: Proto,
    /// The number.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub addr: IpAddr,
    /// Whether it takes connections, or is on its way out.
    pub state: State,
    /// Where it is.
    pub place: Place,
    /// Whether it is meant for our node.
    pub node_hint: Hint,
    /// Whether it is meant for our zone.
    pub zone_hint: Hint,
}

/// Whether an endpoint takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Ready.
    Ready,
    /// On its way out and still answering: the last resort.
    Leaving,
    /// Answering, but neither ready nor on its way out: takes no new connections, keeps those it has.
    Serving,
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

/// What an endpoint's hints say of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// It has none.
    None,
    /// It is meant for us.
    Us,
    /// It is meant for others.
    Others,
}

/// One server of one Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::SocketAddr::new(self.addr, self.port).fmt(f)
    }
}

/// The servers of one Service port, for each policy. A server keeps its position as long as it serves, so that a
/// change of one is a change of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For policy Cluster.
    pub cluster: Box<[Backend]>,
    /// For policy Local; empty for a Service that never asks.
    pub local: Box<[Backend]>,
    /// Addresses on this node among both: they may reach themselves.
    pub here: Box<[IpAddr]>,
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
    let name = object.metadata.labels.as_ref()?.get(SERVICE_NAME).filter(|n| !n.is_empty())?.clone();
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
    let mut ports = Vec::new();
    for port in object.ports.iter().flatten() {
        // A port without a number means "all ports" to others; a Service cannot lead there.
        let Some(number) = port.port else { continue };
        let name = port.name.clone().unwrap_or_default();
        match (proto(port.protocol.as_deref()), usable_port(number)) {
            (Some(proto), Some(port)) => ports.push(SlicePort { name: name.into(), proto, port }),
            _ => issues.push(Issue { service: service.clone(), problem: Problem::BadPort { port: name } }),
        }
    }
    let mut endpoints = Vec::with_capacity(object.endpoints.as_ref().map_or(0, Vec::len));
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
    Slice { ports: ports.into(), endpoints: endpoints.into() }
}

fn read_endpoint(config: &Config, addr: IpAddr, endpoint: &discovery::Endpoint) -> Endpoint {
    // Unset means ready and serving; unset "terminating" means no.
    let (ready, serving, terminating) = endpoint.conditions.as_ref().map_or((true, true, false), |c| {
        (c.ready.unwrap_or(true), c.serving.unwrap_or(true), c.terminating.unwrap_or(false))
    });
    let state = match (ready, serving, terminating) {
        (true, ..) => State::Ready,
        (false, true, true) => State::Leaving,
        (false, true, false) => State::Serving,
        (false, false, _) => State::Unready,
    };
    let hint = |names: Option<Vec<&str>>, us: Option<&str>| match names {
        None => Hint::None,
        Some(names) if names.is_empty() => Hint::None,
        Some(names) if us.is_some_and(|us| names.contains(&us)) => Hint::Us,
        Some(_) => Hint::Others,
    };
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|h| Some(h.for_nodes.as_ref()?.iter().map(|n| n.name.as_str()).collect()));
    let zones = hints.and_then(|h| Some(h.for_zones.as_ref()?.iter().map(|z| z.name.as_str()).collect()));
    let here = endpoint.node_name.as_deref() == Some(&config.node);
    Endpoint {
        addr,
        state,
        place: if here { Place::Here } else { Place::Elsewhere },
        node_hint: hint(nodes, Some(&config.node)),
        zone_hint: hint(zones, config.zone.as_deref()),
    }
}

/// Every endpoint of a port with its server, once, sorted; of an address told twice, the best state counts.
fn of_port<'a>(port: &Port, slices: impl Iterator<Item = &'a Slice>) -> Vec<(Backend, Endpoint)> {
    let mut all: Vec<(Backend, Endpoint)> = Vec::new();
    for slice in slices {
        let Some(found) = slice.ports.iter().find(|p| p.name == port.name && p.proto == port.proto) else { continue };
        all.extend(slice.endpoints.iter().map(|e| (Backend { addr: e.addr, port: found.port }, *e)));
    }
    all.sort_by_key(|(backend, e)| (*backend, e.state, e.place, e.node_hint, e.zone_hint));
    all.dedup_by_key(|(backend, _)| *backend);
    all
}

/// Chooses the servers of a port: the ready ones, or if there are none, those on their way out that still answer;
/// decided separately for all and for this node. Servers that were chosen `before` keep their positions.
#[must_use]
pub fn select<'a>(
    config: &Config,
    service: &Service,
    port: &Port,
    slices: impl Iterator<Item = &'a Slice>,
    before: Option<&Selection>,
) -> Selection {
    // A Service's endpoints nobody can reach are no business of ours.
    let all = of_port(port, slices);
    let cluster = near(config, best(all.iter()));
    let local =
        if service.uses_local() { best(all.iter().filter(|(_, e)| e.place == Place::Here)) } else { Vec::new() };
    let mut here: Vec<IpAddr> =
        cluster.iter().chain(&local).filter(|(_, e)| e.place == Place::Here).map(|(b, _)| b.addr).collect();
    here.sort_unstable();
    here.dedup();
    let place = |chosen: Vec<&(Backend, Endpoint)>, before: Option<&[Backend]>| {
        let chosen: Vec<Backend> = chosen.into_iter().map(|(b, _)| *b).collect();
        keep_positions(before.unwrap_or_default(), chosen)
    };
    Selection {
        cluster: place(cluster, before.map(|s| &*s.cluster)),
        local: place(local, before.map(|s| &*s.local)),
        here: here.into(),
    }
}

/// The servers of a port to which existing flows may go on: all that answer, whatever the policy.
#[must_use]
pub fn serving<'a>(port: &Port, slices: impl Iterator<Item = &'a Slice>) -> Vec<Backend> {
    of_port(port, slices).into_iter().filter(|(_, e)| e.state != State::Unready).map(|(b, _)| b).collect()
}

/// How many ready endpoints are on this node, over all ports: what a load balancer's health check asks.
#[must_use]
pub fn ready_here<'a>(slices: impl Iterator<Item = &'a Slice>) -> usize {
    let here = slices.flat_map(|s| &s.endpoints).filter(|e| e.place == Place::Here && e.state == State::Ready);
    here.map(|e| e.addr).collect::<HashSet<_>>().len()
}

fn best<'a>(endpoints: impl Iterator<Item = &'a (Backend, Endpoint)> + Clone) -> Vec<&'a (Backend, Endpoint)> {
    let of = |state| endpoints.clone().filter(move |(_, e)| e.state == state).collect::<Vec<_>>();
    let ready = of(State::Ready);
    if ready.is_empty() { of(State::Leaving) } else { ready }
}

/// Those meant for this node, else for this zone: if every one says whom it is meant for, and some are for us.
fn near<'a>(config: &Config, endpoints: Vec<&'a (Backend, Endpoint)>) -> Vec<&'a (Backend, Endpoint)> {
    if endpoints.iter().any(|(_, e)| e.state != State::Ready) {
        return endpoints;
    }
    let ours = |hint: fn(&Endpoint) -> Hint| {
        let said = endpoints.iter().all(|(_, e)| hint(e) != Hint::None);
        let ours: Vec<_> = endpoints.iter().filter(|(_, e)| said && hint(e) == Hint::Us).copied().collect();
        (!ours.is_empty()).then_some(ours)
    };
    let for_zone = || config.zone.as_ref().and_then(|_| ours(|e| e.zone_hint));
    ours(|e| e.node_hint).or_else(for_zone).unwrap_or(endpoints)
}

/// Places the wanted servers (sorted) so that those placed before stay; holes are filled by new ones, then from the end.
fn keep_positions(before: &[Backend], wanted: Vec<Backend>) -> Box<[Backend]> {
    if before.is_empty() || before == wanted {
        return wanted.into();
    }
    let known: HashSet<&Backend> = before.iter().collect();
    let mut fresh = wanted.iter().filter(|b| !known.contains(b)).copied();
    let mut places: Vec<Option<Backend>> =
        before.iter().map(|b| if wanted.binary_search(b).is_ok() { Some(*b) } else { fresh.next() }).collect();
    places.extend(fresh.map(Some));
    let mut at = 0;
    while at < places.len() {
        if places[at].is_none() {
            places.swap_remove(at);
        } else {
            at += 1;
        }
    }
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn servers(list: &[u8]) -> Vec<Backend> {
        list.iter().map(|n| Backend { addr: IpAddr::from([10, 0, 0, *n]), port: 80 }).collect()
    }

    #[test]
    fn a_server_that_stays_keeps_its_position() {
        for (before, wanted, after) in [
            (&[][..], &[1, 2, 3][..], &[1, 2, 3][..]),
            (&[1, 2, 3], &[2, 3], &[3, 2]),
            (&[1, 2, 3], &[1, 2], &[1, 2]),
            (&[1, 2, 3], &[2, 3, 4], &[4, 2, 3]),
            (&[3, 1], &[1, 2, 3, 4], &[3, 1, 2, 4]),
            (&[1, 2, 3], &[], &[]),
            (&[1, 2, 3, 4], &[3], &[3]),
            (&[1, 2, 3, 4], &[9], &[9]),
        ] {
            assert_eq!(&*keep_positions(&servers(before), servers(wanted)), servers(after), "{before:?} to {wanted:?}");
        }
    }

    #[test]
    fn an_endpoint_is_a_few_words() {
        assert!(size_of::<Endpoint>() <= 24 && size_of::<Backend>() <= 20);
        let of = |text: &str| Backend { addr: text.parse().unwrap(), port: 80 };
        assert_eq!([of("10.0.0.1").to_string(), of("fd00::1").to_string()], ["10.0.0.1:80", "[fd00::1]:80"]);
    }
}
