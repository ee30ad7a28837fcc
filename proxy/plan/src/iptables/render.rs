//! What one Service puts into the tables: chains of its own, all in `nat`, and rules in chains it shares with all. The
//! same serving always gives the same, so a change is the difference of two.
//!
//! ```text
//! KUBE-SERVICES  ClusterIP ─────────────────────────────► KUBE-SVC (all servers) or KUBE-SVL (those here) ─► KUBE-SEP
//!                external addresses ──────► KUBE-EXT ────►     draws a server                            translates
//!                load balancers' ► KUBE-FW ───►┘ decides on masquerading and policy
//! KUBE-NODEPORTS node ports ─────────────►┘
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use pintle_nft::{Cidr, Proto};

use super::base::{
    EXTERNAL_SERVICES, FIREWALL, MARK_MASQ, NODE_PORTS, REFUSE, SERVICES, UNUSED_PORTS, if_pod, rejection, to_node,
    unless_pod,
};
use super::names::{self, PortId};
use super::script::Table;
use super::tables::COMMENT_MAX;
use crate::config::{Config, Masquerade};
use crate::endpoints::{Backend, Selection};
use crate::map::Served;
use crate::service::{Affinity, Claim, Policy, Port, Service, ServiceName, Via};

/// What draws are made of: probabilities are fractions of this (xt_statistic).
const CERTAIN: u64 = 1 << 31;

/// What one Service puts into the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Chains of its own in `nat`, with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Its rules in shared chains.
    pub shared: Shared,
}

/// Rules in shared chains.
pub type Shared = BTreeMap<(Table, &'static str), Vec<String>>;

/// How much of a Service is rendered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Everything,
    /// Without what chains of its own do: there may be thousands of them, each with a name to compute.
    Shared,
}

/// Renders a Service as it is served.
#[must_use]
pub fn render(config: &Config, name: &ServiceName, served: &Served) -> Fragment {
    render_part(config, name, served, Part::Everything)
}

/// Renders only its rules in shared chains.
#[must_use]
pub fn render_shared(config: &Config, name: &ServiceName, served: &Served) -> Shared {
    render_part(config, name, served, Part::Shared).shared
}

fn render_part(config: &Config, name: &ServiceName, served: &Served, part: Part) -> Fragment {
    let mut fragment = Fragment::default();
    for (port, servers) in served.ports() {
        let id = PortId::new(name, &port.name, port.proto);
        let mut renderer =
            Renderer { config, part, service: &served.service, port, servers, id: &id, fragment: &mut fragment };
        for frontend in served.frontends(port) {
            renderer.frontend(frontend.via, frontend.at);
        }
    }
    if let Some(port) = served.service.health_check_port {
        let rule = format!(
            "-p tcp -m comment --comment \"{}\" -m tcp --dport {port} -j ACCEPT",
            comment(&format!("{name} health check node port"))
        );
        fragment.share(Table::Filter, NODE_PORTS, rule);
    }
    fragment.share_unused(config, name, served.service.cluster_ip);
    fragment
}

/// What remains of a Service that is left out: its address refuses.
#[must_use]
pub fn render_left_out(config: &Config, name: &ServiceName, served: &Served) -> Fragment {
    let mut fragment = Fragment::default();
    fragment.share_unused(config, name, served.service.cluster_ip);
    fragment
}

impl Fragment {
    fn share(&mut self, table: Table, chain: &'static str, rule: String) {
        self.shared.entry((table, chain)).or_default().push(rule);
    }

    /// An address outside of the ranges of Services is not led to where the others are.
    fn share_unused(&mut self, config: &Config, name: &ServiceName, addr: IpAddr) {
        let is_inside = config.service_ranges.iter().any(|range| range.contains(addr));
        let chain = if is_inside { UNUSED_PORTS } else { SERVICES };
        let comment = comment(&format!("{name} has no such port"));
        self.share(
            Table::Filter,
            chain,
            format!("-d {} -m comment --comment \"{comment}\" -j {REFUSE}", Cidr::host(addr)),
        );
    }
}

struct Renderer<'a> {
    config: &'a Config,
    part: Part,
    service: &'a Service,
    port: &'a Port,
    servers: &'a Selection,
    id: &'a PortId,
    fragment: &'a mut Fragment,
}

impl Renderer<'_> {
    fn frontend(&mut self, via: Via, at: Claim) {
        let policy = self.service.policy(via);
        match (via, at) {
            _ if self.servers.is_empty() => self.refuse(via, at),
            (Via::ClusterIp, at) if self.servers.of(policy).is_empty() => {
                self.unserved(Table::Filter, SERVICES, at, "has no local endpoints", "-j DROP");
            }
            (Via::ClusterIp, at) => {
                let chain = self.draw(policy);
                self.mark_strangers(&chain, at);
                self.lead(at, "cluster IP", &chain);
            }
            (Via::LoadBalancer, at) if self.service.source_ranges.is_some() => {
                let guard = self.guard();
                self.lead(at, "loadbalancer IP", &guard);
                let why = format!("traffic not accepted by {guard}");
                self.unserved(Table::Filter, FIREWALL, at, &why, "-j DROP");
            }
            (Via::LoadBalancer | Via::ExternalIp | Via::NodePort, at) => {
                let chain = self.external();
                let what = if via == Via::LoadBalancer { "loadbalancer IP" } else { "external IP" };
                self.lead(at, what, &chain);
                if self.servers.of(policy).is_empty() {
                    self.unserved(Table::Filter, EXTERNAL_SERVICES, at, "has no local endpoints", "-j DROP");
                }
            }
        }
    }

    fn refuse(&mut self, via: Via, at: Claim) {
        let chain = if via == Via::ClusterIp { SERVICES } else { EXTERNAL_SERVICES };
        let rejection = rejection(self.config.family, self.port.proto);
        self.unserved(Table::Filter, chain, at, "has no endpoints", &rejection);
    }

    /// What becomes of packets to a frontend that were not translated.
    fn unserved(&mut self, table: Table, chain: &'static str, at: Claim, why: &str, target: &str) {
        let comment = comment(&format!("{} {why}", self.id.title));
        let addressed: Vec<String> = match at {
            Claim::Vip(addr, ..) => vec![format!("-d {}", Cidr::host(addr))],
            Claim::NodePort(..) => to_node(self.config),
        };
        for to in addressed {
            let rule = format!("{to} {} -m comment --comment \"{comment}\" {target}", to_port(at));
            self.fragment.share(table, chain, rule);
        }
    }

    /// Leads packets to a frontend into a chain.
    fn lead(&mut self, at: Claim, what: &str, chain: &str) {
        match at {
            Claim::Vip(addr, ..) => {
                let comment = comment(&format!("{} {what}", self.id.title));
                let to = format!("-d {} {}", Cidr::host(addr), to_port(at));
                let rule = format!("{to} -m comment --comment \"{comment}\" -j {chain}");
                self.fragment.share(Table::Nat, SERVICES, rule);
            }
            Claim::NodePort(..) => {
                let comment = comment(&self.id.title);
                let rule = format!("{} -m comment --comment \"{comment}\" -j {chain}", to_port(at));
                self.fragment.share(Table::Nat, NODE_PORTS, rule);
            }
        }
    }

    /// On the way to a ClusterIP only whose answer could not come back directly is masqueraded, or everybody. First in
    /// the chain of servers, where others come by too: the address tells.
    fn mark_strangers(&mut self, chain: &str, at: Claim) {
        let Claim::Vip(addr, ..) = at else { return };
        let (who, target) = match self.config.masquerade {
            Masquerade::All => (String::new(), MARK_MASQ),
            Masquerade::OffCluster => match unless_pod(self.config) {
                Some(strangers) => strangers,
                // Without knowing who is a pod nobody can be told to be none.
                None => return,
            },
        };
        // Sources come before destinations, interfaces after, as the tools list them.
        let to = format!("-d {}", Cidr::host(addr));
        let (first, second) = if who.contains("-i ") { (to, who) } else { (who, to) };
        let comment = comment(&format!("{} cluster IP", self.id.title));
        let rule = format!("{first} {second} {} -m comment --comment \"{comment}\" -j {target}", to_port(at));
        if let Some(rules) = self.fragment.chains.get_mut(chain) {
            rules.insert(0, rule.trim_start().to_owned());
        }
    }

    /// The chain for what comes from outside: masquerades what may go elsewhere, since the answer must come back through
    /// us; with policy Local the source is kept and the server is here, but pods and this node itself reach all
    /// servers, as by the ClusterIP.
    fn external(&mut self) -> String {
        let chain = self.id.chain(names::EXTERNAL);
        if self.part == Part::Shared || self.fragment.chains.contains_key(&chain) {
            return chain;
        }
        let title = &self.id.title;
        let rule = |what: String, rest: &str| format!("-m comment --comment \"{}\" {rest}", comment(&what));
        let mut rules = Vec::new();
        match self.service.external {
            Policy::Cluster => {
                rules.push(rule(
                    format!("masquerade traffic for {title} external destinations"),
                    &format!("-j {MARK_MASQ}"),
                ));
                rules.push(format!("-j {}", self.draw(Policy::Cluster)));
            }
            Policy::Local => {
                let all = self.draw(Policy::Cluster);
                let here = "-m addrtype --src-type LOCAL";
                let what = |what: &str| format!("{what} LOCAL traffic for {title} external destinations");
                rules.push(rule(what("masquerade"), &format!("{here} -j {MARK_MASQ}")));
                rules.push(rule(what("route"), &format!("{here} -j {all}")));
                for pod in if_pod(self.config) {
                    let what = format!("pod traffic for {title} external destinations");
                    rules.push(format!("{pod} {}", rule(what, &format!("-j {all}"))));
                }
                if !self.servers.local.is_empty() {
                    rules.push(format!("-j {}", self.draw(Policy::Local)));
                }
            }
        }
        self.fragment.chains.insert(chain.clone(), rules);
        chain
    }

    /// Lets in whom the Service names as sources. This node's own packets can have the load balancer's address as
    /// source, where it is an address of this node too.
    fn guard(&mut self) -> String {
        let (chain, target) = (self.id.chain(names::FIREWALL), self.external());
        let ranges = self.config.ours(self.service.source_ranges.as_deref().unwrap_or_default());
        let node_may = self.config.node_addrs.iter().any(|a| ranges.iter().any(|r| r.contains(*a)));
        let balanced = self.service.load_balancer_ips.iter().filter(|_| node_may).map(|a| Cidr::host(*a));
        let comment = comment(&format!("{} loadbalancer IP", self.id.title));
        let from = |range: Cidr| format!("-s {range} -m comment --comment \"{comment}\" -j {target}");
        let rules = ranges.iter().copied().chain(balanced).map(from).collect();
        self.fragment.chains.insert(chain.clone(), rules);
        chain
    }

    /// The chain that draws one of a policy's servers. A client with affinity goes to the server that knows it.
    fn draw(&mut self, policy: Policy) -> String {
        let chain = self.id.chain(match policy {
            Policy::Cluster => names::SERVICE,
            Policy::Local => names::SERVICE_LOCAL,
        });
        if self.part == Part::Shared || self.fragment.chains.contains_key(&chain) {
            return chain;
        }
        let servers = self.servers.of(policy);
        let mut rules = Vec::new();
        if let Affinity::ClientIp { timeout_ms } = self.service.affinity {
            // The kernel counts seconds in 32 bits, and refuses none.
            let seconds = u32::try_from(timeout_ms / 1000).unwrap_or(u32::MAX).max(1);
            for server in servers {
                let endpoint = self.id.endpoint(server);
                let known = self.recent(&format!("--rcheck --seconds {seconds} --reap"), &endpoint);
                rules.push(format!("{} {known} -j {endpoint}", self.to_server(server)));
            }
        }
        for (server, left) in servers.iter().zip((1..=servers.len() as u64).rev()) {
            let endpoint = self.id.endpoint(server);
            let random = (left > 1).then(|| format!(" -m statistic --mode random --probability {}", one_of(left)));
            rules.push(format!("{}{} -j {endpoint}", self.to_server(server), random.unwrap_or_default()));
            let translate = self.translate(&endpoint, server);
            self.fragment.chains.insert(endpoint, translate);
        }
        self.fragment.chains.insert(chain.clone(), rules);
        chain
    }

    fn to_server(&self, server: &Backend) -> String {
        format!("-m comment --comment \"{}\"", comment(&format!("{} -> {server}", self.id.title)))
    }

    /// A server that reaches itself is masqueraded: it would answer itself, not us.
    fn translate(&self, chain: &str, server: &Backend) -> Vec<String> {
        let proto = self.port.proto.name();
        let remember = match self.service.affinity {
            Affinity::None => String::new(),
            Affinity::ClientIp { .. } => format!(" {}", self.recent("--set", chain)),
        };
        vec![
            format!("-s {} -j {MARK_MASQ}", Cidr::host(server.addr)),
            format!("-p {proto}{remember} -m {proto} -j DNAT --to-destination {server}"),
        ]
    }

    fn recent(&self, what: &str, list: &str) -> String {
        let mask = match self.config.family {
            pintle_nft::Family::V4 => "255.255.255.255",
            pintle_nft::Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        };
        format!("-m recent {what} --name {list} --mask {mask} --rsource")
    }
}

/// What matches a frontend's port.
fn to_port(at: Claim) -> String {
    let (Claim::Vip(_, proto, port) | Claim::NodePort(proto, port)) = at;
    let proto: Proto = proto;
    format!("-p {0} -m {0} --dport {port}", proto.name())
}

/// One chance in so many, in the digits in which the tools list what the kernel makes of it.
fn one_of(count: u64) -> String {
    let share = (CERTAIN + count / 2) / count;
    #[expect(clippy::cast_precision_loss, reason = "31 bits fit")]
    let share = share as f64 / CERTAIN as f64;
    format!("{share:.11}")
}

/// A text that can stand between quotes.
fn comment(text: &str) -> String {
    let plain = |c: char| if (' '..='~').contains(&c) && !"\"\\'`".contains(c) { c } else { '?' };
    text.chars().take(COMMENT_MAX).map(plain).collect()
}
