//! Which client belongs to which server, told from the connections that are tracked: for when the sets that knew it are
//! gone with their table. Whoever has no connection any more, and none that ended lately, is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use pintle_nft::{Flow, Name, Proto};

use crate::endpoints::Backend;
use crate::fragment;
use crate::map::ServiceMap;
use crate::service::{Affinity, Claim};

/// Clients by the set that remembers them, each with the time it stays without another connection, in milliseconds.
pub type Clients = BTreeMap<Name, BTreeMap<IpAddr, u64>>;

/// The ports whose clients stay with their servers.
#[derive(Clone, Debug, Default)]
pub struct Sticky {
    at: HashMap<Claim, usize>,
    ports: Vec<StickyPort>,
}

#[derive(Clone, Debug)]
struct StickyPort {
    id: String,
    servers: HashSet<Backend>,
    timeout_ms: u64,
}

impl Sticky {
    /// Those of the map.
    #[must_use]
    pub fn of(map: &ServiceMap) -> Self {
        let mut sticky = Self::default();
        for (name, served) in map.iter() {
            let Affinity::ClientIp { timeout_ms } = served.service.affinity else { continue };
            for (port, selection) in served.ports() {
                let at = sticky.ports.len();
                sticky.at.extend(served.frontends(port).map(|frontend| (frontend.at, at)));
                let servers = selection.cluster.iter().chain(selection.local.iter()).copied().collect();
                sticky.ports.push(StickyPort { id: fragment::port_id(name, port), servers, timeout_ms });
            }
        }
        sticky
    }

    /// The protocols they speak: which flows are worth reading.
    #[must_use]
    pub fn protocols(&self) -> BTreeSet<Proto> {
        self.at.keys().map(Claim::proto).collect()
    }

    /// Whom these flows show to belong to a server that serves; of a client with several servers, the first counts.
    #[must_use]
    pub fn clients(&self, flows: &[Flow]) -> Clients {
        let (mut clients, mut seen) = (Clients::new(), HashSet::new());
        for flow in flows.iter().filter(|flow| flow.server != flow.frontend) {
            let vip = Claim::Vip(flow.frontend.0, flow.proto, flow.frontend.1);
            let node_port = Claim::NodePort(flow.proto, flow.frontend.1);
            let Some(at) = self.at.get(&vip).or_else(|| self.at.get(&node_port)) else { continue };
            let (port, server) = (&self.ports[*at], Backend { addr: flow.server.0, port: flow.server.1 });
            if port.servers.contains(&server) && seen.insert((at, flow.client.0)) {
                let set = fragment::clients_of(&port.id, &server).as_str().into();
                clients.entry(set).or_default().insert(flow.client.0, port.timeout_ms);
            }
        }
        clients
    }
}
