//! The userspace backend: Services' addresses as addresses of this machine, and a [`Forwarder`] that listens there.
//!
//! ```text
//!  Unknown ── what is there is looked at: stale addresses go, missing ones come, every listener is set ──► AsPlanned
//!     ▲                                                                                        │    ▲
//!     └── an address is refused, somebody took one, this machine's own addresses changed ──────┘    │ a change:
//!                                                                                              └────┘ its own size
//! ```
//!
//! The addresses outlive this process, the listeners do not. A frontend that cannot be listened for is left out and tried
//! again; the others are not concerned.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pintle_net::NetError;
use pintle_net::hosts::{self, Entry, Hosts};
use pintle_nft::{Family, Proto};
use pintle_proxy_plan::backend::Backend as _;
use pintle_proxy_plan::map::Resolved;
use pintle_proxy_plan::outputs::{self, LoopbackChanges};
use pintle_proxy_plan::userspace::{Hold, Listener, Origin, Plan, Userspace, Way, node_port_addrs};
use pintle_proxy_plan::{Change, Claim, Config, ServiceMap, ServiceName};

use crate::backend::{Backend, Extent, FamilyReport, Found, Report};
use crate::forward::{At, Counters, Forwarder, Idle, Limits, Origins};

/// See the module's description.
pub struct UserspaceBackend {
    config: Config,
    hosts: Hosts,
    forwarder: Forwarder,
    families: Vec<PerFamily>,
}

struct PerFamily {
    map: ServiceMap,
    rendering: Userspace,
    installed: Installed,
    /// Where node ports are listened for.
    node_ports: Vec<IpAddr>,
    /// What cannot be listened for, whose it is, and why not.
    refused: BTreeMap<At, (ServiceName, String)>,
    /// UDP frontends whose flows must be looked at.
    touched: BTreeSet<Claim>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Installed {
    Unknown,
    AsPlanned,
}

impl UserspaceBackend {
    /// Knows nothing yet of Services. Within a runtime, whose threads forward.
    ///
    /// # Errors
    /// When there is no rtnetlink.
    pub fn new(config: Config, families: &[Family], limits: Limits) -> Result<Self, NetError> {
        let origins = RouteOrigins::new(&config)?;
        Ok(Self {
            hosts: Hosts::open()?,
            forwarder: Forwarder::new(limits, Idle::default(), Arc::new(origins)),
            families: families.iter().map(|f| PerFamily::new(&config, *f)).collect(),
            config,
        })
    }
}

impl Backend for UserspaceBackend {
    fn config(&self) -> &Config {
        &self.config
    }

    fn reconfigure(&mut self, config: Config) {
        let families: Vec<Family> = self.families.iter().map(PerFamily::family).collect();
        self.families = families.into_iter().map(|f| PerFamily::new(&config, f)).collect();
        match RouteOrigins::new(&config) {
            Ok(origins) => self.forwarder.set_origins(Arc::new(origins)),
            Err(error) => tracing::warn!(%error, "pods are told from others as before"),
        }
        self.config = config;
    }

    fn note(&mut self, change: Change<'_>) {
        self.families.iter_mut().for_each(|f| f.map.note(change));
    }

    fn distrust(&mut self) {
        self.families.iter_mut().for_each(|f| f.installed = Installed::Unknown);
    }

    fn sync(&mut self) -> Report {
        let mut report = Report::default();
        for family in &mut self.families {
            let (done, found) = family.sync(&mut self.hosts, &mut self.forwarder);
            report.add(done, found);
        }
        self.forwarder.settle_blocking();
        report.settle_health(|| self.families.iter().map(|f| &f.map));
        report
    }

    fn maps(&self) -> Vec<&ServiceMap> {
        self.families.iter().map(|f| &f.map).collect()
    }

    fn forwarding(&self) -> Option<Arc<Counters>> {
        Some(self.forwarder.counters())
    }

    fn is_intact(&mut self) -> bool {
        let (Ok(ours), Ok(machine)) = (self.hosts.ours(), self.hosts.interface_addrs()) else { return false };
        self.families.iter().filter(|f| f.installed == Installed::AsPlanned).all(|family| {
            let there: BTreeSet<Entry> = ours.iter().filter(|e| e.family() == family.family()).copied().collect();
            there == family.entries() && node_port_addrs(family.map.config(), &machine) == family.node_ports
        })
    }
}

impl PerFamily {
    fn new(config: &Config, family: Family) -> Self {
        Self {
            map: ServiceMap::new(config.for_family(family)),
            rendering: Userspace::default(),
            installed: Installed::Unknown,
            node_ports: Vec::new(),
            refused: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    fn family(&self) -> Family {
        self.map.config().family
    }

    /// The routes that should be there.
    fn entries(&self) -> BTreeSet<Entry> {
        let config = self.map.config();
        let unused = config.service_ranges.iter().filter(|r| r.family() == config.family);
        self.rendering.addrs().map(Entry::Local).chain(unused.map(|r| Entry::Discard(r.network()))).collect()
    }

    fn sync(&mut self, hosts: &mut Hosts, forwarder: &mut Forwarder) -> (FamilyReport, Found) {
        let begun = Instant::now();
        let mut resolved = self.map.resolve();
        self.touched.append(&mut resolved.touched);
        let mut ops = 0;
        let (extent, outcome) = match self.installed {
            Installed::AsPlanned => {
                let plan = self.rendering.change(&self.map, &resolved.changes);
                let extent = if plan == Plan::default() { Extent::Nothing } else { Extent::Incremental };
                (extent, self.change(plan, hosts, forwarder, &mut ops))
            }
            Installed::Unknown => (Extent::Full, self.install(hosts, forwarder, &mut ops)),
        };
        self.installed = if outcome.is_ok() { Installed::AsPlanned } else { Installed::Unknown };
        let flows = self.forget_stale_flows(forwarder);
        let report = FamilyReport {
            family: self.family(),
            extent,
            ops,
            took: begun.elapsed(),
            longest: Duration::ZERO,
            refused: self.refused.values().cloned().collect(),
            flows: Ok(flows),
            outcome: outcome.map_err(Into::into),
        };
        let health = outputs::health_changes(&resolved.changes);
        // Listeners for node ports are for loopback too.
        let Resolved { concerned, issues, .. } = resolved;
        (report, Found { concerned, issues, health, loopback: LoopbackChanges::new() })
    }

    /// Everything, whatever is there.
    fn install(&mut self, hosts: &mut Hosts, forwarder: &mut Forwarder, ops: &mut usize) -> Result<(), NetError> {
        let plan = self.rendering.full(&self.map);
        let family = self.family();
        self.touched.extend(self.map.frontends().into_iter().filter(|c| c.proto() == Proto::Udp));
        let ours: BTreeSet<Entry> = hosts.ours()?.into_iter().filter(|e| e.family() == family).collect();
        self.node_ports = node_port_addrs(self.map.config(), &hosts.interface_addrs()?);
        let wanted = self.entries();
        for entry in wanted.difference(&ours) {
            hosts.add(*entry)?;
            *ops += 1;
        }
        let kept: HashSet<At> = plan.listeners.keys().flat_map(|claim| self.places(claim)).collect();
        let stale = forwarder.listening().filter(|at| Family::of(at.addr.ip()) == family && !kept.contains(at));
        for at in stale.copied().collect::<Vec<_>>() {
            forwarder.close(&at);
            *ops += 1;
        }
        self.refused.clear();
        self.listen(plan.listeners, forwarder, ops);
        for entry in ours.difference(&wanted) {
            hosts.remove(*entry)?;
            *ops += 1;
        }
        Ok(())
    }

    /// What changed, given that everything before is there.
    fn change(
        &mut self,
        plan: Plan,
        hosts: &mut Hosts,
        forwarder: &mut Forwarder,
        ops: &mut usize,
    ) -> Result<(), NetError> {
        let of = |hold| plan.addrs.iter().filter(move |(_, h)| **h == hold).map(|(addr, _)| Entry::Local(*addr));
        *ops += plan.addrs.len();
        of(Hold::Take).try_for_each(|entry| hosts.add(entry))?;
        self.listen(plan.listeners, forwarder, ops);
        of(Hold::Give).try_for_each(|entry| hosts.remove(entry))
    }

    /// Sets and closes listeners; notes what is refused.
    fn listen(&mut self, listeners: BTreeMap<Claim, Option<Listener>>, forwarder: &mut Forwarder, ops: &mut usize) {
        for (claim, listener) in listeners {
            let listener = listener.map(Arc::new);
            for at in self.places(&claim) {
                *ops += 1;
                self.refused.remove(&at);
                let Some(listener) = &listener else {
                    forwarder.close(&at);
                    continue;
                };
                if let Err(error) = forwarder.set(at, listener) {
                    let why = format!("{at}: {}", error.text());
                    self.refused.insert(at, ((*listener.port.service).clone(), why));
                }
            }
        }
    }

    /// Where a frontend is listened for.
    fn places(&self, claim: &Claim) -> Vec<At> {
        match *claim {
            Claim::Vip(addr, proto, port) => vec![At { proto, addr: SocketAddr::new(addr, port) }],
            Claim::NodePort(proto, port) => {
                self.node_ports.iter().map(|addr| At { proto, addr: SocketAddr::new(*addr, port) }).collect()
            }
        }
    }

    /// A client that goes on sending keeps its flow, and with it a server that may be gone.
    fn forget_stale_flows(&mut self, forwarder: &Forwarder) -> usize {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return 0;
        }
        let stale = self.map.stale_flows(&touched, &forwarder.flows());
        stale.iter().for_each(|flow| forwarder.forget(flow));
        stale.len()
    }
}

/// Tells clients by the routing table: who is a pod, and who this machine itself.
struct RouteOrigins {
    hosts: Mutex<Hosts>,
    configs: [Config; 2],
}

impl RouteOrigins {
    fn new(config: &Config) -> Result<Self, NetError> {
        let configs = [Family::V4, Family::V6].map(|family| config.for_family(family));
        Ok(Self { hosts: Mutex::new(Hosts::open()?), configs })
    }
}

impl Origins for RouteOrigins {
    fn of(&self, client: IpAddr) -> Origin {
        let way = match self.hosts.lock().unwrap_or_else(PoisonError::into_inner).way_to(client) {
            Ok(hosts::Way::Here) => Way::Here,
            Ok(hosts::Way::Out(interface)) => Way::Out(interface),
            // Nobody who cannot be answered is a pod of ours.
            Ok(hosts::Way::None) | Err(_) => Way::None,
        };
        let family = usize::from(client.is_ipv6());
        Origin::of(&self.configs[family], client, &way)
    }
}

/// Removes all addresses and routes of this backend, of this process and of those before it.
///
/// # Errors
/// The kernel's reason; the others were removed all the same.
pub fn cleanup() -> Result<(), NetError> {
    let mut hosts = Hosts::open()?;
    let all = hosts.ours()?;
    all.into_iter().map(|entry| hosts.remove(entry)).fold(Ok(()), Result::and)
}

/// Whether this machine lets us have addresses of a family. Nothing is left behind.
///
/// # Errors
/// The kernel's reason.
pub fn probe(family: Family) -> Result<(), NetError> {
    // Addresses that mean nothing to anybody: RFC 7600's dummy, and one of the discard prefix of RFC 6666.
    let addr = match family {
        Family::V4 => IpAddr::from([192, 0, 0, 8]),
        Family::V6 => IpAddr::from([0x100, 0, 0, 0, 0, 0, 0, 8]),
    };
    let mut hosts = Hosts::open()?;
    hosts.add(Entry::Local(addr))?;
    hosts.remove(Entry::Local(addr))
}
