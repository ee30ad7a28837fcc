//! What one Service puts into the nftables table. Owns the translation of policies and servers into elements and
//! chains; the same serving always gives the same fragment, so a change is the difference of two.
//!
//! A frontend is one element that leads to a chain shared by all frontends with the same policy and number of servers:
//! `cluster-3` draws one of three. The servers of policy Local are numbered from [`LOCAL_FROM`] on, so that no number
//! ever changes its policy. Only session affinity needs chains of its own.

use std::collections::{BTreeMap, BTreeSet};

use pintle_nft::expr::{CmpOp, FIB_LOCAL, FibAddr, MetaKey, Want, in_range, saddr, set_mark_bits};
use pintle_nft::{
    Chain, Cidr, Data, DataType, Expr, Family, Name, Proto, Reg, Rule, Set, SetKind, Table, Value, Verdict,
};

use crate::base::{
    ENDPOINTS, HAIRPIN, NODE_PORTS, PORT_ENDPOINTS, REJECT, SERVICE_IPS, UNUSED_PORTS, addr_type, addr_words,
    frontend_key, goto, if_pod, port_key, unless_pod,
};
use crate::config::{Config, Masquerade};
use crate::endpoints::{Backend, Selection};
use crate::map::Served;
use crate::service::{Affinity, Claim, Policy, Port, Service, ServiceName, Via};
use crate::small::Home;

const R0: Reg = Reg::new(0);
/// Where a server's address is loaded; its port follows.
const SERVER: u8 = 8;
/// Servers of policy Local are numbered from here on; a port has fewer servers than this.
pub const LOCAL_FROM: u32 = 1_000_000;
/// What a client's entry lives at least; each Service's rule gives its own time.
const AFFINITY_MS: u64 = 10_800_000;

/// What one Service puts into the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The table it is in, but for what it has in common with others, which is in the large one.
    pub home: Home,
    /// Elements of the constant sets, and chains and sets of its own.
    pub own: Table,
    /// Chains it uses with others.
    pub chains: BTreeMap<Name, Chain>,
    /// Elements of the large table that it has in common with others.
    pub elements: BTreeSet<(Name, Value)>,
}

/// Renders a Service as it is served.
#[must_use]
pub fn render(config: &Config, name: &ServiceName, served: &Served) -> Fragment {
    let mut fragment = Fragment::default();
    fragment.elements.insert((UNUSED_PORTS.into(), Value::new().addr(served.service.cluster_ip)));
    for (port, servers) in served.ports() {
        for addr in &servers.here {
            fragment.elements.insert((HAIRPIN.into(), Value::new().addr(*addr).addr(*addr)));
        }
        let mut renderer = Renderer {
            config,
            service: &served.service,
            servers,
            id: if needs_id(&served.service) { port_id(name, port) } else { String::new() },
            proto: port.proto,
            fragment: &mut fragment,
        };
        for frontend in served.frontends(port) {
            renderer.frontend(frontend.via, frontend.at);
        }
    }
    fragment
}

/// Whether the Service has chains of its own, which must be told from others'.
fn needs_id(service: &Service) -> bool {
    service.affinity != Affinity::None || service.source_ranges.is_some()
}

/// How a server is drawn.
#[derive(Clone)]
enum Draw {
    /// From the elements with these numbers.
    Shared { keyed: Keyed, policy: Policy, count: u32 },
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
    servers: &'a Selection,
    id: String,
    proto: Proto,
    fragment: &'a mut Fragment,
}

impl Renderer<'_> {
    fn frontend(&mut self, via: Via, at: Claim) {
        let (key, frontends, endpoints) = match at {
            Claim::Vip(addr, proto, port) => (Value::new().addr(addr).proto(proto).port(port), SERVICE_IPS, ENDPOINTS),
            Claim::NodePort(proto, port) => (Value::new().proto(proto).port(port), NODE_PORTS, PORT_ENDPOINTS),
        };
        let policy = self.service.policy(via);
        let verdict = if self.servers.is_empty() {
            Verdict::Goto(REJECT.into())
        } else {
            if self.service.affinity == Affinity::None {
                self.numbered(via, policy, key, endpoints);
            }
            self.verdict(via, policy)
        };
        self.element(frontends, key, Data::Verdict(verdict));
    }

    /// Numbers the servers a frontend may need: a ClusterIP those of its policy; others, with policy Local, both, since
    /// pods and this node go to all.
    fn numbered(&mut self, via: Via, policy: Policy, key: Value, endpoints: &str) {
        let selection = self.servers;
        let cluster = (via != Via::ClusterIp || policy == Policy::Cluster).then_some((0, &selection.cluster));
        let local = (policy == Policy::Local).then_some((LOCAL_FROM, &selection.local));
        for (from, servers) in cluster.into_iter().chain(local) {
            for (number, server) in (from..).zip(servers.iter()) {
                let value = Value::new().addr(server.addr).port(server.port);
                self.element(endpoints, key.number(number), Data::Value(value));
            }
        }
    }

    fn verdict(&mut self, via: Via, policy: Policy) -> Verdict {
        let chain = match (via, policy) {
            (Via::ClusterIp, _) if self.servers.of(policy).is_empty() => return Verdict::Drop,
            (Via::ClusterIp, _) => {
                let draw = self.draw_of(via, policy);
                self.inward(&draw)
            }
            (_, Policy::Cluster) => {
                let draw = self.draw_of(via, policy);
                self.outward(&draw)
            }
            (_, Policy::Local) => {
                let all = self.draw_of(via, Policy::Cluster);
                let here = (!self.servers.local.is_empty()).then(|| self.draw_of(via, Policy::Local));
                self.local(&all, here.as_ref())
            }
        };
        let guarded = via == Via::LoadBalancer && self.service.source_ranges.is_some();
        Verdict::Goto(if guarded { self.guard(&chain) } else { chain }.into())
    }

    fn draw_of(&mut self, via: Via, policy: Policy) -> Draw {
        match self.service.affinity {
            Affinity::None => {
                let keyed = if via == Via::NodePort { Keyed::Port } else { Keyed::Address };
                let count = u32::try_from(self.servers.of(policy).len()).unwrap_or(u32::MAX);
                Draw::Shared { keyed, policy, count }
            }
            Affinity::ClientIp { timeout_ms } => Draw::Own(self.affinity(policy, timeout_ms)),
        }
    }

    /// For a ClusterIP: masqueraded only when the source could not be answered directly, or everybody is.
    fn inward(&mut self, draw: &Draw) -> String {
        let mark = set_mark_bits(self.config.masquerade_mark);
        let mut rules = Vec::new();
        match self.config.masquerade {
            Masquerade::All => rules.push(mark.to_vec()),
            // Without knowing who is a pod nobody can be told to be none.
            Masquerade::OffCluster => rules.extend(unless_pod(self.config).map(|rule| [rule, mark.to_vec()].concat())),
        }
        rules.extend(translate(self.config.family, draw));
        self.chain("cluster", draw, rules)
    }

    /// From outside, to any server: masqueraded, since the server may be elsewhere and must answer through us.
    fn outward(&mut self, draw: &Draw) -> String {
        let mut rules = vec![set_mark_bits(self.config.masquerade_mark).to_vec()];
        rules.extend(translate(self.config.family, draw));
        self.chain("external", draw, rules)
    }

    /// To any server, as it comes.
    fn direct(&mut self, draw: &Draw) -> String {
        self.chain("direct", draw, translate(self.config.family, draw))
    }

    /// From outside, to the servers of this node, with the source kept. Pods and this node itself reach all servers,
    /// as by the ClusterIP.
    fn local(&mut self, all: &Draw, here: Option<&Draw>) -> String {
        let (outward, direct) = (self.outward(all), self.direct(all));
        let from_node = vec![
            Expr::FibType { addr: FibAddr::Source, dest: R0 },
            Expr::Cmp { op: CmpOp::Eq, source: R0, value: Value::new().number(FIB_LOCAL) },
            goto(&outward),
        ];
        let mut rules = vec![from_node];
        rules.extend(if_pod(self.config).into_iter().map(|rule| [rule, vec![goto(&direct)]].concat()));
        let suffix = match here {
            None => {
                rules.push(vec![Expr::Verdict(Verdict::Drop)]);
                "none".to_owned()
            }
            Some(here) => {
                rules.extend(translate(self.config.family, here));
                suffix(here)
            }
        };
        self.chain(&format!("local-{suffix}-of"), all, rules)
    }

    /// Lets in whom the Service names as sources. This node's own packets can have the load balancer's address as
    /// source, where it is an address of this node too.
    fn guard(&mut self, target: &str) -> String {
        let family = self.config.family;
        let from = |range: Cidr| [vec![saddr(family, R0)], in_range(R0, range, CmpOp::Eq), vec![goto(target)]].concat();
        let ranges = self.config.ours(self.service.source_ranges.as_deref().unwrap_or_default());
        let node_may = self.config.node_addrs.iter().any(|a| ranges.iter().any(|r| r.contains(*a)));
        let mut rules: Vec<Rule> = ranges.into_iter().map(from).collect();
        if node_may {
            rules.extend(self.service.load_balancer_ips.iter().map(|a| from(Cidr::host(*a))));
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
        let servers = self.servers.of(policy);
        if servers.is_empty() || self.fragment.own.chains.contains_key(name.as_str()) {
            return name;
        }
        let mut choice = Set::new(&[DataType::Mark], SetKind::Verdicts);
        let mut rules = Vec::new();
        for (number, server) in (0_u32..).zip(servers) {
            let each = clients_of(&self.id, server);
            let clients = Set::new(&[addr_type(family)], SetKind::Dynamic { timeout_ms: AFFINITY_MS });
            let known = Expr::Lookup { set: each.as_str().into(), source: R0, want: Want::Present };
            rules.push(vec![saddr(family, R0), known, goto(&each)]);
            choice.elements.insert(Value::new().number(number), Data::Verdict(Verdict::Goto(each.as_str().into())));
            self.fragment.own.sets.insert(each.as_str().into(), clients);
            let chain = Chain { hook: None, rules: vec![self.remember(&each, server, timeout_ms)] };
            self.fragment.own.chains.insert(each.as_str().into(), chain);
        }
        let modulus = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        rules.push(vec![
            Expr::Random { modulus, offset: 0, dest: R0 },
            Expr::Vmap { set: name.as_str().into(), source: R0 },
        ]);
        rules.push(missed());
        self.fragment.own.sets.insert(name.as_str().into(), choice);
        self.fragment.own.chains.insert(name.as_str().into(), Chain { hook: None, rules });
        name
    }

    /// Remembers the client as this server's and translates.
    fn remember(&self, set: &str, server: &Backend, timeout_ms: u64) -> Rule {
        let family = self.config.family;
        let port = Reg::new(SERVER + addr_words(family));
        vec![
            // Nobody else comes here; `nft` wants to know whose port it is that is translated.
            Expr::Meta { key: MetaKey::L4Proto, dest: R0 },
            Expr::Cmp { op: CmpOp::Eq, source: R0, value: Value::new().with(&[self.proto.number()]) },
            saddr(family, R0),
            Expr::Remember { set: set.into(), source: R0, timeout_ms },
            Expr::Immediate { dest: Reg::new(SERVER), value: Value::new().addr(server.addr) },
            Expr::Immediate { dest: port, value: Value::new().with(&server.port.to_be_bytes()) },
            Expr::Dnat { family, addr: Reg::new(SERVER), port },
        ]
    }

    /// Puts a chain where it belongs: among the shared ones, or among the Service's own.
    fn chain(&mut self, kind: &str, draw: &Draw, rules: Vec<Rule>) -> String {
        let chain = Chain { hook: None, rules };
        let (name, chains) = match draw {
            Draw::Shared { keyed: Keyed::Port, .. } => {
                (format!("port-{kind}-{}", suffix(draw)), &mut self.fragment.chains)
            }
            Draw::Shared { keyed: Keyed::Address, .. } => {
                (format!("{kind}-{}", suffix(draw)), &mut self.fragment.chains)
            }
            // Affinity of policy Local has its own name, by which `kind` tells it.
            Draw::Own(_) => (format!("{kind}-{}", self.id), &mut self.fragment.own.chains),
        };
        chains.insert(name.as_str().into(), chain);
        name
    }

    fn element(&mut self, set: &str, key: Value, data: Data) {
        let sets = &mut self.fragment.own.sets;
        if !sets.contains_key(set) {
            sets.insert(set.into(), Set::new(&[], SetKind::Plain));
        }
        if let Some(set) = sets.get_mut(set) {
            set.elements.insert(key, data);
        }
    }
}

/// The rules that draw a server and translate.
fn translate(family: Family, draw: &Draw) -> Vec<Rule> {
    let (keyed, policy, count) = match draw {
        Draw::Own(chain) => return vec![vec![goto(chain)]],
        Draw::Shared { keyed, policy, count } => (*keyed, *policy, *count),
    };
    let (mut rule, next, set) = match keyed {
        Keyed::Address => (frontend_key(family), addr_words(family) + 2, ENDPOINTS),
        Keyed::Port => (port_key(0), 2, PORT_ENDPOINTS),
    };
    let offset = if policy == Policy::Local { LOCAL_FROM } else { 0 };
    rule.push(Expr::Random { modulus: count, offset, dest: Reg::new(next) });
    rule.push(Expr::Map { set: set.into(), source: R0, dest: Reg::new(SERVER) });
    let port = Reg::new(SERVER + addr_words(family));
    rule.push(Expr::Dnat { family, addr: Reg::new(SERVER), port });
    vec![rule, missed()]
}

/// For a packet that met a server's element the very moment it changed: its client sends another. Let through, it
/// would begin a connection that leads nowhere, and connection tracking would remember it.
fn missed() -> Rule {
    vec![Expr::Verdict(Verdict::Drop)]
}

fn suffix(draw: &Draw) -> String {
    match draw {
        Draw::Shared { policy: Policy::Cluster, count, .. } => count.to_string(),
        Draw::Shared { policy: Policy::Local, count, .. } => format!("{count}-here"),
        Draw::Own(_) => "own".to_owned(),
    }
}

/// What tells a port's own chains and sets from others'.
pub(crate) fn port_id(name: &ServiceName, port: &Port) -> String {
    short_hash(&format!("{name}/{}/{}/{}", port.name, port.proto.name(), port.port))
}

/// The set of the clients that stay with a server of a port.
pub(crate) fn clients_of(port_id: &str, server: &Backend) -> String {
    format!("server-{port_id}-{}", short_hash(&format!("{}/{}", server.addr, server.port)))
}

/// A name for what has no short one: 64-bit FNV-1a, as 12 digits.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:012x}", hash >> 16)
}
