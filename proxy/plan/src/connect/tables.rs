//! Services as entries of the maps. Owns which Services are served at connect time, and what changes in which order;
//! the same Services always have the same entries but for the numbers of their lists.
//!
//! A list of servers is never changed: other servers are another list, filled before a frontend leads to it, and freed
//! when no program can be reading it. So a connect in the midst of a change finds the old servers or the new ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pintle_nft::{Cidr, Family, Proto};

use super::layout::{At, Element, Lead, ListId, Reach, any};
use crate::config::{Config, Masquerade};
use crate::endpoints::Backend;
use crate::map::{Served, ServiceMap};
use crate::service::{Affinity, Claim, Frontend, Policy, Port, ServiceName, Via};

/// What to do with the maps, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Put these.
    pub fill: Vec<Element>,
    /// Then let these lead elsewhere, or to nothing.
    pub switch: BTreeMap<At, Option<Lead>>,
    /// When no program runs that began before, remove these.
    pub free: Vec<Element>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fill.is_empty() && self.switch.is_empty() && self.free.is_empty()
    }

    /// How many operations it is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fill.len() + self.switch.len() + self.free.len()
    }
}

/// The Services of one family, as they were last planned.
#[derive(Debug)]
pub struct Tables {
    installed: HashMap<Arc<ServiceName>, Entries>,
    /// Both families share the maps: one has the even numbers, the other the odd ones.
    next: ListId,
}

/// What one Service has in the maps.
#[derive(Debug, Default)]
struct Entries {
    lists: BTreeMap<ListKey, List>,
    leads: BTreeMap<At, Lead>,
}

/// Which list of a Service: those of a port with the same policy are one.
type ListKey = (Proto, u16, Policy);

#[derive(Debug)]
struct List {
    id: ListId,
    servers: Vec<Backend>,
    /// UDP: those to whom existing flows may go on.
    members: BTreeSet<Backend>,
}

impl Tables {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Self { installed: HashMap::new(), next: ListId(u64::from(family == Family::V6)) }
    }

    /// Everything, for empty maps.
    pub fn full(&mut self, map: &ServiceMap) -> Plan {
        self.installed.clear();
        self.change(map, map.iter().map(|(name, _)| name))
    }

    /// What these Services need, given that everything before them is in the maps.
    pub fn change<'a>(&mut self, map: &ServiceMap, names: impl IntoIterator<Item = &'a Arc<ServiceName>>) -> Plan {
        let mut plan = Plan::default();
        let mut gone = Vec::new();
        for name in names {
            let mut before = self.installed.remove(name).unwrap_or_default();
            let after = self.entries(map, name, &mut before, &mut plan);
            for list in before.lists.values() {
                plan.free.extend(list.elements());
            }
            gone.extend(before.leads.keys().filter(|at| !after.leads.contains_key(at)).copied());
            let other = after.leads.iter().filter(|(at, lead)| before.leads.get(*at) != Some(*lead));
            plan.switch.extend(other.map(|(at, lead)| (*at, Some(*lead))));
            if !after.leads.is_empty() {
                self.installed.insert(name.clone(), after);
            }
        }
        // What one Service gave up another may have taken.
        for at in gone {
            plan.switch.entry(at).or_insert(None);
        }
        plan
    }

    /// How many Services are served.
    #[must_use]
    pub fn count(&self) -> usize {
        self.installed.len()
    }

    /// A Service's entries. Lists that stay as they are move over from those `before`; what new ones need is planned.
    fn entries(&mut self, map: &ServiceMap, name: &ServiceName, before: &mut Entries, plan: &mut Plan) -> Entries {
        let mut after = Entries::default();
        let Some(served) = map.get(name).filter(|s| is_ours(map.config(), s)) else { return after };
        for (port, selection) in served.ports().filter(|(port, _)| port.proto != Proto::Sctp) {
            let frontends = served.frontends(port).filter_map(|f| Some((f, way(served, &f)?)));
            for (frontend, (policy, reach)) in frontends {
                let servers = selection.of(policy);
                if servers.is_empty() {
                    continue;
                }
                let key = (port.proto, port.port, policy);
                let list = after.lists.entry(key).or_insert_with(|| {
                    self.list(before.lists.remove(&key), servers, members(map, port, &frontend), plan)
                });
                let count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
                let lead = Lead { list: list.id, count, reach };
                after.leads.insert(at(map.config().family, &frontend.at), lead);
            }
        }
        after
    }

    /// The list with these servers: the same one as before if it can be.
    fn list(&mut self, before: Option<List>, servers: &[Backend], members: BTreeSet<Backend>, plan: &mut Plan) -> List {
        match before {
            Some(list) if list.servers == servers => {
                let (id, old) = (list.id, list.members);
                plan.fill.extend(members.difference(&old).map(|m| Element::Member(id, *m)));
                plan.free.extend(old.difference(&members).map(|m| Element::Member(id, *m)));
                List { id, servers: list.servers, members }
            }
            before => {
                plan.free.extend(before.iter().flat_map(List::elements));
                let list = List { id: self.next, servers: servers.to_vec(), members };
                self.next = ListId(self.next.0 + 2);
                plan.fill.extend(list.elements());
                list
            }
        }
    }
}

impl List {
    fn elements(&self) -> impl Iterator<Item = Element> + '_ {
        let servers = (0..).zip(&self.servers).map(|(number, server)| Element::Endpoint(self.id, number, *server));
        servers.chain(self.members.iter().map(|server| Element::Member(self.id, *server)))
    }
}

/// Whether a Service is one for sockets' beginnings; see `connect` for those that are not.
fn is_ours(config: &Config, served: &Served) -> bool {
    served.service.affinity == Affinity::None && config.masquerade == Masquerade::OffCluster
}

/// Which servers a frontend leads to, and whom. This node's own traffic goes to all servers whatever the external
/// policy; others' traffic to such addresses is not for us.
fn way(served: &Served, frontend: &Frontend) -> Option<(Policy, Reach)> {
    match frontend.via {
        Via::ClusterIp => Some((served.service.internal, Reach::Everybody)),
        Via::LoadBalancer if served.service.source_ranges.is_some() => None,
        Via::LoadBalancer | Via::ExternalIp | Via::NodePort => Some((Policy::Cluster, Reach::Node)),
    }
}

fn members(map: &ServiceMap, port: &Port, frontend: &Frontend) -> BTreeSet<Backend> {
    match port.proto {
        Proto::Udp => map.serving(&frontend.at).into_iter().collect(),
        _ => BTreeSet::new(),
    }
}

fn at(family: Family, claim: &Claim) -> At {
    match *claim {
        Claim::Vip(addr, proto, port) => At { addr, proto, port },
        Claim::NodePort(proto, port) => At { addr: any(family), proto, port },
    }
}

/// Which addresses answer on node ports to this machine's own sockets: of those it has now, the ones that packets may
/// use, and loopback, where it is served at all.
#[must_use]
pub fn here(config: &Config, local: &[IpAddr], on_loopback: bool) -> BTreeSet<IpAddr> {
    let mut here = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        let ranges = config.for_family(family).node_port_ranges();
        let is_allowed = |a: &IpAddr| ranges.as_ref().is_none_or(|r: &Vec<Cidr>| r.iter().any(|c| c.contains(*a)));
        let ours = local.iter().filter(|a| Family::of(**a) == family && !a.is_loopback());
        here.extend(ours.filter(|a| is_allowed(a)));
    }
    if on_loopback {
        here.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
    here
}
