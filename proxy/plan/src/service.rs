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
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
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
    /// Its virtual address of our family.
    pub cluster_ip: Option<IpAddr>,
    /// Addresses of load balancers that send packets to this node with that destination.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Addresses somebody else routes here.
    pub external_ips: Vec<IpAddr>,
    /// Who may speak to the load balancers' addresses; `None` for everybody.
    pub source_ranges: Option<Vec<Cidr>>,
    /// Where packets from outside the cluster go.
    pub external: Policy,
    /// Where packets to the ClusterIP go.
    pub internal: Policy,
    /// Whether a client stays with its endpoint.
    pub affinity: Affinity,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, by which endpoints are found; may be empty.
    pub name: String,
    /// Transport protocol.
    pub proto: Proto,
    /// The port on virtual addresses.
    pub port: u16,
    /// The port on this node's own addresses.
    pub node_port: Option<u16>,
}

/// Which endpoints serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The outcome of reading a Service: `None` when this proxy has nothing to do with it.
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
    let cluster_ips = spec.cluster_ips.clone().or_else(|| spec.cluster_ip.clone().map(|ip| vec![ip]));
    let cluster_ip = reader.addrs("spec.clusterIP", cluster_ips.unwrap_or_default()).into_iter().next();
    let policy =
        |text: Option<&String>| if text.is_some_and(|t| t == "Local") { Policy::Local } else { Policy::Cluster };
    Some(Service {
        created_s: object.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        cluster_ip,
        load_balancer_ips: reader.load_balancer(object),
        external_ips: reader.addrs("spec.externalIPs", spec.external_ips.clone().unwrap_or_default()),
        source_ranges: reader.ranges(spec.load_balancer_source_ranges.as_deref().unwrap_or_default()),
        external: policy(spec.external_traffic_policy.as_ref()),
        internal: policy(spec.internal_traffic_policy.as_ref()),
        affinity: affinity(spec),
        ports: spec.ports.iter().flatten().filter_map(|p| reader.port(p)).collect(),
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
    fn addrs(&mut self, field: &'static str, texts: Vec<String>) -> Vec<IpAddr> {
        let mut addrs = Vec::new();
        for value in texts.into_iter().filter(|t| !t.is_empty()) {
            match parse_addr(&value) {
                Some(addr) if !is_usable(addr) => self.issue(Problem::BadAddress { field, value }),
                Some(addr) if Family::of(addr) == self.config.family && !addrs.contains(&addr) => addrs.push(addr),
                Some(_) => {}
                None => self.issue(Problem::BadAddress { field, value }),
            }
        }
        addrs
    }

    /// The ranges of both families. A list of which nothing is usable still means that not everybody may come.
    fn ranges(&mut self, texts: &[String]) -> Option<Vec<Cidr>> {
        let mut ranges = Vec::new();
        for value in texts {
            match value.trim().parse::<Cidr>() {
                Ok(range) => ranges.push(range.network()),
                Err(_) => {
                    self.issue(Problem::BadRange { field: "spec.loadBalancerSourceRanges", value: value.clone() });
                }
            }
        }
        (!texts.is_empty()).then_some(ranges)
    }

    /// The addresses at which load balancers deliver packets as they are. With ipMode Proxy, they translate them to
    /// node ports first, and the address must not be short-circuited here.
    fn load_balancer(&mut self, object: &core::Service) -> Vec<IpAddr> {
        let ingress = object.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let is_balanced = object.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
        let texts = ingress
            .into_iter()
            .flatten()
            .filter(|i| is_balanced && i.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|i| i.ip.clone())
            .collect();
        self.addrs("status.loadBalancer.ingress.ip", texts)
    }

    fn port(&mut self, port: &core::ServicePort) -> Option<Port> {
        let name = port.name.clone().unwrap_or_default();
        let read = || {
            Some(Port {
                name: name.clone(),
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
