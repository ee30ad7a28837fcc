//! What the proxy would do, for people: the rules of a set of objects, and where a packet goes through them and why.
//! Reads objects from an API server or from files; asks no kernel and changes nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Client, ListParams};
use pintle_nft::trace::{Fate, Interface, Journey, Machine, Origin, Packet, Step, journeys};
use pintle_nft::{Family, HookPoint, Proto, Ruleset};
use pintle_proxy_plan::map::Served;
use pintle_proxy_plan::service::Via;
use pintle_proxy_plan::{Change, Issue, ServiceMap, ServiceName};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::config::ProxyConfig;
use crate::mode::{self, Mode};
use crate::{node, run};

/// What the rules are made of.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    nodes: Vec<Node>,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The API server did not answer as hoped.
    #[error("cannot read {what} from the API server")]
    List {
        /// Which objects.
        what: &'static str,
        /// Why.
        source: pintle_client::Error,
    },
    /// A document is not YAML.
    #[error("document {at} is no YAML")]
    Yaml {
        /// Which, from 1.
        at: usize,
        /// What is wrong, and where.
        source: serde_yaml_ng::Error,
    },
    /// An object is not of its kind.
    #[error("document {at} is no {kind}")]
    Object {
        /// Which document, from 1.
        at: usize,
        /// What it says it is.
        kind: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// There is no mode of that name.
    #[error("mode \"{name}\" is none of {}", mode::names().join(", "))]
    NoMode {
        /// The name.
        name: String,
    },
    /// A mode's rules cannot be walked by imaginary packets.
    #[error("packets cannot be traced in mode {mode}, only in mode nftables; `pintle proxy plan` prints the rules")]
    NoTrace {
        /// The mode.
        mode: &'static str,
    },
}

impl Objects {
    /// Those of a cluster.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub async fn list(client: &Client, node: &str) -> Result<Self, ExplainError> {
        let all = ListParams::all();
        let own = ListParams { fields: format!("metadata.name={node}"), ..ListParams::default() };
        let failed = |what| move |source| ExplainError::List { what, source };
        Ok(Self {
            services: client.list("", &all).await.map_err(failed("Services"))?.items,
            slices: client.list("", &all).await.map_err(failed("EndpointSlices"))?.items,
            nodes: client.list("", &own).await.map_err(failed("the Node"))?.items,
        })
    }

    /// Adds those of a text: YAML or JSON, one document after the other, Lists too. Other kinds are passed over.
    ///
    /// # Errors
    /// At the first document that cannot be read.
    pub fn read(&mut self, text: &str) -> Result<(), ExplainError> {
        for (at, document) in (1..).zip(serde_yaml_ng::Deserializer::from_str(text)) {
            let value = Value::deserialize(document).map_err(|source| ExplainError::Yaml { at, source })?;
            self.add(at, value)?;
        }
        Ok(())
    }

    fn add(&mut self, at: usize, mut value: Value) -> Result<(), ExplainError> {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let failed = |source| ExplainError::Object { at, kind: kind.clone(), source };
        match kind.as_str() {
            "Service" => self.services.push(serde_json::from_value(value).map_err(failed)?),
            "EndpointSlice" => self.slices.push(serde_json::from_value(value).map_err(failed)?),
            "Node" => self.nodes.push(serde_json::from_value(value).map_err(failed)?),
            _ => {
                if let Value::Array(items) = value["items"].take() {
                    return items.into_iter().try_for_each(|item| self.add(at, item));
                }
            }
        }
        Ok(())
    }
}

/// A packet somebody asks about.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// Its protocol.
    pub proto: Proto,
    /// By which interface it comes in; needed only where pods are told by interfaces.
    pub interface: Option<String>,
}

/// Rules, and what can be said of them.
pub struct Explained {
    mode: &'static dyn Mode,
    /// A family each.
    maps: Vec<ServiceMap>,
    issues: Vec<Issue>,
    local: BTreeSet<IpAddr>,
}

impl Explained {
    /// Plans as the proxy of this configuration would; where it names no mode, in the first choice.
    ///
    /// # Errors
    /// When there is no such mode.
    pub fn new(config: &ProxyConfig, objects: &Objects) -> Result<Self, ExplainError> {
        let name = &config.kube.mode;
        let mode = mode::find(name).ok_or_else(|| ExplainError::NoMode { name: name.clone() })?;
        let base = run::planner_config(config, mode.name());
        let own = objects.nodes.iter().find(|n| n.metadata.name.as_deref() == Some(config.node.as_str()));
        let planned = own.map_or_else(|| base.clone(), |n| node::configure(&base, &config.local_mode, n));
        let mut maps = [Family::V4, Family::V6].map(|family| ServiceMap::new(planned.for_family(family)));
        let mut issues = BTreeSet::new();
        for map in &mut maps {
            objects.services.iter().for_each(|s| map.note(Change::Service(s)));
            objects.slices.iter().for_each(|s| map.note(Change::Slice(s)));
            issues.extend(map.resolve().issues);
        }
        let local = planned.node_addrs.into_iter().collect();
        Ok(Self { mode, maps: maps.into(), issues: issues.into_iter().collect(), local })
    }

    fn rules(&self) -> String {
        self.maps.iter().map(|map| self.mode.render(map)).collect()
    }

    /// The rules, as the mode's own tool would list them, after what is wrong with the objects.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out: String = self.issues.iter().map(|issue| format!("# {issue}\n")).collect();
        out.push_str(&self.rules());
        out
    }

    /// The same as data: each Service with where it answers and who serves, the rules, and what is wrong.
    #[must_use]
    pub fn json(&self) -> Value {
        let services = self.maps.iter().flat_map(|map| {
            let family = map.config().family;
            map.iter().map(move |(name, served)| service(family, name, served))
        });
        json!({
            "mode": self.mode.name(),
            "services": services.collect::<Vec<_>>(),
            "rules": self.rules().lines().collect::<Vec<_>>(),
            "issues": self.issues.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    /// Where a packet goes: every fate it may have, and the way to each.
    ///
    /// # Errors
    /// When the mode has no rules to walk through.
    pub fn trace(&self, question: &Question) -> Result<Trace, ExplainError> {
        let no_trace = || ExplainError::NoTrace { mode: self.mode.name() };
        let mut rules = Ruleset::default();
        for map in &self.maps {
            rules.tables.extend(self.mode.ruleset(map).ok_or_else(no_trace)?.tables);
        }
        let machine = Machine { local: self.local.clone(), ..Machine::default() };
        let is_local = self.local.contains(&question.source) || question.source.is_loopback();
        let packet = Packet {
            source: question.source,
            destination: question.destination,
            proto: question.proto,
            port: question.port,
            origin: if is_local { Origin::Local } else { Origin::Arriving },
            ingress: question.interface.as_deref().map_or_else(Interface::default, Interface::named),
        };
        let mut ways: Vec<Journey> = Vec::new();
        for journey in journeys(&rules, &machine, packet) {
            if !ways.iter().any(|known| known.fate == journey.fate) {
                ways.push(journey);
            }
        }
        ways.sort_by(|a, b| a.fate.cmp(&b.fate));
        Ok(Trace { packet, ways })
    }
}

fn service(family: Family, name: &ServiceName, served: &Served) -> Value {
    let servers = |servers: &[pintle_proxy_plan::endpoints::Backend]| -> Vec<String> {
        servers.iter().map(|s| SocketAddr::new(s.addr, s.port).to_string()).collect()
    };
    let ports = served.ports().map(|(port, selection)| {
        let frontends = served.frontends(port).map(|f| json!({"via": via(f.via), "at": f.at.to_string()}));
        json!({
            "name": port.name,
            "protocol": port.proto.name(),
            "port": port.port,
            "answersAt": frontends.collect::<Vec<_>>(),
            "servers": servers(&selection.cluster),
            "serversOfThisNode": servers(&selection.local),
        })
    });
    json!({
        "namespace": name.namespace,
        "name": name.name,
        "family": family_name(family),
        "ports": ports.collect::<Vec<_>>(),
        "heldByOthers": served.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn via(via: Via) -> &'static str {
    match via {
        Via::ClusterIp => "clusterIP",
        Via::ExternalIp => "externalIP",
        Via::LoadBalancer => "loadBalancer",
        Via::NodePort => "nodePort",
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub struct Trace {
    packet: Packet,
    ways: Vec<Journey>,
}

impl Trace {
    /// For people: what may become of the packet, then why, rule by rule, for the first of these.
    #[must_use]
    pub fn text(&self) -> String {
        let packet = &self.packet;
        let from = match packet.origin {
            Origin::Local => "a process of this node",
            Origin::Arriving => "a pod or another machine",
        };
        let to = SocketAddr::new(packet.destination, packet.port);
        let mut out = format!("{} {} -> {to}, from {from}\n", packet.proto.name(), packet.source);
        for journey in &self.ways {
            line(&mut out, 1, &sentence(packet, &journey.fate));
        }
        if let Some(first) = self.ways.first() {
            out.push_str(if self.ways.len() > 1 { "\nwhy, for the first of these:\n" } else { "\nwhy:\n" });
            first.steps.iter().for_each(|step| tell(&mut out, step));
        }
        out
    }

    /// The same as data, with the way to every fate.
    #[must_use]
    pub fn json(&self) -> Value {
        let ways = self.ways.iter().map(|journey| {
            let mut steps = String::new();
            journey.steps.iter().for_each(|step| tell(&mut steps, step));
            json!({
                "fate": journey.fate.to_string(),
                "sentence": sentence(&self.packet, &journey.fate),
                "steps": steps.lines().map(str::trim).collect::<Vec<_>>(),
            })
        });
        json!({
            "source": self.packet.source,
            "destination": SocketAddr::new(self.packet.destination, self.packet.port),
            "protocol": self.packet.proto.name(),
            "ways": ways.collect::<Vec<_>>(),
        })
    }
}

fn sentence(packet: &Packet, fate: &Fate) -> String {
    match fate {
        Fate::Delivered { to, port, .. } if (*to, *port) == (packet.destination, packet.port) => {
            format!("goes where it was sent: {fate}")
        }
        Fate::Delivered { .. } => format!("goes to {fate}"),
        Fate::Dropped => "is dropped without a word".into(),
        Fate::Rejected => "is refused, and the sender is told".into(),
    }
}

fn tell(out: &mut String, step: &Step) {
    match step {
        Step::Hook { at, chain } => line(out, 1, &format!("{}: {chain}", hook(*at))),
        Step::Rule { depth, chain, rule, effect } => {
            line(out, 2 + usize::from(*depth), &format!("{chain}: {rule} => {effect}"));
        }
        // What did not concern it would bury the rest.
        Step::Passed { .. } => {}
        Step::Routed(whereto) => line(out, 1, &format!("routed {whereto}")),
    }
}

fn hook(at: HookPoint) -> &'static str {
    match at {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
        HookPoint::Postrouting => "postrouting",
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    *out += &format!("{:width$}{text}\n", "", width = depth * 2);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const OBJECTS: &str = "
kind: Node
metadata: {name: here}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
kind: List
items:
- kind: Service
  metadata: {namespace: d, name: web, creationTimestamp: 2026-01-01T00:00:00Z}
  spec:
    type: NodePort
    clusterIP: 10.43.0.10
    ports: [{name: http, port: 80, nodePort: 30080, protocol: TCP}]
- kind: EndpointSlice
  addressType: IPv4
  metadata: {namespace: d, name: web-1, labels: {kubernetes.io/service-name: web}}
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints:
  - {addresses: [10.42.0.2], nodeName: here}
  - {addresses: [10.42.1.2], nodeName: there}
- kind: ConfigMap
---
kind: Service
metadata: {namespace: d, name: younger, creationTimestamp: 2026-01-02T00:00:00Z}
spec: {clusterIP: 10.43.0.10, ports: [{port: 80}]}
";

    fn explained() -> Explained {
        explained_in("").unwrap()
    }

    fn explained_in(mode: &str) -> Result<Explained, ExplainError> {
        let mut objects = Objects::default();
        objects.read(OBJECTS).unwrap();
        let range = |text: &str| vec![text.parse().unwrap()];
        let mut config = ProxyConfig::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"));
        config.kube.mode = mode.to_owned();
        Explained::new(&config, &objects)
    }

    fn asked(source: &str, destination: &str, port: u16) -> String {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        explained().trace(&Question { source, destination, port, proto: Proto::Tcp, interface: None }).unwrap().text()
    }

    #[test]
    fn a_trace_says_where_a_packet_goes_and_why() {
        insta::assert_snapshot!(asked("192.0.2.1", "10.43.0.10", 80), @r#"
        tcp 192.0.2.1 -> 10.43.0.10:80, from a process of this node
          goes to 10.42.0.2:8080 masqueraded
          goes to 10.42.1.2:8080 masqueraded

        why, for the first of these:
          output: ip pintle output
            output: jump services => jump services
              services: ip daddr . meta l4proto . th dport vmap @service-ips => goto cluster-2
                cluster-2: ip saddr & 255.255.0.0 != 10.42.0.0 meta mark set meta mark & 0xffffbfff ^ 0x00004000 => mark 0x4000
                cluster-2: dnat to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints => destination becomes 10.42.0.2:8080
          routed to another machine or a pod
          postrouting: ip pintle postrouting
            postrouting: meta mark & 0x00004000 != 0 goto masquerade => goto masquerade
              masquerade: meta mark set meta mark & 0xffffbfff => mark 0x0
              masquerade: masquerade fully-random => source becomes this machine's
        "#);
        insta::assert_snapshot!(asked("203.0.113.5", "192.0.2.1", 30080), @r#"
        tcp 203.0.113.5 -> 192.0.2.1:30080, from a pod or another machine
          goes to 10.42.0.2:8080 masqueraded
          goes to 10.42.1.2:8080 masqueraded

        why, for the first of these:
          prerouting: ip pintle prerouting
            prerouting: jump services => jump services
              services: fib daddr type local ip daddr & 255.0.0.0 != 127.0.0.0 meta l4proto . th dport vmap @node-ports => goto port-external-2
                port-external-2: meta mark set meta mark & 0xffffbfff ^ 0x00004000 => mark 0x4000
                port-external-2: dnat to meta l4proto . th dport . numgen random mod 2 map @port-endpoints => destination becomes 10.42.0.2:8080
          routed to another machine or a pod
          postrouting: ip pintle postrouting
            postrouting: meta mark & 0x00004000 != 0 goto masquerade => goto masquerade
              masquerade: meta mark set meta mark & 0xffffbfff => mark 0x0
              masquerade: masquerade fully-random => source becomes this machine's
        "#);
        insta::assert_snapshot!(asked("10.42.0.9", "10.43.0.99", 80), @r#"
        tcp 10.42.0.9 -> 10.43.0.99:80, from a pod or another machine
          is dropped without a word

        why:
          prerouting: ip pintle prerouting
            prerouting: jump services => jump services
              services: ip daddr & 255.255.0.0 10.43.0.0 drop => drop
        "#);
        insta::assert_snapshot!(asked("10.42.0.9", "10.43.0.10", 81), @r#"
        tcp 10.42.0.9 -> 10.43.0.10:81, from a pod or another machine
          is refused, and the sender is told

        why:
          prerouting: ip pintle prerouting
            prerouting: jump services => jump services
              services: ip daddr @unused-ports goto reject => goto reject
                reject: meta l4proto tcp reject with tcp reset => REJECT
        "#);
    }

    #[test]
    fn a_plan_is_rules_for_people_and_services_for_programs() {
        let explained = explained();
        let text = explained.text();
        assert!(text.starts_with("# "), "what is wrong comes first: {text}");
        assert!(text.contains("10.43.0.10 . tcp . 80 : goto cluster-2"), "{text}");
        let json = explained.json();
        insta::assert_snapshot!(serde_json::to_string_pretty(&json["services"]).unwrap(), @r#"
        [
          {
            "family": "IPv4",
            "heldByOthers": [],
            "name": "web",
            "namespace": "d",
            "ports": [
              {
                "answersAt": [
                  {
                    "at": "10.43.0.10:80/tcp",
                    "via": "clusterIP"
                  },
                  {
                    "at": "node port 30080/tcp",
                    "via": "nodePort"
                  }
                ],
                "name": "http",
                "port": 80,
                "protocol": "tcp",
                "servers": [
                  "10.42.0.2:8080",
                  "10.42.1.2:8080"
                ],
                "serversOfThisNode": []
              }
            ]
          },
          {
            "family": "IPv4",
            "heldByOthers": [
              "10.43.0.10:80/tcp"
            ],
            "name": "younger",
            "namespace": "d",
            "ports": [
              {
                "answersAt": [],
                "name": "",
                "port": 80,
                "protocol": "tcp",
                "servers": [],
                "serversOfThisNode": []
              }
            ]
          }
        ]
        "#);
        assert_eq!(json["issues"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut objects = Objects::default();
        let error = objects.read("kind: Service\nspec: 5\n").unwrap_err();
        assert_eq!(error.to_string(), "document 1 is no Service");
        assert_eq!(objects.read("a: b\n---\n[").unwrap_err().to_string(), "document 2 is no YAML");
    }

    #[test]
    fn a_plan_is_that_of_the_mode_and_a_trace_needs_rules_to_walk() {
        let iptables = explained_in("iptables").unwrap();
        let text = iptables.text();
        assert!(
            text.contains("# iptables-restore --noflush\n*nat\n") && text.contains("# ip6tables-restore"),
            "{text}"
        );
        assert!(text.contains("-d 10.43.0.10/32 -p tcp -m tcp --dport 80"), "{text}");
        assert_eq!(iptables.json()["mode"], "iptables");
        let (source, destination) = ([192, 0, 2, 1].into(), [10, 43, 0, 10].into());
        let question = Question { source, destination, port: 80, proto: Proto::Tcp, interface: None };
        let refused = iptables.trace(&question).unwrap_err().to_string();
        assert!(refused.starts_with("packets cannot be traced in mode iptables"), "{refused}");
        assert!(explained_in("ipvs").is_err());
    }
}
