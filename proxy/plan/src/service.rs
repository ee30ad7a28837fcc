//! A Service in the proxy's own words: what it answers on and how. Owns reading the API object, once, at the boundary;
//! whatever is unusable becomes an [`Issue`] and is left out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1 as core;
use pintle_nft::{Cidr, Family, Proto};

use crate::config::Config;
use crate::issue::{Issue, Problem};

/// The label by which a Service says that another proxy serves it.
pub const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// How long an address stays bound to an endpoint when the Service does not say.
const AFFINITY_SECONDS_DEFAULT: u64 = 10_800;

/// Which Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service as the proxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Seconds since the epoch at which it was made: of two with the same address, the older one has it.
    pub created_s: i64,
    /// Its virtual address of our family. A Service without one is not of our family, whatever else it has.
    pub cluster_ip: IpAddr,
    /// Addresses of load balancers that send packets to this node with that destination.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// Addresses somebody else routes here.
    pub external_ips: Box<[IpAddr]>,
    /// Who may speak to the load balancers' addresses, of both families; `None` for everybody.
    pub source_ranges: Option<Box<[Cidr]>>,
    /// Where packets from outside the cluster go.
    pub external: Policy,
    /// Where packets to the ClusterIP go.
    pub internal: Policy,
    /// Whether a client stays with its endpoint.
    pub affinity: Affinity,
    /// Where load balancers ask whether this node has servers of its own; only for external policy Local.
    pub health_check_port: Option<u16>,
    /// Its ports.
    pub ports: Box<[Port]>,
}

impl Service {
    /// Whether any of its frontends leads to this node's servers only.
    #[must_use]
    pub fn uses_local(&self) -> bool {
        self.internal == Policy::Local || self.external == Policy::Local
    }

    /// Where one of its ports answers, the ClusterIP first. An address that is told twice counts once.
    pub fn frontends<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = Frontend> + 'a {
        let balanced = self.load_balancer_ips.iter().filter(|a| **a != self.cluster_ip);
        let told = |a: &IpAddr| *a == self.cluster_ip || self.load_balancer_ips.contains(a);
        let external = self.external_ips.iter().filter(move |a| !told(a));
        let vip = |via| move |addr: IpAddr| Frontend { via, at: Claim::Vip(addr, port.proto, port.port) };
        std::iter::once(self.cluster_ip)
            .map(vip(Via::ClusterIp))
            .chain(balanced.copied().map(vip(Via::LoadBalancer)))
            .chain(external.copied().map(vip(Via::ExternalIp)))
            .chain(port.node_port.map(|n| Frontend { via: Via::NodePort, at: Claim::NodePort(port.proto, n) }))
    }

    /// The policy of a kind of frontend.
    #[must_use]
    pub fn policy(&self, via: Via) -> Policy {
        match via {
            Via::ClusterIp => self.internal,
            Via::ExternalIp | Via::LoadBalancer | Via::NodePort => self.external,
        }
    }
}

/// A place at which a Service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// What kind of place.
    pub via: Via,
    /// Which.
    pub at: Claim,
}

/// By which kind of address a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// The Service's own address.
    ClusterIp,
    /// An address that somebody else routes here.
    ExternalIp,
    /// A load balancer's address; the Service's source ranges guard it.
    LoadBalancer,
    /// A port of this machine's own addresses.
    NodePort,
}

/// Something only one Service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A port of a virtual address.
    Vip(IpAddr, Proto, u16),
    /// A node port.
    NodePort(Proto, u16),
}

impl Claim {
    /// Its transport protocol.
    #[must_use]
    pub fn proto(&self) -> Proto {
        match self {
            Self::Vip(_, proto, _) | Self::NodePort(proto, _) => *proto,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vip(addr, proto, port) => write!(f, "{}/{}", std::net::SocketAddr::new(*addr, *port), proto.name()),
            Self::NodePort(proto, port) => write!(f, "node port {port}/{}", proto.name()),
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, by which endpoints are found; may be empty.
    pub name: Box<str>,
    /// Transport protocol.
    pub proto: Proto,
    /// The port on virtual addresses.
    pub port: u16,
    /// The port on this node's own addresses.
    pub node_port: Option<u16>,
}

/// Which endpoints serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// All of them.
    Cluster,
    /// Those on this node.
    Local,
}

/// Whether a client stays with its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Every connection is drawn anew.
    None,
    /// By its address, until it has been silent this long.
    ClientIp {
        /// Milliseconds.
        timeout_ms: u64,
    },
}

/// The outcome of reading a Service: `None` when a proxy of our family has nothing to do with it.
pub fn read(config: &Config, object: &core::Service, issues: &mut Vec<Issue>) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let labels = object.metadata.labels.as_ref();
    let ignored = spec.type_.as_deref() == Some("ExternalName")
        || spec.cluster_ip.as_deref() == Some("None")
        || labels.is_some_and(|l: &BTreeMap<String, String>| l.contains_key(PROXY_NAME));
    if ignored {
        return None;
    }
    let mut reader = Reader { config, name: name_of(&object.metadata), issues };
    let listed = spec.cluster_ips.as_deref().filter(|l| !l.is_empty());
    let cluster_ips = listed.unwrap_or(spec.cluster_ip.as_slice());
    let cluster_ip = reader.addrs("spec.clusterIP", cluster_ips.iter()).first().copied()?;
    let policy =
        |text: Option<&String>| if text.is_some_and(|t| t == "Local") { Policy::Local } else { Policy::Cluster };
    let external = policy(spec.external_traffic_policy.as_ref());
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    Some(Service {
        created_s: object.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        cluster_ip,
        load_balancer_ips: reader.load_balancer(object, is_balanced),
        external_ips: reader.addrs("spec.externalIPs", spec.external_ips.iter().flatten()),
        source_ranges: reader.ranges(spec.load_balancer_source_ranges.as_deref().unwrap_or_default()),
        external,
        internal: policy(spec.internal_traffic_policy.as_ref()),
        affinity: affinity(spec),
        health_check_port: spec
            .health_check_node_port
            .filter(|_| is_balanced && external == Policy::Local)
            .and_then(usable_port),
        ports: reader.ports(spec),
    })
}

/// The name of a Service, or of what lies beside it.
#[must_use]
pub fn name_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ServiceName {
    ServiceName { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

fn affinity(spec: &core::ServiceSpec) -> Affinity {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return Affinity::None;
    }
    let seconds = spec
        .session_affinity_config
        .as_ref()
        .and_then(|c| c.client_ip.as_ref()?.timeout_seconds)
        .and_then(|s| u64::try_from(s).ok())
        .filter(|s| *s > 0);
    Affinity::ClientIp { timeout_ms: seconds.unwrap_or(AFFINITY_SECONDS_DEFAULT) * 1000 }
}

struct Reader<'a> {
    config: &'a Config,
    name: ServiceName,
    issues: &'a mut Vec<Issue>,
}

impl Reader<'_> {
    fn issue(&mut self, problem: Problem) {
        self.issues.push(Issue { service: self.name.clone(), problem });
    }

    /// The addresses of our family; the other family's are another planner's.
    fn addrs<'a>(&mut self, field: &'static str, texts: impl Iterator<Item = &'a String>) -> Box<[IpAddr]> {
        let mut addrs = Vec::new();
        for value in texts.filter(|t| !t.is_empty()) {
            match parse_addr(value) {
                Some(addr) if !is_usable(addr) => self.issue(Problem::BadAddress { field, value: value.clone() }),
                Some(addr) if Family::of(addr) == self.config.family && !addrs.contains(&addr) => addrs.push(addr),
                Some(_) => {}
                None => self.issue(Problem::BadAddress { field, value: value.clone() }),
            }
        }
        addrs.into()
    }

    /// The ranges of both families. A list of which nothing is usable still means that not everybody may come.
    fn ranges(&mut self, texts: &[String]) -> Option<Box<[Cidr]>> {
        let mut ranges = Vec::new();
        for value in texts {
            match value.trim().parse::<Cidr>() {
                Ok(range) => ranges.push(range.network()),
                Err(_) => {
                    self.issue(Problem::BadRange { field: "spec.loadBalancerSourceRanges", value: value.clone() });
                }
            }
        }
        (!texts.is_empty()).then(|| ranges.into())
    }

    /// The addresses at which load balancers deliver packets as they are. With ipMode Proxy, they translate them to
    /// node ports first, and the address must not be short-circuited here.
    fn load_balancer(&mut self, object: &core::Service, is_balanced: bool) -> Box<[IpAddr]> {
        let ingress = object.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let ours = ingress.into_iter().flatten().filter(|i| is_balanced && i.ip_mode.as_deref() != Some("Proxy"));
        self.addrs("status.loadBalancer.ingress.ip", ours.filter_map(|i| i.ip.as_ref()))
    }

    /// A number told twice is the first telling's.
    fn ports(&mut self, spec: &core::ServiceSpec) -> Box<[Port]> {
        let mut ports: Vec<Port> = Vec::new();
        for told in spec.ports.iter().flatten() {
            let Some(mut port) = self.port(told) else { continue };
            let twice = |same: &dyn Fn(&Port) -> bool| ports.iter().any(|p| p.proto == port.proto && same(p));
            if twice(&|p| p.port == port.port) {
                self.issue(Problem::BadPort { port: told.port.to_string() });
                continue;
            }
            if twice(&|p| p.node_port.is_some() && p.node_port == port.node_port) {
                self.issue(Problem::BadPort { port: format!("node port {}", port.node_port.unwrap_or_default()) });
                port.node_port = None;
            }
            ports.push(port);
        }
        ports.into()
    }

    fn port(&mut self, port: &core::ServicePort) -> Option<Port> {
        let name = port.name.clone().unwrap_or_default();
        let read = || {
            Some(Port {
                name: name.as_str().into(),
                proto: proto(port.protocol.as_deref())?,
                port: usable_port(port.port)?,
                node_port: match port.node_port {
                    None | Some(0) => None,
                    Some(number) => Some(usable_port(number)?),
                },
            })
        };
        let read = read();
        if read.is_none() {
            let port = if name.is_empty() { port.port.to_string() } else { name };
            self.issue(Problem::BadPort { port });
        }
        read
    }
}

/// A protocol's name as the API writes it; TCP when it says nothing.
#[must_use]
pub fn proto(text: Option<&str>) -> Option<Proto> {
    match text {
        None | Some("" | "TCP") => Some(Proto::Tcp),
        Some("UDP") => Some(Proto::Udp),
        Some("SCTP") => Some(Proto::Sctp),
        Some(_) => None,
    }
}

/// A port number that packets can have.
#[must_use]
pub fn usable_port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|n| *n != 0)
}

/// Reads an address as Kubernetes does, which accepts leading zeros (as decimal) in stored objects, and blanks around.
#[must_use]
pub fn parse_addr(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let parts: Vec<u8> = text
            .split('.')
            .map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { p.parse().ok() } else { None })
            .collect::<Option<_>>()?;
        <[u8; 4]>::try_from(parts).ok().map(|p| IpAddr::V4(Ipv4Addr::from(p)))
    })
}

/// Whether packets can go to it from anywhere.
#[must_use]
pub fn is_usable(addr: IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(a) if a.is_broadcast());
    !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kubernetes_reads_them() {
        for (text, want) in [
            ("10.0.0.1", Some("10.0.0.1")),
            (" 10.0.0.1 ", Some("10.0.0.1")),
            ("010.000.000.001", Some("10.0.0.1")),
            ("fd00::1", Some("fd00::1")),
            ("10.0.0", None),
            ("10.0.0.256", None),
            ("10.0.0.+1", None),
            ("", None),
        ] {
            assert_eq!(parse_addr(text).map(|a| a.to_string()).as_deref(), want, "{text:?}");
        }
    }
}
