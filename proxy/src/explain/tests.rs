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
    asked_in("", source, destination, port).unwrap()
}

fn asked_in(mode: &str, source: &str, destination: &str, port: u16) -> Result<String, ExplainError> {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let question = Question { source, destination, port, proto: Proto::Tcp, interface: None };
    Ok(explained_in(mode)?.trace(&question)?.text())
}

#[test]
fn a_trace_says_where_a_packet_goes_and_why() {
    insta::assert_snapshot!(asked("192.0.2.1", "10.43.0.10", 80), @r#"
    tcp 192.0.2.1 -> 10.43.0.10:80, from a process of this node, in mode nftables
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
    tcp 203.0.113.5 -> 192.0.2.1:30080, from a pod or another machine, in mode nftables
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
    tcp 10.42.0.9 -> 10.43.0.99:80, from a pod or another machine, in mode nftables
      is dropped without a word

    why:
      prerouting: ip pintle prerouting
        prerouting: jump services => jump services
          services: ip daddr & 255.255.0.0 10.43.0.0 drop => drop
    "#);
    insta::assert_snapshot!(asked("10.42.0.9", "10.43.0.10", 81), @r#"
    tcp 10.42.0.9 -> 10.43.0.10:81, from a pod or another machine, in mode nftables
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
fn a_plan_is_that_of_the_mode() {
    let iptables = explained_in("iptables").unwrap();
    let text = iptables.text();
    assert!(text.contains("# iptables-restore --noflush\n*nat\n") && text.contains("# ip6tables-restore"), "{text}");
    assert!(text.contains("-d 10.43.0.10/32 -p tcp -m tcp --dport 80"), "{text}");
    assert_eq!(iptables.json()["mode"], "iptables");
    let userspace = explained_in("userspace").unwrap();
    assert!(userspace.text().contains("listen 10.43.0.10:80/tcp for d/web\n  to 10.42.0.2:8080 10.42.1.2:8080\n"));
    assert_eq!(userspace.json()["mode"], "userspace");
    assert!(explained_in("ipvs").is_err());
}

#[test]
fn a_packet_of_two_families_is_refused() {
    for mode in crate::mode::names() {
        let refused = asked_in(mode, "192.0.2.1", "fd00::1", 80).unwrap_err().to_string();
        assert!(refused.starts_with("a packet from 192.0.2.1 to fd00::1 cannot be"), "{refused}");
    }
}

#[test]
fn a_trace_in_mode_iptables_names_chains_and_rules() {
    insta::assert_snapshot!(asked_in("iptables", "203.0.113.5", "192.0.2.1", 30080).unwrap(), @r#"
    tcp 203.0.113.5 -> 192.0.2.1:30080, from a pod or another machine, in mode iptables
      goes to 10.42.0.2:8080 masqueraded
      goes to 10.42.1.2:8080 masqueraded

    why, for the first of these:
      prerouting: nat PREROUTING
        PREROUTING: -m comment --comment "kubernetes service portals" -j KUBE-SERVICES => jump KUBE-SERVICES
          KUBE-SERVICES: ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -j KUBE-NODEPORTS => jump KUBE-NODEPORTS
            KUBE-NODEPORTS: -p tcp -m tcp --dport 30080 -m comment --comment "d/web:http" -j KUBE-EXT-BZ2S26ZPVZ7WFQZP => jump KUBE-EXT-BZ2S26ZPVZ7WFQZP
              KUBE-EXT-BZ2S26ZPVZ7WFQZP: -m comment --comment "masquerade traffic for d/web:http external destinations" -j KUBE-MARK-MASQ => jump KUBE-MARK-MASQ
                KUBE-MARK-MASQ: -j MARK --set-xmark 0x4000/0x4000 => mark 0x4000
              KUBE-EXT-BZ2S26ZPVZ7WFQZP: -j KUBE-SVC-BZ2S26ZPVZ7WFQZP => jump KUBE-SVC-BZ2S26ZPVZ7WFQZP
                KUBE-SVC-BZ2S26ZPVZ7WFQZP: -m comment --comment "d/web:http -> 10.42.0.2:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2WMBT7K3UIPTQR6M => jump KUBE-SEP-2WMBT7K3UIPTQR6M
                  KUBE-SEP-2WMBT7K3UIPTQR6M: -p tcp -m tcp -j DNAT --to-destination 10.42.0.2:8080 => destination becomes 10.42.0.2:8080
      routed to another machine or a pod
      forward: filter FORWARD
        FORWARD: -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD => jump KUBE-FORWARD
          KUBE-FORWARD: -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT => accept
      postrouting: nat POSTROUTING
        POSTROUTING: -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING => jump KUBE-POSTROUTING
          KUBE-POSTROUTING: -j MARK --set-xmark 0x4000/0x0 => mark 0x0
          KUBE-POSTROUTING: -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully => source becomes this machine's
    "#);
    insta::assert_snapshot!(asked_in("iptables", "10.42.0.9", "10.43.0.10", 81).unwrap(), @r#"
    tcp 10.42.0.9 -> 10.43.0.10:81, from a pod or another machine, in mode iptables
      is refused, and the sender is told

    why:
      routed to another machine or a pod
      forward: filter FORWARD
        FORWARD: -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES => jump KUBE-SERVICES
          KUBE-SERVICES: -d 10.43.0.0/16 -j KUBE-UNUSED-PORTS => jump KUBE-UNUSED-PORTS
            KUBE-UNUSED-PORTS: -d 10.43.0.10/32 -m comment --comment "d/web has no such port" -j KUBE-REFUSE => jump KUBE-REFUSE
              KUBE-REFUSE: -p tcp -j REJECT --reject-with tcp-reset => REJECT
    "#);
}

#[test]
fn a_trace_in_mode_userspace_names_sockets() {
    insta::assert_snapshot!(asked_in("userspace", "203.0.113.5", "192.0.2.1", 30080).unwrap(), @r#"
    tcp 203.0.113.5 -> 192.0.2.1:30080, from a pod or another machine, in mode userspace
      goes to 10.42.0.2:8080 masqueraded
      goes to 10.42.1.2:8080 masqueraded

    why, for the first of these:
      listener at node port 30080/tcp for d/web
        everybody is served by the same servers
          handed on to 10.42.0.2:8080, by a connection of this machine's own
    "#);
    insta::assert_snapshot!(asked_in("userspace", "10.42.0.9", "10.43.0.10", 81).unwrap(), @r#"
    tcp 10.42.0.9 -> 10.43.0.10:81, from a pod or another machine, in mode userspace
      is refused, and the sender is told

    why:
      no socket of the proxy's at 10.43.0.10:81/tcp: nobody serves there
    "#);
    insta::assert_snapshot!(asked_in("userspace", "10.42.0.9", "10.43.0.99", 80).unwrap(), @r#"
    tcp 10.42.0.9 -> 10.43.0.99:80, from a pod or another machine, in mode userspace
      is dropped without a word

    why:
      no Service has this address: a route discards it, which senders on this machine are told
    "#);
}
