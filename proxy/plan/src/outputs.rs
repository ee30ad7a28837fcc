//! What a Service asks of this node besides packet rules: a health check to answer, a node port on loopback. Pure data
//! for an edge that listens.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_nft::Proto;

use crate::endpoints::Backend;
use crate::map::{Changed, Served, ServiceMap};
use crate::service::{Affinity, Claim, ServiceName, Via};
use crate::userspace::{Guard, Listener, PortName, Sticky};

/// A port at which load balancers ask whether this node serves a Service by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthCheck {
    /// The port to listen on.
    pub port: u16,
    /// Ready endpoints on this node: 200 if there are any (and the proxy works), else 503.
    pub local_ready: usize,
}

/// A node port that should also answer on this machine's loopback address, which packet rules cannot do without
/// opening loopback to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopbackPort {
    /// Whose it is.
    pub name: PortName,
    /// The node port.
    pub port: u16,
    /// Who serves; this node's own traffic goes to all servers, whatever the policy. Empty: refuse.
    pub servers: Vec<Backend>,
    /// Whether a client stays with its server. There is one client: this node.
    pub affinity: Affinity,
}

impl LoopbackPort {
    /// What listens there; nobody where nobody serves.
    #[must_use]
    pub fn listener(&self) -> Option<Listener> {
        let servers: Box<[Backend]> = self.servers.as_slice().into();
        (!servers.is_empty()).then(|| Listener {
            port: self.name.clone(),
            insiders: servers.clone(),
            outsiders: servers,
            guard: Guard::default(),
            sticky: Sticky::of(self.affinity),
        })
    }
}

/// Health checks that changed: by Service, what is to be answered now, or `None` for no more.
pub type HealthChanges = BTreeMap<ServiceName, Option<HealthCheck>>;

/// Loopback ports that changed: what is to be served now, or `None` for no more.
pub type LoopbackChanges = BTreeMap<(Proto, u16), Option<LoopbackPort>>;

/// The health check of a Service, if it asks for one.
#[must_use]
pub fn health_check(served: &Served) -> Option<HealthCheck> {
    served.service.health_check_port.map(|port| HealthCheck { port, local_ready: served.ready_here })
}

/// The loopback ports of a Service.
pub fn loopback_ports<'a>(name: &'a Arc<ServiceName>, served: &'a Served) -> impl Iterator<Item = LoopbackPort> + 'a {
    served.ports().flat_map(move |(port, selection)| {
        served.frontends(port).filter_map(move |frontend| match frontend.at {
            Claim::NodePort(_, number) => Some(LoopbackPort {
                name: PortName::of(name, port),
                port: number,
                servers: selection.cluster.to_vec(),
                affinity: served.service.affinity,
            }),
            Claim::Vip(..) => None,
        })
    })
}

/// What changes of the map mean for health checks.
#[must_use]
pub fn health_changes(changes: &[Changed]) -> HealthChanges {
    let of = |served: &Option<Arc<Served>>| served.as_deref().and_then(health_check);
    let moved = changes.iter().map(|c| (&c.name, of(&c.before), of(&c.after))).filter(|(_, old, new)| old != new);
    moved.map(|(name, _, new)| ((**name).clone(), new)).collect()
}

/// What changes of the map mean for loopback ports.
#[must_use]
pub fn loopback_changes(changes: &[Changed]) -> LoopbackChanges {
    let of = |name: &Arc<ServiceName>, served: &Option<Arc<Served>>| -> BTreeMap<(Proto, u16), LoopbackPort> {
        served.iter().flat_map(|s| loopback_ports(name, s)).map(|p| ((p.name.proto, p.port), p)).collect()
    };
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    for change in changes {
        before.extend(of(&change.name, &change.before));
        after.extend(of(&change.name, &change.after));
    }
    let gone = before.keys().filter(|k| !after.contains_key(*k)).map(|k| (*k, None));
    let come = after.iter().filter(|(k, new)| before.get(*k) != Some(*new)).map(|(k, new)| (*k, Some(new.clone())));
    gone.chain(come).collect()
}

/// How much is served: what metrics tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Ports of Services.
    pub ports: usize,
    /// Servers of all ports.
    pub servers: usize,
    /// Ports with internal policy Local and servers, none of which is on this node.
    pub no_local_internal: usize,
    /// The same for external policy Local.
    pub no_local_external: usize,
}

/// Counts everything; its cost is the size of the map.
#[must_use]
pub fn counts(map: &ServiceMap) -> Counts {
    use crate::service::Policy;
    let mut counts = Counts::default();
    for (_, served) in map.iter() {
        counts.services += 1;
        for (port, selection) in served.ports() {
            counts.ports += 1;
            counts.servers += selection.cluster.len();
            let lacks = selection.local.is_empty() && !selection.cluster.is_empty();
            let is_outside = served.frontends(port).any(|f| f.via != Via::ClusterIp);
            counts.no_local_internal += usize::from(lacks && served.service.internal == Policy::Local);
            counts.no_local_external += usize::from(lacks && is_outside && served.service.external == Policy::Local);
        }
    }
    counts
}
