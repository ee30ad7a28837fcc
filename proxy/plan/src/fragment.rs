//! What one Service puts into the table. Owns the translation of policies and endpoints into elements and chains; the
//! same Service always gives the same fragment, so a change is the difference of two.
//!
//! A frontend is one element that leads to a chain shared by all frontends with the same policy and number of servers:
//! `cluster-3` draws one of three. Servers on this node come first, so that policy Local is a prefix of policy Cluster
//! and both use the same elements. Only session affinity needs chains of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pintle_nft::expr::{CmpOp, FIB_LOCAL, FibAddr, Want, in_range, saddr, set_mark_bits};
use pintle_nft::{Chain, Data, DataType, Expr, Name, Proto, Reg, Rule, Set, SetKind, Table, Value, Verdict};

use crate::base::{
    CLUSTER_IPS, ENDPOINTS, HAIRPIN, MASQUERADE_BIT, NODE_PORTS, PORT_ENDPOINTS, REJECT, SERVICE_IPS, addr_words,
    frontend_key, goto, port_key,
};
use crate::config::{Config, Masquerade};
use crate::endpoints::{Backend, Selection};
use crate::service::{Affinity, Policy, Port, Service, ServiceName};

const R0: Reg = Reg::new(0);
/// Where a server's address is loaded; its port follows.
const SERVER: u8 = 8;

/// Something only one Service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A port of a virtual address.
    Vip(IpAddr, Proto, u16),
    /// A node port.
    NodePort(Proto, u16),
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vip(addr, proto, port) => write!(f, "{}/{}", std::net::SocketAddr::new(*addr, *port), proto.name()),
            Self::NodePort(proto, port) => write!(f, "node port {port}/{}", proto.name()),
        }
    }
}

/// What one Service puts into the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Elements of the constant sets, and chains and sets of its own.
    pub own: Table,
    /// Chains it uses with others.
    pub chains: BTreeMap<Name, Chain>,
    /// Elements it has in common with others.
    pub elements: BTreeSet<(Name, Value)>,
}

/// What a Service wants for itself alone.
#[must_use]
pub fn claims(service: &Service) -> BTreeSet<Claim> {
    let mut claims = BTreeSet::new();
    for port in &service.ports {
        for (addr, _) in vips(service) {
            claims.insert(Claim::Vip(addr, port.proto, port.port));
        }
        claims.extend(port.node_port.map(|number| Claim::NodePort(port.proto, number)));
    }
    claims
}

/// Renders a Service with the servers of each of its ports, without what others have claimed before it.
#[must_use]
pub fn render(
    config: &Config,
    name: &ServiceName,
    service: &Service,
    ports: &[(&Port, Selection)],
    lost: &BTreeSet<Claim>,
) -> Fragment {
    let mut fragment = Fragment::default();
    if let Some(addr) = service.cluster_ip {
        fragment.elements.insert((CLUSTER_IPS.into(), Value::new().addr(addr)));
    }
    for (port, servers) in ports {
        let id = short_hash(&format!("{name}/{}/{}/{}", port.name, port.proto.name(), port.port));
        for addr in &servers.here {
            fragment.elements.insert((HAIRPIN.into(), Value::new().addr(*addr).addr(*addr)));
        }
        Renderer { config, service, port, servers, id, fragment: &mut fragment }.port(lost);
    }
    fragment
}

/// By which kind of address a packet comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    ClusterIp,
    /// An external or load balancer's address.
    External,
    /// A load balancer's address for which not everybody may come.
    Guarded,
    NodePort,
}

fn vips(service: &Service) -> Vec<(IpAddr, Via)> {
    let balanced = if service.source_ranges.is_none() { Via::External } else { Via::Guarded };
    let mut vips: Vec<(IpAddr, Via)> = service.cluster_ip.map(|a| (a, Via::ClusterIp)).into_iter().collect();
    vips.extend(service.load_balancer_ips.iter().map(|a| (*a, balanced)));
    vips.extend(service.external_ips.iter().map(|a| (*a, Via::External)));
    // One address can be told twice; the first telling counts.
    let mut seen = BTreeSet::new();
    vips.retain(|(addr, _)| seen.insert(*addr));
    vips
}

/// How a server is drawn.
#[derive(Clone)]
enum Draw {
    /// From the elements with these numbers.
    Shared { keyed: Keyed, from: u32, count: u32 },
    /// By a chain of the Service's own.
    Own(String),
}

/// What the elements of a frontend's servers begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyed {
    Address,
    Port,
}

struct Renderer<'a> {
    config: &'a Config,
    service: &'a Service,
    port: &'a Port,
    servers: &'a Selection,
    id: String,
    fragment: &'a mut Fragment,
}

impl Renderer<'_> {
    fn port(&mut self, lost: &BTreeSet<Claim>) {
        for (addr, via) in vips(self.service) {
            if !lost.contains(&Claim::Vip(addr, self.port.proto, self.port.port)) {
                let key = Value::new().addr(addr).proto(self.port.proto).port(self.port.port);
                self.frontend(via, key, SERVICE_IPS, ENDPOINTS);
            }
        }
        if let Some(number) = self.port.node_port
            && !lost.contains(&Claim::NodePort(self.port.proto, number))
        {
            let key = Value::new().proto(self.port.proto).port(number);
            self.frontend(Via::NodePort, key, NODE_PORTS, PORT_ENDPOINTS);
        }
    }

    fn frontend(&mut self, via: Via, key: Value, frontends: &str, endpoints: &str) {
        let keyed = if via == Via::NodePort { Keyed::Port } else { Keyed::Address };
        let policy = if via == Via::ClusterIp { self.service.internal } else { self.service.external };
        let verdict = if self.servers.is_empty() {
            Verdict::Goto(REJECT.into())
        } else {
            let (servers, cluster, local) = self.numbered(via, policy);
            let numbered = self.service.affinity == Affinity::None;
            for (number, server) in (0_u32..).zip(servers).filter(|_| numbered) {
                let value = Value::new().addr(server.addr).port(server.port);
                self.element(endpoints, key.number(number), Data::Value(value));
            }
            self.verdict(via, policy, |range| Draw::Shared { keyed, from: range.0, count: range.1 }, cluster, local)
        };
        self.element(frontends, key, Data::Verdict(verdict));
    }

    /// The servers a frontend may need, in the order of their numbers, and the ranges (first, count) for each policy.
    fn numbered(&self, via: Via, policy: Policy) -> (Vec<Backend>, (u32, u32), (u32, u32)) {
        let (cluster, local) = (&self.servers.cluster, &self.servers.local);
        let count = |list: &[Backend]| u32::try_from(list.len()).unwrap_or(u32::MAX);
        match (via, policy) {
            (_, Policy::Cluster) => (cluster.clone(), (0, count(cluster)), (0, 0)),
            (Via::ClusterIp, Policy::Local) => (local.clone(), (0, 0), (0, count(local))),
            (_, Policy::Local) if cluster.starts_with(local) => {
                (cluster.clone(), (0, count(cluster)), (0, count(local)))
            }
            // The last resort of this node is none of the cluster's: they are listed one after the other.
            (_, Policy::Local) => {
                ([local.as_slice(), cluster].concat(), (count(local), count(cluster)), (0, count(local)))
            }
        }
    }

    fn verdict(
        &mut self,
        via: Via,
        policy: Policy,
        shared: impl Fn((u32, u32)) -> Draw,
        cluster: (u32, u32),
        local: (u32, u32),
    ) -> Verdict {
        let draw = |this: &mut Self, policy, range: (u32, u32)| match this.service.affinity {
            Affinity::None => shared(range),
            Affinity::ClientIp { timeout_ms } => Draw::Own(this.affinity(policy, timeout_ms)),
        };
        let chain = match (via, policy) {
            (Via::ClusterIp, _) if self.servers.of(policy).is_empty() => return Verdict::Drop,
            (Via::ClusterIp, _) => {
                let range = if policy == Policy::Cluster { cluster } else { local };
                let draw = draw(self, policy, range);
                self.inward(&draw)
            }
            (_, Policy::Cluster) => {
                let draw = draw(self, Policy::Cluster, cluster);
                self.outward(&draw)
            }
            (_, Policy::Local) => {
                let all = draw(self, Policy::Cluster, cluster);
                let here = (!self.servers.local.is_empty()).then(|| draw(self, Policy::Local, local));
                self.local(&all, here.as_ref())
            }
        };
        let chain = if via == Via::Guarded { self.guard(&chain) } else { chain };
        Verdict::Goto(chain.into())
    }

    /// For a ClusterIP: masqueraded only when the source could not be answered directly, or everybody is.
    fn inward(&mut self, draw: &Draw) -> String {
        let mut rules = Vec::new();
        let ranges = self.config.ours(&self.config.cluster_ranges);
        match self.config.masquerade {
            Masquerade::All => rules.push(set_mark_bits(MASQUERADE_BIT).to_vec()),
            // Without knowing where pods live nobody can be told to be outside.
            Masquerade::OffCluster if ranges.is_empty() => {}
            Masquerade::OffCluster => {
                let mut rule = Vec::new();
                for range in ranges {
                    rule.push(saddr(self.config.family, R0));
                    rule.extend(in_range(R0, range, CmpOp::Ne));
                }
                rule.extend(set_mark_bits(MASQUERADE_BIT));
                rules.push(rule);
            }
        }
        rules.extend(self.draw(draw));
        self.chain("cluster", draw, rules)
    }

    /// From outside, to any server: masqueraded, since the server may be elsewhere and must answer through us.
    fn outward(&mut self, draw: &Draw) -> String {
        let mut rules = vec![set_mark_bits(MASQUERADE_BIT).to_vec()];
        rules.extend(self.draw(draw));
        self.chain("external", draw, rules)
    }

    /// To any server, as it comes.
    fn direct(&mut self, draw: &Draw) -> String {
        let rules = self.draw(draw);
        self.chain("direct", draw, rules)
    }

    /// From outside, to the servers of this node, with the source kept. Pods and this node itself reach all servers,
    /// as by the ClusterIP.
    fn local(&mut self, all: &Draw, here: Option<&Draw>) -> String {
        let family = self.config.family;
        let (outward, direct) = (self.outward(all), self.direct(all));
        let from_node = vec![
            Expr::FibType { addr: FibAddr::Source, dest: R0 },
            Expr::Cmp { op: CmpOp::Eq, source: R0, value: Value::new().number(FIB_LOCAL) },
            goto(&outward),
        ];
        let mut rules = vec![from_node];
        for range in self.config.ours(&self.config.cluster_ranges) {
            rules.push([vec![saddr(family, R0)], in_range(R0, range, CmpOp::Eq), vec![goto(&direct)]].concat());
        }
        let suffix = match here {
            None => {
                rules.push(vec![Expr::Verdict(Verdict::Drop)]);
                "none".to_owned()
            }
            Some(here) => {
                rules.extend(self.draw(here));
                suffix(here)
            }
        };
        self.chain(&format!("local-{suffix}-of"), all, rules)
    }

    /// Lets in whom the Service names as sources. This node's own packets can have the load balancer's address as
    /// source, where it is an address of this node too.
    fn guard(&mut self, target: &str) -> String {
        let family = self.config.family;
        let from = |ranges: Vec<pintle_nft::Cidr>| {
            ranges.into_iter().map(move |range| {
                [vec![saddr(family, R0)], in_range(R0, range, CmpOp::Eq), vec![goto(target)]].concat()
            })
        };
        let ranges = self.config.ours(self.service.source_ranges.as_deref().unwrap_or_default());
        let node_may = self.config.node_addrs.iter().any(|a| ranges.iter().any(|r| r.contains(*a)));
        let mut rules: Vec<Rule> = from(ranges).collect();
        if node_may {
            rules.extend(from(self.service.load_balancer_ips.iter().map(|a| pintle_nft::Cidr::host(*a)).collect()));
        }
        rules.push(vec![Expr::Verdict(Verdict::Drop)]);
        let name = format!("guard-{}", self.id);
        self.fragment.own.chains.insert(name.as_str().into(), Chain { hook: None, rules });
        name
    }

    /// Chains and sets that keep a client with its server: one set of clients per server, the addresses of all of the
    /// Service's frontends alike.
    fn affinity(&mut self, policy: Policy, timeout_ms: u64) -> String {
        let family = self.config.family;
        let name = match policy {
            Policy::Cluster => format!("affinity-{}", self.id),
            Policy::Local => format!("affinity-local-{}", self.id),
        };
        let servers = self.servers.of(policy).to_vec();
        let mut choice = Set::new(&[DataType::Mark], SetKind::Verdicts);
        let mut rules = Vec::new();
        for (number, server) in (0_u32..).zip(&servers) {
            let each = format!("server-{}-{}", self.id, short_hash(&format!("{}/{}", server.addr, server.port)));
            let clients = Set::new(&[crate::base::addr_type(family)], SetKind::Dynamic { timeout_ms });
            let port = Reg::new(SERVER + addr_words(family));
            let remember = vec![
                saddr(family, R0),
                Expr::Remember { set: each.as_str().into(), source: R0, timeout_ms },
                Expr::Immediate { dest: Reg::new(SERVER), value: Value::new().addr(server.addr) },
                Expr::Immediate { dest: port, value: Value::new().with(&server.port.to_be_bytes()) },
                Expr::Dnat { family, addr: Reg::new(SERVER), port },
            ];
            let known = Expr::Lookup { set: each.as_str().into(), source: R0, want: Want::Present };
            rules.push(vec![saddr(family, R0), known, goto(&each)]);
            choice.elements.insert(Value::new().number(number), Data::Verdict(Verdict::Goto(each.as_str().into())));
            self.fragment.own.sets.insert(each.as_str().into(), clients);
            self.fragment.own.chains.insert(each.as_str().into(), Chain { hook: None, rules: vec![remember] });
        }
        let modulus = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        rules.push(vec![
            Expr::Random { modulus, offset: 0, dest: R0 },
            Expr::Vmap { set: name.as_str().into(), source: R0 },
        ]);
        self.fragment.own.sets.insert(name.as_str().into(), choice);
        self.fragment.own.chains.insert(name.as_str().into(), Chain { hook: None, rules });
        name
    }

    /// The rules that draw a server and translate.
    fn draw(&self, draw: &Draw) -> Vec<Rule> {
        let family = self.config.family;
        let (keyed, from, count) = match draw {
            Draw::Own(chain) => return vec![vec![goto(chain)]],
            Draw::Shared { keyed, from, count } => (*keyed, *from, *count),
        };
        let (mut rule, next, set) = match keyed {
            Keyed::Address => (frontend_key(family), addr_words(family) + 2, ENDPOINTS),
            Keyed::Port => (port_key(0), 2, PORT_ENDPOINTS),
        };
        rule.push(Expr::Random { modulus: count, offset: from, dest: Reg::new(next) });
        rule.push(Expr::Map { set: set.into(), source: R0, dest: Reg::new(SERVER) });
        let port = Reg::new(SERVER + addr_words(family));
        rule.push(Expr::Dnat { family, addr: Reg::new(SERVER), port });
        vec![rule]
    }

    /// Puts a chain where it belongs: among the shared ones, or among the Service's own.
    fn chain(&mut self, kind: &str, draw: &Draw, rules: Vec<Rule>) -> String {
        let chain = Chain { hook: None, rules };
        match draw {
            Draw::Shared { keyed, .. } => {
                let prefix = if *keyed == Keyed::Port { "port-" } else { "" };
                let name = format!("{prefix}{kind}-{}", suffix(draw));
                self.fragment.chains.insert(name.as_str().into(), chain);
                name
            }
            Draw::Own(_) => {
                let name = format!("{kind}-{}", self.id);
                self.fragment.own.chains.insert(name.as_str().into(), chain);
                name
            }
        }
    }

    fn element(&mut self, set: &str, key: Value, data: Data) {
        let set: Name = set.into();
        let entry = self.fragment.own.sets.entry(set).or_insert_with(|| Set::new(&[], SetKind::Plain));
        entry.elements.insert(key, data);
    }
}

fn suffix(draw: &Draw) -> String {
    match draw {
        Draw::Shared { from: 0, count, .. } => count.to_string(),
        Draw::Shared { from, count, .. } => format!("{count}-from-{from}"),
        Draw::Own(chain) => chain.rsplit('-').next().unwrap_or_default().to_owned(),
    }
}

/// A name for what has no short one: 64-bit FNV-1a, as 12 digits.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:012x}", hash >> 16)
}
