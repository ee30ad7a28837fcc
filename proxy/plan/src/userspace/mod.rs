//! The userspace backend, for machines without a packet filter: a Service is what this machine listens on and whom a
//! connection is handed to, and its addresses are addresses of this machine. Owns that rendering and its change; the
//! sockets are an edge's.
//!
//! A connection ends here and another begins, so a server always sees this machine as its client.

pub mod filter;
mod listener;
pub mod trace;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use pintle_nft::{Family, Proto};

use crate::backend::Backend;
use crate::config::{Config, Loopback, NodePortAddresses};
use crate::map::{Changed, Served, ServiceMap};
use crate::service::Claim;

pub use listener::{Guard, Listener, Origin, PortName, Sources, Sticky, Way, listeners};

/// What an edge carries out. A full one says everything: whatever it does not name goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Addresses this machine takes, or gives up.
    pub addrs: BTreeMap<IpAddr, Hold>,
    /// What is listened for and who serves, or `None` for no more: what reaches the address then is refused.
    pub listeners: BTreeMap<Claim, Option<Listener>>,
}

/// What becomes of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is this machine's.
    Take,
    /// It is no more.
    Give,
}

/// The rendering: remembers how many Services have each address.
#[derive(Debug, Default)]
pub struct Userspace {
    users: HashMap<IpAddr, u32>,
}

impl Backend for Userspace {
    type Plan = Plan;

    fn full(&mut self, map: &ServiceMap) -> Plan {
        self.users.clear();
        let mut plan = Plan::default();
        for (name, served) in map.iter() {
            for addr in addrs(served) {
                *self.users.entry(addr).or_default() += 1;
                plan.addrs.insert(addr, Hold::Take);
            }
            plan.listeners.extend(listeners(map.config(), name, served).map(|(at, l)| (at, Some(l))));
        }
        plan
    }

    fn change(&mut self, map: &ServiceMap, changes: &[Changed]) -> Plan {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        let mut held: HashMap<IpAddr, i64> = HashMap::new();
        for change in changes {
            for (served, all, by) in [(&change.before, &mut before, -1), (&change.after, &mut after, 1)] {
                let Some(served) = served.as_deref() else { continue };
                all.extend(listeners(map.config(), &change.name, served));
                addrs(served).into_iter().for_each(|addr| *held.entry(addr).or_default() += by);
            }
        }
        let gone = before.keys().filter(|at| !after.contains_key(*at)).map(|at| (*at, None));
        let come = after.iter().filter(|(at, new)| before.get(*at) != Some(*new)).map(|(at, l)| (*at, Some(l.clone())));
        let listeners = gone.chain(come).collect();
        Plan { addrs: self.hold(held), listeners }
    }
}

impl Userspace {
    /// An address comes with its first user and goes with its last.
    fn hold(&mut self, held: HashMap<IpAddr, i64>) -> BTreeMap<IpAddr, Hold> {
        let mut changed = BTreeMap::new();
        for (addr, by) in held.into_iter().filter(|(_, by)| *by != 0) {
            let old = self.users.get(&addr).copied().unwrap_or(0);
            let new = u32::try_from(i64::from(old) + by).unwrap_or(0);
            match (old, new) {
                (0, 1..) => drop(changed.insert(addr, Hold::Take)),
                (1.., 0) => drop(changed.insert(addr, Hold::Give)),
                _ => {}
            }
            if new == 0 {
                self.users.remove(&addr);
            } else {
                self.users.insert(addr, new);
            }
        }
        changed
    }
}

impl Userspace {
    /// The addresses this machine has for Services.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.users.keys().copied()
    }
}

/// Why SCTP is refused.
pub const NO_SCTP: &str = "SCTP is not forwarded by this process; a proxy mode with a packet filter serves it";

/// Why a frontend cannot be listened for, whatever the machine.
#[must_use]
pub fn refusal(at: Claim, listener: &Listener, family: Family) -> Option<String> {
    if at.proto() == Proto::Sctp {
        return Some(NO_SCTP.to_owned());
    }
    Some(filter::compile(&listener.guard, family).err()?.to_string())
}

/// Everything, for people: addresses, and listeners with whom they lead to.
#[must_use]
pub fn text(map: &ServiceMap) -> String {
    let plan = Userspace::default().full(map);
    let mut lines: Vec<String> = plan.addrs.keys().map(|addr| format!("address {addr}")).collect();
    for (at, listener) in plan.listeners.iter().filter_map(|(at, l)| Some((at, l.as_ref()?))) {
        if let Some(why) = refusal(*at, listener, map.config().family) {
            lines.push(format!("refuse {at} for {}: {why}", listener.port.service));
            continue;
        }
        lines.push(format!("listen {at} for {}", listener.port.service));
        lines.extend(listener.guard.0.iter().map(|sources| format!("  only from {sources}")));
        let servers =
            |list: &[crate::endpoints::Backend]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if listener.asks_origin() {
            lines.push(format!("  pods and this node to {}", servers(&listener.insiders)));
            lines.push(format!("  others to {}", servers(&listener.outsiders)));
        } else {
            lines.push(format!("  to {}", servers(&listener.insiders)));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The addresses a Service needs here: the ones it answers on, and its ClusterIP, whose other ports refuse.
fn addrs(served: &Served) -> HashSet<IpAddr> {
    let frontends = served.ports().flat_map(|(port, _)| served.frontends(port));
    let vips = frontends.filter_map(|f| if let Claim::Vip(addr, ..) = f.at { Some(addr) } else { None });
    vips.chain([served.service.cluster_ip]).collect()
}

/// Where node ports are listened for on a machine with these addresses. Every address is one wildcard.
#[must_use]
pub fn node_port_addrs(config: &Config, machine: &[IpAddr]) -> Vec<IpAddr> {
    let (family, loopback) = (config.family, config.loopback);
    if config.node_port_addresses == NodePortAddresses::All && loopback == Loopback::Answers {
        return vec![pintle_nft::Cidr::default_route(family).addr()];
    }
    let ranges = config.node_port_ranges();
    let wanted = |addr: &IpAddr| ranges.as_ref().is_none_or(|r| r.iter().any(|range| range.contains(*addr)));
    let mut addrs: Vec<IpAddr> = machine
        .iter()
        .copied()
        .filter(|a| Family::of(*a) == family && !is_link_local(*a) && wanted(a))
        .filter(|a| loopback == Loopback::Answers || !a.is_loopback())
        .collect();
    addrs.sort_unstable();
    addrs.dedup();
    addrs
}

/// Such an address means something only together with a link.
fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}
