//! What is said of a small cluster.
#![expect(clippy::unwrap_used, reason = "tests")]

use pintle_nft::Proto;

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
        postrouting: meta mark & 0x00004000 != 0 goto as-node => goto as-node
          as-node: meta mark set meta mark & 0xffffbfff => mark 0x0
          as-node: masquerade fully-random => source becomes this machine's
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
        postrouting: meta mark & 0x00004000 != 0 goto as-node => goto as-node
          as-node: meta mark set meta mark & 0xffffbfff => mark 0x0
          as-node: masquerade fully-random => source becomes this machine's
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
          services: ip daddr @unused-ports goto refuse => goto refuse
            refuse: meta l4proto tcp reject with tcp reset => REJECT
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
    assert!(text.contains("# iptables-restore --noflush\n*nat\n") && text.contains("# ip6tables-restore"), "{text}");
    assert!(text.contains("-d 10.43.0.10/32 -p tcp -m tcp --dport 80"), "{text}");
    assert_eq!(iptables.json()["mode"], "iptables");
    let (source, destination) = ([192, 0, 2, 1].into(), [10, 43, 0, 10].into());
    let question = Question { source, destination, port: 80, proto: Proto::Tcp, interface: None };
    let refused = iptables.trace(&question).unwrap_err().to_string();
    assert!(refused.starts_with("packets cannot be traced in mode iptables"), "{refused}");
    assert!(explained_in("ipvs").is_err());
}
