//! What becomes of an imaginary connection: which socket takes it, who is heard, and to whom it is handed on. The same
//! answer as a walk through rules, in the words of [`pintle_nft::trace`]; the steps are sentences, as there are no rules.
//! Knows the proxy's own sockets and addresses, none of other processes.

use std::net::{IpAddr, SocketAddr};

use pintle_nft::trace::{Fate, Journey, Machine, Origin as From, Packet, SourceSeen, Step};
use pintle_nft::{Proto, Value};

use super::{Hold, Listener, Origin, Plan, Userspace, Way, node_port_addrs, refusal};
use crate::backend::Backend as _;
use crate::endpoints::Backend as Server;
use crate::map::ServiceMap;
use crate::service::Claim;

/// Every way a connection, or the first datagram of a flow, may go: one for each server that may be drawn.
#[must_use]
pub fn journeys(map: &ServiceMap, machine: &Machine, packet: Packet) -> Vec<Journey> {
    let plan = Userspace::default().full(map);
    let walk = Walk { map, plan: &plan, machine, packet };
    match walk.listener() {
        Some((at, listener)) => walk.meets(at, listener),
        None => vec![walk.meets_nobody()],
    }
}

struct Walk<'a> {
    map: &'a ServiceMap,
    plan: &'a Plan,
    machine: &'a Machine,
    packet: Packet,
}

impl<'a> Walk<'a> {
    /// The socket that the packet comes to. A Service's own address comes before the wildcard of a node port.
    fn listener(&self) -> Option<(Claim, &'a Listener)> {
        let Packet { destination, proto, port, .. } = self.packet;
        let open = |at: Claim| Some((at, self.plan.listeners.get(&at)?.as_ref()?));
        open(Claim::Vip(destination, proto, port)).or_else(|| open(self.node_port()?))
    }

    /// The node port that the packet is for, whether any Service has it or not: at addresses that answer on such.
    fn node_port(&self) -> Option<Claim> {
        let Packet { destination, proto, port, .. } = self.packet;
        let machine: Vec<IpAddr> = self.machine.local.iter().copied().chain([destination]).collect();
        let addrs = node_port_addrs(self.map.config(), &machine);
        let answers = self.machine.has(destination) && addrs.iter().any(|a| a.is_unspecified() || *a == destination);
        answers.then_some(Claim::NodePort(proto, port))
    }

    fn journey(&self, fate: Fate, told: &[String]) -> Journey {
        let steps = (0..).zip(told).map(|(depth, what)| Step::Told { depth, what: what.clone() }).collect();
        Journey { steps, remembered: Vec::new(), fate }
    }

    fn meets_nobody(&self) -> Journey {
        let Packet { destination, port, proto, .. } = self.packet;
        let untouched = Fate::Delivered { to: destination, port, source: SourceSeen::Kept };
        let is_service = self.plan.addrs.get(&destination) == Some(&Hold::Take);
        let is_unused = self.map.config().service_ranges.iter().any(|range| range.contains(destination));
        let is_node_port = self.node_port().is_some_and(|claim| self.map.frontends().contains(&claim));
        let (fate, why) = if is_service || is_node_port {
            let at = SocketAddr::new(destination, port);
            (Fate::Rejected, format!("no socket of the proxy's at {at}/{}: nobody serves there", proto.name()))
        } else if self.machine.has(destination) {
            (
                untouched,
                "an address of this machine, and no socket of the proxy's: another process may listen".to_owned(),
            )
        } else if is_unused {
            let fate = if self.packet.origin == From::Local { Fate::Rejected } else { Fate::Dropped };
            (
                fate,
                "no Service has this address: a route discards it, which senders on this machine are told".to_owned(),
            )
        } else {
            (untouched, "no address of a Service".to_owned())
        };
        self.journey(fate, &[why])
    }

    fn meets(&self, at: Claim, listener: &Listener) -> Vec<Journey> {
        let heading = format!("listener at {at} for {}", listener.port.service);
        if let Some(why) = refusal(at, listener, self.map.config().family) {
            return vec![self.journey(Fate::Rejected, &[heading, why])];
        }
        let is_local = self.packet.origin == From::Local;
        if let Some(only) = listener.guard.0.iter().find(|list| !list.contain(self.packet.source, is_local)) {
            return vec![self.journey(Fate::Dropped, &[heading, format!("its socket's filter hears only {only}")])];
        }
        let origin = Origin::of(self.map.config(), self.packet.source, &self.way_back());
        let servers = self.servers(listener, origin);
        if servers.is_empty() {
            return vec![self.serves_nobody(heading)];
        }
        servers.into_iter().map(|server| self.handed_on(&heading, listener, origin, server)).collect()
    }

    fn way_back(&self) -> Way {
        match self.packet.origin {
            From::Local => Way::Here,
            From::Arriving if self.machine.has(self.packet.source) => Way::Here,
            From::Arriving => Way::Out(self.packet.ingress.name()),
        }
    }

    /// Who may be drawn: a client with affinity has one server as long as that serves.
    fn servers(&self, listener: &Listener, origin: Origin) -> Vec<Server> {
        let all = listener.servers(origin);
        let knows = |server: &&Server| self.machine.remembered.contains(&self.memory(listener, server));
        let known = listener.sticky.and_then(|_| all.iter().find(knows));
        known.map_or_else(|| all.to_vec(), |server| vec![*server])
    }

    /// What is remembered of a client with affinity: its server, for all frontends of a port.
    fn memory(&self, listener: &Listener, server: &Server) -> (String, Value) {
        let list = format!("{}:{} -> {server}", listener.port.service, listener.port.port);
        (list, Value::new().addr(self.packet.source))
    }

    fn serves_nobody(&self, heading: String) -> Journey {
        let (fate, why) = match self.packet.proto {
            Proto::Tcp => (Fate::Rejected, "nobody serves who comes from there: the connection is reset"),
            Proto::Udp | Proto::Sctp => (Fate::Dropped, "nobody serves who comes from there: the datagram is lost"),
        };
        self.journey(fate, &[heading, why.to_owned()])
    }

    fn handed_on(&self, heading: &str, listener: &Listener, origin: Origin, server: Server) -> Journey {
        let who = match origin {
            _ if !listener.asks_origin() => "everybody is served by the same servers",
            Origin::Inside => "the sender is a pod or this node: all servers",
            Origin::Outside => "the sender is neither pod nor this node: servers on this node only",
        };
        let what = format!("handed on to {server}, by a connection of this machine's own");
        let fate = Fate::Delivered { to: server.addr, port: server.port, source: SourceSeen::Masqueraded };
        let mut journey = self.journey(fate, &[heading.to_owned(), who.to_owned(), what]);
        if listener.sticky.is_some() {
            journey.remembered.push(self.memory(listener, &server));
        }
        journey
    }
}
