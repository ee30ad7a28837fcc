//! The part of the tables that no Service changes: where packets enter our chains, and the constant ones.
//!
//! ```text
//! nat     PREROUTING, OUTPUT ─► KUBE-SERVICES ─► what that Service wants
//!                                    └─► to this machine: KUBE-NODEPORTS
//!         POSTROUTING ─► KUBE-POSTROUTING: masquerades what was marked; ─► PINTLE-EGRESS: pods' packets to outside
//! filter  what nat did not translate:
//!         INPUT, FORWARD, OUTPUT ─► KUBE-PROXY-FIREWALL: nobody else may speak to load balancers' addresses
//!                                ─► KUBE-EXTERNAL-SERVICES: nobody serves, or nobody here
//!         FORWARD, OUTPUT ─► KUBE-SERVICES: the same for ClusterIPs ─► KUBE-UNUSED-PORTS: nobody has that port or address
//!         FORWARD ─► KUBE-FORWARD: what we marked may pass
//!         INPUT ─► KUBE-NODEPORTS: health checks may come in
//! ```
//!
//! The layout and the names are kube-proxy's; `KUBE-UNUSED-PORTS` and `PINTLE-EGRESS` are ours alone.

use pintle_nft::{Cidr, Family, Proto};

use super::script::Table;
use crate::config::{Config, DetectLocal, Egress, Invalid};

/// Where ClusterIPs, load balancers' addresses and external ones are found.
pub const SERVICES: &str = "KUBE-SERVICES";
/// Where node ports are found; in `filter` the ports of health checks.
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
/// Addresses and ports for the world that nobody serves.
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
/// Load balancers' addresses that not everybody may speak to.
pub const FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// What becomes of ClusterIPs' ports that nobody has, and of addresses that no Service has.
pub const UNUSED_PORTS: &str = "KUBE-UNUSED-PORTS";
/// Asks for masquerading.
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// Masquerades.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
/// Lets pass what we translated.
pub const FORWARD: &str = "KUBE-FORWARD";
/// Gives pods' packets to outside the cluster this machine's address.
pub const EGRESS: &str = "PINTLE-EGRESS";
/// Leads nowhere: when it is gone or empty, somebody emptied the tables.
pub const CANARY: &str = "KUBE-PROXY-CANARY";

/// Asks for masquerading whoever is no pod; only where pods live in several ranges, which one rule cannot name.
pub const MARK_OFF_CLUSTER: &str = "KUBE-MARK-OFF-CLUSTER";
/// Refuses, with a reset where there are such.
pub const REFUSE: &str = "KUBE-REFUSE";

/// Chains that are ours but for those of single Services, of which see [`super::names::KINDS`].
pub const CHAINS: [&str; 12] = [
    SERVICES,
    NODE_PORTS,
    EXTERNAL_SERVICES,
    FIREWALL,
    UNUSED_PORTS,
    MARK_MASQ,
    POSTROUTING,
    FORWARD,
    EGRESS,
    CANARY,
    MARK_OFF_CLUSTER,
    REFUSE,
];

/// A rule of a chain that is not ours, which leads to one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its table.
    pub table: Table,
    /// The chain it is in.
    pub from: &'static str,
    /// Ours.
    pub to: &'static str,
    new_only: bool,
    comment: &'static str,
}

impl Hook {
    /// As `iptables-save` lists it, without the chain it is in.
    #[must_use]
    pub fn rule(&self) -> String {
        let new = if self.new_only { "-m conntrack --ctstate NEW " } else { "" };
        format!("{new}-m comment --comment \"{}\" -j {}", self.comment, self.to)
    }
}

const fn hook(table: Table, from: &'static str, to: &'static str, new_only: bool, comment: &'static str) -> Hook {
    Hook { table, from, to, new_only, comment }
}

const PORTALS: &str = "kubernetes service portals";
const VISIBLE: &str = "kubernetes externally-visible service portals";
const GUARD: &str = "kubernetes load balancer firewall";

/// All of them. In each chain, the later one is passed first.
const HOOKS: [Hook; 14] = [
    hook(Table::Nat, "PREROUTING", SERVICES, false, PORTALS),
    hook(Table::Nat, "OUTPUT", SERVICES, false, PORTALS),
    hook(Table::Nat, "POSTROUTING", EGRESS, false, "packets of pods to outside the cluster"),
    hook(Table::Nat, "POSTROUTING", POSTROUTING, false, "kubernetes postrouting rules"),
    hook(Table::Filter, "INPUT", EXTERNAL_SERVICES, true, VISIBLE),
    hook(Table::Filter, "INPUT", NODE_PORTS, false, "kubernetes health check service ports"),
    hook(Table::Filter, "INPUT", FIREWALL, true, GUARD),
    hook(Table::Filter, "FORWARD", EXTERNAL_SERVICES, true, VISIBLE),
    hook(Table::Filter, "FORWARD", SERVICES, true, PORTALS),
    hook(Table::Filter, "FORWARD", FORWARD, false, "kubernetes forwarding rules"),
    hook(Table::Filter, "FORWARD", FIREWALL, true, GUARD),
    hook(Table::Filter, "OUTPUT", EXTERNAL_SERVICES, true, VISIBLE),
    hook(Table::Filter, "OUTPUT", SERVICES, true, PORTALS),
    hook(Table::Filter, "OUTPUT", FIREWALL, true, GUARD),
];

/// Those that a configuration needs.
pub fn hooks(config: &Config) -> impl Iterator<Item = Hook> {
    let has_egress = !egress(config).is_empty();
    HOOKS.into_iter().filter(move |hook| hook.to != EGRESS || has_egress)
}

/// The constant chains of a table with their rules.
#[must_use]
pub fn constant(config: &Config, table: Table) -> Vec<(&'static str, Vec<String>)> {
    let canary =
        (CANARY, vec!["-m comment --comment \"when this is gone everything is installed anew\" -j RETURN".into()]);
    match table {
        Table::Nat => {
            let chains = [
                (MARK_MASQ, vec![mark_masq(config)]),
                (POSTROUTING, postrouting(config)),
                (EGRESS, egress(config)),
                (MARK_OFF_CLUSTER, mark_off_cluster(config)),
            ];
            chains.into_iter().filter(|(_, rules)| !rules.is_empty()).chain([canary]).collect()
        }
        Table::Filter => vec![(FORWARD, forward(config)), (REFUSE, refuse(config.family)), canary],
    }
}

/// One rule of every kind that Services may need, but for session affinity.
#[must_use]
pub fn sample(config: &Config, table: Table) -> Vec<String> {
    let masquerade = postrouting(config).into_iter().chain([mark_masq(config)]);
    let server = match config.family {
        Family::V4 => "192.0.2.1:80",
        Family::V6 => "[2001:db8::1]:80",
    };
    match table {
        Table::Nat => masquerade
            .chain([
                "-m addrtype --dst-type LOCAL -m statistic --mode random --probability 0.50000000000 -j RETURN".into(),
                format!("-p tcp -m tcp -j DNAT --to-destination {server}"),
            ])
            .collect(),
        Table::Filter => forward(config).into_iter().chain(refuse(config.family)).collect(),
    }
}

fn mark_masq(config: &Config) -> String {
    let mark = config.masquerade_mark;
    format!("-j MARK --set-xmark {mark:#x}/{mark:#x}")
}

/// Takes the mark away again: what is translated may pass here once more, on its way through a tunnel.
fn postrouting(config: &Config) -> Vec<String> {
    let mark = config.masquerade_mark;
    vec![
        format!("-m mark ! --mark {mark:#x}/{mark:#x} -j RETURN"),
        format!("-j MARK --set-xmark {mark:#x}/0x0"),
        "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully".into(),
    ]
}

/// Pods' packets to outside the cluster get this machine's address. Several pod ranges are one cluster.
fn egress(config: &Config) -> Vec<String> {
    let ranges = config.ours(&config.cluster_ranges);
    if config.egress == Egress::Leave || ranges.is_empty() {
        return Vec::new();
    }
    let inside = ranges.iter().map(ToString::to_string).chain([multicast(config.family).to_owned()]);
    let stays = inside.map(|range| format!("-d {range} -j RETURN"));
    let leaves = ranges.iter().map(|range| format!("-s {range} -j MASQUERADE --random-fully"));
    stays.chain(leaves).collect()
}

fn mark_off_cluster(config: &Config) -> Vec<String> {
    match config.pod_sources() {
        Some(ranges) if ranges.len() > 1 => {
            ranges.iter().map(|r| format!("-s {r} -j RETURN")).chain([format!("-j {MARK_MASQ}")]).collect()
        }
        _ => Vec::new(),
    }
}

fn forward(config: &Config) -> Vec<String> {
    let mark = config.masquerade_mark;
    let invalid = (config.invalid == Invalid::Drop).then(|| "-m conntrack --ctstate INVALID -j DROP".to_owned());
    let marked =
        format!("-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark:#x}/{mark:#x} -j ACCEPT");
    let known = "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED \
                 -j ACCEPT";
    invalid.into_iter().chain([marked, known.to_owned()]).collect()
}

fn refuse(family: Family) -> Vec<String> {
    vec![format!("-p tcp {}", rejection(family, Proto::Tcp)), rejection(family, Proto::Udp)]
}

/// TCP gets a reset: of ICMP errors the kernel sends few to one client, and the others would wait.
#[must_use]
pub fn rejection(family: Family, proto: Proto) -> String {
    let with = match (proto, family) {
        (Proto::Tcp, _) => "tcp-reset",
        (Proto::Udp | Proto::Sctp, Family::V4) => "icmp-port-unreachable",
        (Proto::Udp | Proto::Sctp, Family::V6) => "icmp6-port-unreachable",
    };
    format!("-j REJECT --reject-with {with}")
}

/// The rules that a chain filled by Services ends with.
#[must_use]
pub fn last(config: &Config, table: Table, chain: &str) -> Vec<String> {
    let ranges = config.ours(&config.service_ranges);
    match (table, chain) {
        (Table::Nat, SERVICES) => {
            let comment = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
            let to = |at: String| format!("{at} -m comment --comment \"{comment}\" -j {NODE_PORTS}");
            to_node(config).into_iter().map(to).collect()
        }
        (Table::Filter, SERVICES) => ranges.iter().map(|range| format!("-d {range} -j {UNUSED_PORTS}")).collect(),
        (Table::Filter, UNUSED_PORTS) => {
            let comment = "no Service has this address";
            ranges.iter().map(|range| format!("-d {range} -m comment --comment \"{comment}\" -j DROP")).collect()
        }
        _ => Vec::new(),
    }
}

/// What rules begin with that are for this machine's addresses that answer on node ports, of which loopback is never one.
#[must_use]
pub fn to_node(config: &Config) -> Vec<String> {
    let (loopback, local) = (loopback(config.family), "-m addrtype --dst-type LOCAL");
    let all = || format!("! -d {loopback} {local}");
    let of = |range: Cidr| if range.prefix() == 0 { all() } else { format!("-d {range} {local}") };
    match config.node_port_ranges() {
        None => vec![all()],
        Some(ranges) => ranges.into_iter().filter(|r| !r.addr().is_loopback()).map(of).collect(),
    }
}

fn loopback(family: Family) -> &'static str {
    match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    }
}

fn multicast(family: Family) -> &'static str {
    match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    }
}

/// How pods' packets are told, each way a beginning of a rule. Empty when nobody can be told.
#[must_use]
pub fn if_pod(config: &Config) -> Vec<String> {
    match interface(config) {
        Interface::Unasked => config.pod_sources().into_iter().flatten().map(|range| format!("-s {range}")).collect(),
        Interface::Named(name) => vec![format!("-i {name}")],
        Interface::Impossible => Vec::new(),
    }
}

/// How packets that are no pod's are marked: what a rule begins with, and where it leads. `None` when nobody can be told.
#[must_use]
pub fn unless_pod(config: &Config) -> Option<(String, &'static str)> {
    match (interface(config), config.pod_sources().unwrap_or_default().as_slice()) {
        (Interface::Named(name), _) => Some((format!("! -i {name}"), MARK_MASQ)),
        (Interface::Impossible, _) => Some((String::new(), MARK_MASQ)),
        (Interface::Unasked, []) => None,
        (Interface::Unasked, [range]) => Some((format!("! -s {range}"), MARK_MASQ)),
        (Interface::Unasked, _) => Some((String::new(), MARK_OFF_CLUSTER)),
    }
}

/// By which interface pods' packets come in.
enum Interface {
    /// They are told otherwise.
    Unasked,
    /// As the tools name it.
    Named(String),
    /// No interface can be called so.
    Impossible,
}

fn interface(config: &Config) -> Interface {
    let (name, mark) = match &config.detect_local {
        DetectLocal::BridgeInterface(name) => (name, ""),
        DetectLocal::InterfaceNamePrefix(prefix) => (prefix, "+"),
        DetectLocal::ClusterCidr | DetectLocal::NodeCidr(_) => return Interface::Unasked,
    };
    let is_possible = |c: char| c.is_ascii_graphic() && !"/\"'\\+!".contains(c);
    // IFNAMSIZ, less its end.
    if (1..16).contains(&name.len()) && name.chars().all(is_possible) {
        Interface::Named(format!("{name}{mark}"))
    } else {
        Interface::Impossible
    }
}
