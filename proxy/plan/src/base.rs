//! The part of the table that no Service changes: its sets, its hooks and the few constant rules.
//!
//! ```text
//! prerouting, output ─► services ─► ip daddr . proto . port vmap @service-ips ──► what that Service wants
//!                          │        ip daddr @unused-ports ─────────────────────► reject   (no such port)
//!                          │        ip daddr in the service range ──────────────► drop     (no such Service)
//!                          └──────► to this machine: proto . port vmap @node-ports ► what that Service wants
//! postrouting ─► marked on its way in ─► masquerade
//!                ip saddr . ip daddr @hairpin ─► masquerade   (a pod that reached itself)
//!                pods ─► outside ─► masquerade
//! ```
//!
//! Where there are many Services, packets meet a small table of the same form first: [`crate::small`].
//!
//! Everything sits in nat chains, which see the first packet of a connection only: an established connection costs
//! nothing.

use std::collections::BTreeMap;

use pintle_nft::expr::{
    CmpOp, FIB_LOCAL, FibAddr, MetaKey, PortChoice, RejectWith, Want, clear_mark_bits, daddr, dport, in_range, saddr,
};
use pintle_nft::value::interface_name;
use pintle_nft::{
    Chain, ChainKind, Cidr, DataType, Expr, Family, Hook, HookPoint, Name, Proto, Reg, Rule, Set, SetKind, Table,
    TableId, Value, Verdict,
};

use crate::config::{Config, DetectLocal, Egress};
use crate::small;

/// `address . protocol . port` to what becomes of the packet.
pub const SERVICE_IPS: &str = "service-ips";
/// `protocol . port` of node ports to what becomes of the packet.
pub const NODE_PORTS: &str = "node-ports";
/// `address . protocol . port . number` to a server.
pub const ENDPOINTS: &str = "endpoints";
/// `protocol . port . number` of node ports to a server.
pub const PORT_ENDPOINTS: &str = "port-endpoints";
/// All live ClusterIPs: what no frontend took is a port nobody has, and refused. A closing set, so that an address
/// refuses only after its ports are there, and no more before they go; no verdict map, since the kernel looks through
/// all elements of those for loops whenever one is added.
pub const UNUSED_PORTS: &str = "unused-ports";
/// Servers on this node, each with itself: `address . address`.
pub const HAIRPIN: &str = "hairpin";
/// The chain of refused packets.
pub const REJECT: &str = "refuse";
/// Where packets go that get this machine's address. No chain has the name of a statement: `nft` could not read again
/// what it lists.
const MASQUERADE: &str = "as-node";

/// The chains that packets enter by themselves: the last to come with a table, so that it works whole or not at all. The
/// last is only in the large one.
const HOOKS: [&str; 3] = ["prerouting", "output", "postrouting"];

const R0: Reg = Reg::new(0);
/// `dstnat` and `srcnat` of linux/netfilter_ipv4.h.
const DESTINATION_NAT: i32 = -100;
/// Where the small table comes in.
pub(crate) const BEFORE_DESTINATION_NAT: i32 = DESTINATION_NAT - 1;
const SOURCE_NAT: i32 = 100;

/// Whether a set is one that every table has, so that only its elements are a Service's own.
#[must_use]
pub fn is_constant(set: &str) -> bool {
    [SERVICE_IPS, NODE_PORTS, ENDPOINTS, PORT_ENDPOINTS, UNUSED_PORTS, HAIRPIN, small::KNOWN_PORTS].contains(&set)
}

/// The chains by which packets enter a table of ours.
#[must_use]
pub fn hooks(table: &TableId) -> &'static [&'static str] {
    if small::is_small(table) { &HOOKS[..2] } else { &HOOKS }
}

/// The identity of the table that all settled Services share.
#[must_use]
pub fn table_id(config: &Config) -> TableId {
    TableId { family: config.family, name: config.table.as_str().into() }
}

/// The type of an address of a family.
#[must_use]
pub fn addr_type(family: Family) -> DataType {
    match family {
        Family::V4 => DataType::Ipv4Addr,
        Family::V6 => DataType::Ipv6Addr,
    }
}

/// The registers an address takes.
#[must_use]
pub fn addr_words(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

/// The large table without any Service.
#[must_use]
pub fn table(config: &Config) -> Table {
    let mut table = Table { sets: sets(config), ..Table::default() };
    table.chains.extend(entries(DESTINATION_NAT));
    table.chains.extend([refusal(config.family)]);
    let mut chain = |name: &str, hook, rules| table.chains.insert(name.into(), Chain { hook, rules });
    chain("services", None, services(config));
    chain(HOOKS[2], nat(HookPoint::Postrouting, SOURCE_NAT), postrouting(config));
    chain(
        MASQUERADE,
        None,
        vec![clear_mark_bits(config.masquerade_mark).to_vec(), vec![Expr::Masquerade(PortChoice::Random)]],
    );
    chain("egress", None, egress(config));
    table
}

/// The chains by which packets get to the Services.
pub(crate) fn entries(priority: i32) -> [(Name, Chain); 2] {
    [(HOOKS[0], HookPoint::Prerouting), (HOOKS[1], HookPoint::Output)]
        .map(|(name, at)| (name.into(), Chain { hook: nat(at, priority), rules: vec![vec![jump("services")]] }))
}

fn nat(at: HookPoint, priority: i32) -> Option<Hook> {
    Some(Hook { kind: ChainKind::Nat, at, priority })
}

/// The sets of the large table, without elements.
pub(crate) fn sets(config: &Config) -> BTreeMap<Name, Set> {
    let addr = addr_type(config.family);
    let unused = (UNUSED_PORTS.into(), Set::new(&[addr], SetKind::Closing));
    let hairpin = (HAIRPIN.into(), Set::new(&[addr, addr], SetKind::Plain));
    leading_sets(config).into_iter().chain([unused, hairpin]).collect()
}

/// Those that lead to servers.
pub(crate) fn leading_sets(config: &Config) -> [(Name, Set); 4] {
    let addr = addr_type(config.family);
    let (proto, port, number) = (DataType::InetProto, DataType::InetService, DataType::Mark);
    let server = || SetKind::Map(vec![addr, port]);
    [
        (SERVICE_IPS.into(), Set::new(&[addr, proto, port], SetKind::Verdicts)),
        (NODE_PORTS.into(), Set::new(&[proto, port], SetKind::Verdicts)),
        (ENDPOINTS.into(), Set::new(&[addr, proto, port, number], server())),
        (PORT_ENDPOINTS.into(), Set::new(&[proto, port, number], server())),
    ]
}

/// Where refused packets go. TCP gets a reset: of ICMP errors the kernel sends few to one client, and the others would wait.
pub(crate) fn refusal(family: Family) -> (Name, Chain) {
    let tcp = Value::new().with(&[Proto::Tcp.number()]);
    let rules = vec![
        vec![
            Expr::Meta { key: MetaKey::L4Proto, dest: R0 },
            Expr::Cmp { op: CmpOp::Eq, source: R0, value: tcp },
            Expr::Reject(RejectWith::TcpReset),
        ],
        vec![Expr::Reject(RejectWith::PortUnreachable(family))],
    ];
    (REJECT.into(), Chain { hook: None, rules })
}

/// Loads `address . protocol . port` from register 0 on.
#[must_use]
pub fn frontend_key(family: Family) -> Vec<Expr> {
    let next = addr_words(family);
    let mut exprs = vec![daddr(family, R0)];
    exprs.extend(port_key(next));
    exprs
}

/// Loads `protocol . port` from register `first` on.
#[must_use]
pub fn port_key(first: u8) -> Vec<Expr> {
    vec![Expr::Meta { key: MetaKey::L4Proto, dest: Reg::new(first) }, dport(Reg::new(first + 1))]
}

/// To what a frontend with an address of its own wants.
pub(crate) fn frontends(family: Family) -> Rule {
    let mut rule = frontend_key(family);
    rule.push(Expr::Vmap { set: SERVICE_IPS.into(), source: R0 });
    rule
}

fn services(config: &Config) -> Vec<Rule> {
    let family = config.family;
    let is_live = Expr::Lookup { set: UNUSED_PORTS.into(), source: R0, want: Want::Present };
    let mut rules = vec![frontends(family), vec![daddr(family, R0), is_live, goto(REJECT)]];
    for range in config.ours(&config.service_ranges) {
        rules.push(
            [vec![daddr(family, R0)], in_range(R0, range, CmpOp::Eq), vec![Expr::Verdict(Verdict::Drop)]].concat(),
        );
    }
    rules.extend(node_ports(config));
    rules
}

/// To what node ports want, for packets to this machine.
pub(crate) fn node_ports(config: &Config) -> Vec<Rule> {
    match config.node_port_ranges() {
        None => vec![node_ports_in(config, None)],
        Some(ranges) => ranges.into_iter().map(|range| node_ports_in(config, Some(range))).collect(),
    }
}

fn node_ports_in(config: &Config, range: Option<Cidr>) -> Rule {
    let family = config.family;
    let local = Value::new().number(FIB_LOCAL);
    let mut rule = vec![
        Expr::FibType { addr: FibAddr::Destination, dest: R0 },
        Expr::Cmp { op: CmpOp::Eq, source: R0, value: local },
        daddr(family, R0),
    ];
    rule.extend(loopback(family).map(|l| in_range(R0, l, CmpOp::Ne)).into_iter().flatten());
    if let Some(range) = range {
        rule.push(daddr(family, R0));
        rule.extend(in_range(R0, range, CmpOp::Eq));
    }
    rule.extend(port_key(0));
    rule.push(Expr::Vmap { set: NODE_PORTS.into(), source: R0 });
    rule
}

fn loopback(family: Family) -> Option<Cidr> {
    match family {
        Family::V4 => Cidr::new([127, 0, 0, 0].into(), 8),
        Family::V6 => Some(Cidr::host(std::net::Ipv6Addr::LOCALHOST.into())),
    }
}

fn multicast(family: Family) -> Option<Cidr> {
    match family {
        Family::V4 => Cidr::new([224, 0, 0, 0].into(), 4),
        Family::V6 => Cidr::new(std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
    }
}

fn postrouting(config: &Config) -> Vec<Rule> {
    let family = config.family;
    let (bit, none) = (Value::new().number(config.masquerade_mark), Value::new().number(0));
    let itself = Reg::new(addr_words(family));
    vec![
        vec![
            Expr::Meta { key: MetaKey::Mark, dest: R0 },
            Expr::Bitwise { source: R0, dest: R0, mask: bit, xor: none },
            Expr::Cmp { op: CmpOp::Ne, source: R0, value: none },
            goto(MASQUERADE),
        ],
        vec![
            saddr(family, R0),
            daddr(family, itself),
            Expr::Lookup { set: HAIRPIN.into(), source: R0, want: Want::Present },
            Expr::Masquerade(PortChoice::Random),
        ],
        vec![Expr::Verdict(Verdict::Goto("egress".into()))],
    ]
}

/// Pods' packets to outside the cluster get this machine's address. Several pod ranges are one cluster.
fn egress(config: &Config) -> Vec<Rule> {
    let family = config.family;
    let ranges = config.ours(&config.cluster_ranges);
    if config.egress == Egress::Leave {
        return Vec::new();
    }
    let rule = |from: &Cidr| {
        let mut rule = vec![saddr(family, R0)];
        rule.extend(in_range(R0, *from, CmpOp::Eq));
        for to in ranges.iter().copied().chain(multicast(family)) {
            rule.push(daddr(family, R0));
            rule.extend(in_range(R0, to, CmpOp::Ne));
        }
        rule.push(Expr::Masquerade(PortChoice::Random));
        rule
    };
    ranges.iter().map(rule).collect()
}

/// What a rule begins with so that it goes on only for pods' packets: one beginning for each way to be a pod. Empty
/// when nobody can be told.
#[must_use]
pub fn if_pod(config: &Config) -> Vec<Rule> {
    match config.pod_sources() {
        Some(ranges) => {
            let from = |r: Cidr| [vec![saddr(config.family, R0)], in_range(R0, r, CmpOp::Eq)].concat();
            ranges.into_iter().map(from).collect()
        }
        None => interface(config, CmpOp::Eq).into_iter().collect(),
    }
}

/// What a rule begins with so that it goes on only for packets that are no pod's; `None` when nobody can be told.
#[must_use]
pub fn unless_pod(config: &Config) -> Option<Rule> {
    match config.pod_sources() {
        Some(ranges) if ranges.is_empty() => None,
        Some(ranges) => {
            let unlike = |r: Cidr| [vec![saddr(config.family, R0)], in_range(R0, r, CmpOp::Ne)].concat();
            Some(ranges.into_iter().flat_map(unlike).collect())
        }
        None => interface(config, CmpOp::Ne),
    }
}

fn interface(config: &Config, op: CmpOp) -> Option<Rule> {
    let value = match &config.detect_local {
        DetectLocal::BridgeInterface(name) => interface_name(name),
        DetectLocal::InterfaceNamePrefix(prefix) => Value::new().with(prefix.as_bytes()),
        DetectLocal::ClusterCidr | DetectLocal::NodeCidr(_) => return None,
    };
    Some(vec![Expr::Meta { key: MetaKey::IifName, dest: R0 }, Expr::Cmp { op, source: R0, value }])
}

/// Goes on in another chain, and here again after its end.
#[must_use]
pub fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(Name::from(chain)))
}

/// Goes on in another chain for good.
#[must_use]
pub fn goto(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Goto(Name::from(chain)))
}
