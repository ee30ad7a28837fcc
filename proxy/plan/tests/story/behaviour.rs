//! The behaviour table, line by line, in both modes that filter packets. A row reads: from where, to what, and what
//! becomes of the packet.

use std::net::SocketAddr;

use pintle_nft::trace::{Interface, Machine, Origin, Packet, summary, trace};
use pintle_nft::{Proto, Value};
use pintle_proxy_plan::{Change, Config, Masquerade, NodePortAddresses, Planner};
use serde_json::{Value as Json, json};

use crate::objects::{service, slice, web};
use crate::table::iptables;
use crate::{config, planner};

const POD: (&str, Origin) = ("10.42.0.9", Origin::Arriving);
const NODE: (&str, Origin) = ("192.0.2.1", Origin::Local);
const OTHER_NODE: (&str, Origin) = ("192.0.2.2", Origin::Arriving);
const OUTSIDE: (&str, Origin) = ("203.0.113.5", Origin::Arriving);

fn machine() -> Machine {
    Machine { local: ["192.0.2.1".parse().unwrap()].into(), ..Machine::default() }
}

fn packet(from: (&str, Origin), to: &str, proto: Proto) -> Packet {
    let to: SocketAddr = to.parse().unwrap();
    let (source, ingress) = (from.0.parse().unwrap(), Interface::default());
    Packet { source, destination: to.ip(), proto, port: to.port(), origin: from.1, ingress }
}

#[track_caller]
fn expect(planner: &Planner, rows: &[((&str, Origin), &str, &str)]) {
    expect_proto(planner, Proto::Tcp, rows);
}

#[track_caller]
fn expect_proto(planner: &Planner, proto: Proto, rows: &[((&str, Origin), &str, &str)]) {
    let (nftables, iptables) = (planner.full(), iptables(planner.map()));
    for (from, to, want) in rows {
        let packet = packet(*from, to, proto);
        for (mode, fates) in [
            ("nftables", trace(&nftables, &machine(), packet)),
            ("iptables", pintle_proxy_plan::iptables::trace::trace(&iptables, &machine(), packet)),
        ] {
            assert_eq!(&summary(&fates), want, "{mode}, from {} ({:?}) to {to}/{}", from.0, from.1, proto.name());
        }
    }
}

fn one(spec: Json, endpoints: &[&str]) -> Planner {
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &[web("web", endpoints)]);
    let update = planner.update();
    assert_eq!(update.issues, []);
    planner
}

const BOTH: &[&str] = &["10.42.0.2@here", "10.42.1.2"];

#[test]
fn a_cluster_ip_leads_to_any_ready_endpoint_and_masquerades_sources_from_outside_the_cluster() {
    expect(
        &one(json!({}), &["10.42.0.2@here", "10.42.1.2", "10.42.1.3!unready"]),
        &[
            (POD, "10.43.0.10:80", "10.42.0.2:8080 | 10.42.1.2:8080"),
            (NODE, "10.43.0.10:80", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
            (OTHER_NODE, "10.43.0.10:80", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
            (OUTSIDE, "10.43.0.10:80", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
        ],
    );
}

#[test]
fn an_unused_port_of_a_live_address_is_refused_and_an_unallocated_address_is_dropped() {
    expect(
        &one(json!({}), BOTH),
        &[
            (POD, "10.43.0.10:81", "REJECT"),
            (NODE, "10.43.0.10:81", "REJECT"),
            (POD, "10.43.0.11:80", "DROP"),
            (NODE, "10.43.0.11:80", "DROP"),
            (POD, "198.51.100.9:80", "198.51.100.9:80 masqueraded"),
            (POD, "10.42.1.2:8080", "10.42.1.2:8080"),
        ],
    );
}

#[test]
fn without_endpoints_every_address_and_node_port_refuses() {
    let spec = json!({
        "type": "LoadBalancer", "ingress": [{"ip": "198.51.100.2"}], "externalIPs": ["198.51.100.1"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    for policy in ["Cluster", "Local"] {
        let mut spec = spec.clone();
        spec["externalTrafficPolicy"] = json!(policy);
        spec["internalTrafficPolicy"] = json!(policy);
        for endpoints in [&[][..], &["10.42.0.2@here!unready", "10.42.0.3@here!gone"]] {
            expect(
                &one(spec.clone(), endpoints),
                &[
                    (POD, "10.43.0.10:80", "REJECT"),
                    (NODE, "10.43.0.10:80", "REJECT"),
                    (OUTSIDE, "192.0.2.1:30080", "REJECT"),
                    (OUTSIDE, "198.51.100.1:80", "REJECT"),
                    (OUTSIDE, "198.51.100.2:80", "REJECT"),
                ],
            );
        }
    }
}

#[test]
fn node_ports_answer_on_this_machines_addresses_and_masquerade() {
    let spec = json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    expect(
        &one(spec.clone(), BOTH),
        &[
            (OUTSIDE, "192.0.2.1:30080", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
            (POD, "192.0.2.1:30080", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
            (NODE, "192.0.2.1:30080", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
            // Not on loopback, not on other machines' addresses, not on other ports.
            (NODE, "127.0.0.1:30080", "127.0.0.1:30080"),
            (NODE, "192.0.2.2:30080", "192.0.2.2:30080"),
            (OUTSIDE, "192.0.2.1:30081", "192.0.2.1:30081"),
            (OUTSIDE, "192.0.2.1:80", "192.0.2.1:80"),
        ],
    );
    let limited =
        Config { node_port_addresses: NodePortAddresses::In(vec!["10.0.0.0/8".parse().unwrap()]), ..config() };
    let mut planner = Planner::new(limited);
    planner.note(Change::Service(&service("web", "10.43.0.10", spec)));
    planner.note(Change::Slice(&web("web", BOTH)));
    planner.update();
    expect(&planner, &[(OUTSIDE, "192.0.2.1:30080", "192.0.2.1:30080")]);
}

#[test]
fn external_policy_local_keeps_the_source_and_stays_on_this_node_for_outsiders_only() {
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ingress": [{"ip": "198.51.100.2"}],
        "externalIPs": ["198.51.100.1"], "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    let planner = one(spec.clone(), BOTH);
    for to in ["192.0.2.1:30080", "198.51.100.1:80", "198.51.100.2:80"] {
        expect(
            &planner,
            &[
                (OUTSIDE, to, "10.42.0.2:8080"),
                (OTHER_NODE, to, "10.42.0.2:8080"),
                (POD, to, "10.42.0.2:8080 | 10.42.1.2:8080"),
                (NODE, to, "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
            ],
        );
    }
    // The ClusterIP has its own policy.
    expect(&planner, &[(POD, "10.43.0.10:80", "10.42.0.2:8080 | 10.42.1.2:8080")]);
    // None on this node: outsiders are dropped, so that their load balancer notices.
    let planner = one(spec, &["10.42.1.2"]);
    expect(
        &planner,
        &[
            (OUTSIDE, "192.0.2.1:30080", "DROP"),
            (OUTSIDE, "198.51.100.2:80", "DROP"),
            (POD, "198.51.100.2:80", "10.42.1.2:8080"),
            (NODE, "192.0.2.1:30080", "10.42.1.2:8080 masqueraded"),
        ],
    );
}

#[test]
fn internal_policy_local_concerns_the_cluster_ip_only() {
    let spec = json!({
        "internalTrafficPolicy": "Local", "type": "NodePort",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    expect(
        &one(spec.clone(), BOTH),
        &[
            (POD, "10.43.0.10:80", "10.42.0.2:8080"),
            (NODE, "10.43.0.10:80", "10.42.0.2:8080 masqueraded"),
            (OUTSIDE, "192.0.2.1:30080", "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded"),
        ],
    );
    expect(&one(spec, &["10.42.1.2"]), &[(POD, "10.43.0.10:80", "DROP"), (NODE, "10.43.0.10:80", "DROP")]);
}

#[test]
fn terminating_endpoints_are_the_last_resort_decided_for_all_and_for_this_node_separately() {
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    for (endpoints, cluster, local) in [
        (&["10.42.0.2@here", "10.42.1.2!leaving"][..], "10.42.0.2:8080", "10.42.0.2:8080"),
        (&["10.42.0.2@here!leaving", "10.42.1.2"], "10.42.1.2:8080", "10.42.0.2:8080"),
        (&["10.42.0.2@here!leaving", "10.42.1.2!leaving"], "10.42.0.2:8080 | 10.42.1.2:8080", "10.42.0.2:8080"),
        (&["10.42.0.2@here!gone", "10.42.1.2!leaving"], "10.42.1.2:8080", "DROP"),
        (
            &["10.42.0.2@here!leaving", "10.42.0.3@here", "10.42.1.2"],
            "10.42.0.3:8080 | 10.42.1.2:8080",
            "10.42.0.3:8080",
        ),
    ] {
        expect(
            &one(spec.clone(), endpoints),
            &[(POD, "10.43.0.10:80", cluster), (POD, "192.0.2.1:30080", cluster), (OUTSIDE, "192.0.2.1:30080", local)],
        );
    }
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded() {
    let planner = one(json!({}), &["10.42.0.9@here", "10.42.1.2"]);
    expect(&planner, &[(POD, "10.43.0.10:80", "10.42.0.9:8080 masqueraded | 10.42.1.2:8080")]);
}

#[test]
fn source_ranges_guard_load_balancer_addresses_and_nothing_else() {
    let spec = json!({
        "type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24", "192.0.2.0/31"],
        "ingress": [{"ip": "198.51.100.2"}, {"ip": "198.51.100.3", "ipMode": "Proxy"}],
        "externalIPs": ["198.51.100.1"], "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    let all = "10.42.0.2:8080 masqueraded | 10.42.1.2:8080 masqueraded";
    expect(
        &one(spec, BOTH),
        &[
            (OUTSIDE, "198.51.100.2:80", all),
            (("203.0.114.5", Origin::Arriving), "198.51.100.2:80", "DROP"),
            (POD, "198.51.100.2:80", "DROP"),
            (NODE, "198.51.100.2:80", all),
            // This node is in the ranges, and may have the address itself.
            (("198.51.100.2", Origin::Local), "198.51.100.2:80", all),
            (("203.0.114.5", Origin::Arriving), "198.51.100.1:80", all),
            (("203.0.114.5", Origin::Arriving), "192.0.2.1:30080", all),
            (POD, "10.43.0.10:80", "10.42.0.2:8080 | 10.42.1.2:8080"),
            // The load balancer in front of this one translates by itself.
            (OUTSIDE, "198.51.100.3:80", "198.51.100.3:80"),
        ],
    );
}

#[test]
fn source_ranges_of_which_none_is_usable_let_nobody_in() {
    let spec = json!({
        "type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/33"], "ingress": [{"ip": "198.51.100.2"}],
    });
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &[web("web", BOTH)]);
    assert_eq!(planner.update().issues.len(), 1);
    expect(&planner, &[(OUTSIDE, "198.51.100.2:80", "DROP")]);
}

#[test]
fn session_affinity_sends_a_known_client_to_its_server_by_every_address() {
    let spec = json!({"sessionAffinity": "ClientIP", "type": "NodePort",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let planner = one(spec, BOTH);
    let ruleset = planner.full();
    let sets = ruleset.tables.values().flat_map(|t| t.sets.keys());
    let servers: Vec<String> = sets.filter(|n| n.starts_with("server-")).map(|n| n.to_string()).collect();
    assert_eq!(servers.len(), 2);
    expect(&planner, &[(POD, "10.43.0.10:80", "10.42.0.2:8080 | 10.42.1.2:8080")]);
    let mut known = std::collections::BTreeSet::new();
    for server in servers {
        let mut machine = machine();
        machine.remembered.insert((server, Value::new().addr(POD.0.parse().unwrap())));
        let to = |to| summary(&trace(&ruleset, &machine, packet(POD, to, Proto::Tcp)));
        assert_eq!(to("192.0.2.1:30080"), format!("{} masqueraded", to("10.43.0.10:80")));
        assert!(!to("10.43.0.10:80").contains('|'), "a known client has one server");
        known.insert(to("10.43.0.10:80"));
    }
    assert_eq!(known.len(), 2);
}

#[test]
fn topology_hints_count_only_if_every_endpoint_has_one_and_one_is_for_us() {
    let hinted = |hints: &[(&str, Json)]| {
        let mut slice = serde_json::to_value(web("web", &["10.42.1.1", "10.42.1.2", "10.42.1.3"])).unwrap();
        for (i, (_, hint)) in hints.iter().enumerate() {
            slice["endpoints"][i]["hints"] = hint.clone();
        }
        let slice = serde_json::from_value(slice).unwrap();
        let mut planner = planner(&[service("web", "10.43.0.10", json!({}))], &[slice]);
        planner.update();
        planner
    };
    let zone = |z: &str| ("zone", json!({"forZones": [{"name": z}]}));
    let node = |n: &str| ("node", json!({"forNodes": [{"name": n}], "forZones": [{"name": "zone-b"}]}));
    let none = ("none", Json::Null);
    let all = "10.42.1.1:8080 | 10.42.1.2:8080 | 10.42.1.3:8080";
    for (hints, want) in [
        (vec![zone("zone-a"), zone("zone-b"), zone("zone-a")], "10.42.1.1:8080 | 10.42.1.3:8080"),
        (vec![zone("zone-a"), zone("zone-b"), none], all),
        (vec![zone("zone-b"), zone("zone-b"), zone("zone-c")], all),
        (vec![node("here"), node("there"), node("there")], "10.42.1.1:8080"),
        (vec![node("there"), node("there"), node("there")], all),
    ] {
        expect(&hinted(&hints), &[(POD, "10.43.0.10:80", want)]);
    }
}

#[test]
fn protocols_on_one_port_number_are_distinct() {
    let spec = json!({"ports": [
        {"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "s", "port": 53, "protocol": "SCTP"},
    ]});
    let named = |name: &str, proto: &str, port: u16| {
        let mut s = slice("web", (name, proto, port), &["10.42.1.2"]);
        s.metadata.name = Some(format!("web-{name}"));
        s
    };
    let slices = [named("t", "TCP", 1), named("u", "UDP", 2), named("s", "SCTP", 3)];
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &slices);
    planner.update();
    for (proto, want) in [(Proto::Tcp, "10.42.1.2:1"), (Proto::Udp, "10.42.1.2:2"), (Proto::Sctp, "10.42.1.2:3")] {
        expect_proto(&planner, proto, &[(POD, "10.43.0.10:53", want)]);
    }
}

#[test]
fn headless_external_name_and_other_proxies_services_are_ignored() {
    let mut labelled = service("web", "10.43.0.10", json!({}));
    labelled.metadata.labels = Some([("service.kubernetes.io/service-proxy-name".into(), "other".into())].into());
    for object in [
        labelled,
        service("web", "None", json!({})),
        service("web", "", json!({"type": "ExternalName", "externalName": "example.org"})),
    ] {
        let mut planner = planner(&[object], &[web("web", BOTH)]);
        assert!(planner.update().transaction.is_empty());
        expect(&planner, &[(POD, "10.43.0.10:80", "DROP")]);
    }
}

#[test]
fn everybody_can_be_masqueraded() {
    let mut planner = Planner::new(Config { masquerade: Masquerade::All, ..config() });
    planner.note(Change::Service(&service("web", "10.43.0.10", json!({}))));
    planner.note(Change::Slice(&web("web", &["10.42.1.2"])));
    planner.update();
    expect(&planner, &[(POD, "10.43.0.10:80", "10.42.1.2:8080 masqueraded")]);
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address_and_speak_inside_with_their_own() {
    let planner = one(json!({}), BOTH);
    expect(
        &planner,
        &[
            (POD, "203.0.113.5:443", "203.0.113.5:443 masqueraded"),
            (POD, "192.0.2.2:443", "192.0.2.2:443 masqueraded"),
            (POD, "10.42.7.7:443", "10.42.7.7:443"),
            (POD, "224.0.0.1:443", "224.0.0.1:443"),
            (OUTSIDE, "10.42.0.2:443", "10.42.0.2:443"),
            (NODE, "203.0.113.5:443", "203.0.113.5:443"),
        ],
    );
}
