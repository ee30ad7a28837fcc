//! Objects that no API server would let through, and some that it would. Whatever comes: no panic, what follows is
//! taken by a kernel, it ends where a full push would, and nothing is left to do then.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_nft::{Family, Kernel};
use pintle_proxy_plan::{Change, Planner};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config;

/// Texts where an address, a range or a name belongs.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..6_u8).prop_map(|n| format!("10.43.0.{n}")),
        4 => (0..6_u8).prop_map(|n| format!("10.42.0.{n}")),
        2 => (0..4_u8).prop_map(|n| format!("fd00:43::{n}")),
        1 => Just("010.043.000.001".to_owned()),
        1 => Just(" 10.43.0.1 ".to_owned()),
        1 => Just("::ffff:10.43.0.1".to_owned()),
        1 => Just("224.0.0.1".to_owned()),
        1 => Just("None".to_owned()),
        1 => Just(String::new()),
        1 => "\\PC{0,8}",
    ]
}

fn range() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (0..3_u8, 0..40_u8).prop_map(|(n, len)| format!("203.0.{n}.0/{len}")),
        1 => (0..140_u8).prop_map(|len| format!("fd00::/{len}")),
        1 => text(),
    ]
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![6 => 79..83_i32, 3 => 30000..30003_i32, 1 => any::<i32>(), 1 => Just(0), 1 => Just(65535), 1 => Just(65536)]
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(words).prop_map(|word| if word.is_empty() { Value::Null } else { json!(word) })
}

const PROTOCOLS: &[&str] = &["", "TCP", "UDP", "SCTP", "tcp", "GRE"];

fn port() -> impl Strategy<Value = Value> {
    (word(&["", "http", "dns"]), number(), prop::option::of(number()), word(PROTOCOLS)).prop_map(
        |(name, port, node_port, protocol)| json!({"name": name, "port": port, "nodePort": node_port, "protocol": protocol}),
    )
}

fn service() -> impl Strategy<Value = Service> {
    let addresses = || prop::collection::vec(text(), 0..3);
    let policies = (
        word(&["", "Local", "Cluster", "local"]),
        word(&["", "Local", "Cluster"]),
        word(&["", "None", "ClientIP", "clientip"]),
        prop::option::of(any::<i32>()),
    );
    let places = (addresses(), addresses(), addresses(), prop::collection::vec(range(), 0..3));
    let kind = word(&["", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "?"]);
    let rest = (prop::collection::vec(port(), 0..4), prop::option::of(number()), any::<bool>(), 0..3_u8);
    (kind, policies, places, rest).prop_map(|(kind, policies, places, (ports, health, labelled, age))| {
        let (external, internal, affinity, timeout) = policies;
        let (cluster, outside, ingress, ranges) = places;
        let ingress: Vec<Value> =
            ingress.iter().map(|ip| json!({"ip": ip, "ipMode": if age == 1 { "Proxy" } else { "VIP" }})).collect();
        let labels =
            if labelled && age == 2 { json!({"service.kubernetes.io/service-proxy-name": "x"}) } else { json!({}) };
        serde_json::from_value(json!({
            "metadata": {"labels": labels, "creationTimestamp": format!("2026-01-0{}T00:00:00Z", age + 1)},
            "spec": {
                "type": kind, "clusterIP": cluster.first(), "clusterIPs": cluster, "externalIPs": outside,
                "loadBalancerSourceRanges": ranges, "ports": ports, "healthCheckNodePort": health,
                "externalTrafficPolicy": external, "internalTrafficPolicy": internal, "sessionAffinity": affinity,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}},
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        }))
        .unwrap()
    })
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let flag = || prop::option::of(any::<bool>());
    let hints = prop::option::of(word(&["zone-a", "zone-z"]));
    let endpoint = (prop::collection::vec(text(), 0..3), word(&["", "here", "there"]), (flag(), flag(), flag()), hints)
        .prop_map(|(addresses, node, (ready, serving, terminating), hint)| {
            json!({
                "addresses": addresses, "nodeName": node,
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                "hints": hint.map(|zone| json!({"forZones": [{"name": zone.as_str().unwrap_or_default()}]})),
            })
        });
    let family = word(&["IPv4", "IPv6", "FQDN", "?"]);
    let ports = prop::collection::vec((word(&["", "http", "dns"]), prop::option::of(number()), word(PROTOCOLS)), 0..3);
    (family, ports, prop::collection::vec(endpoint, 0..5)).prop_map(|(family, ports, endpoints)| {
        let ports: Vec<Value> =
            ports.iter().map(|(name, port, proto)| json!({"name": name, "port": port, "protocol": proto})).collect();
        let family = family.as_str().unwrap_or_default().to_owned();
        serde_json::from_value(json!({"metadata": {}, "addressType": family, "ports": ports, "endpoints": endpoints}))
            .unwrap()
    })
}

/// What the API tells: an object of a few names, or that it is gone.
#[derive(Clone, Debug)]
enum Told {
    Service(Box<Service>),
    ServiceGone(Box<Service>),
    Slice(Box<EndpointSlice>),
    SliceGone(Box<EndpointSlice>),
}

fn told() -> impl Strategy<Value = Told> {
    let name = || prop::sample::select(&["a", "b", "c", ""][..]);
    let named_service = || {
        (service(), name()).prop_map(|(mut object, name)| {
            object.metadata.namespace = Some("d".into());
            object.metadata.name = Some(name.into());
            Box::new(object)
        })
    };
    let named_slice = || {
        (slice(), name(), 0..3_u8, any::<bool>()).prop_map(|(mut object, owner, n, owned)| {
            object.metadata.namespace = Some("d".into());
            object.metadata.name = Some(format!("{owner}-{n}"));
            object.metadata.labels = owned.then(|| [("kubernetes.io/service-name".into(), owner.into())].into());
            Box::new(object)
        })
    };
    prop_oneof![
        4 => named_service().prop_map(Told::Service),
        1 => named_service().prop_map(Told::ServiceGone),
        4 => named_slice().prop_map(Told::Slice),
        1 => named_slice().prop_map(Told::SliceGone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_api_says_is_planned_and_taken(
        story in prop::collection::vec(prop::collection::vec(told(), 1..5), 1..6), v6 in any::<bool>()
    ) {
        let mut planner = Planner::new(config().for_family(if v6 { Family::V6 } else { Family::V4 }));
        let mut kernel = Kernel::default();
        planner.load(50).try_for_each(|b| kernel.commit(&b)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for step in &story {
            for told in step {
                planner.note(match told {
                    Told::Service(object) => Change::Service(object),
                    Told::ServiceGone(object) => Change::ServiceGone(object),
                    Told::Slice(object) => Change::Slice(object),
                    Told::SliceGone(object) => Change::SliceGone(object),
                });
            }
            for batch in planner.update().transaction.batches {
                kernel.commit(&batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
            }
            prop_assert_eq!(kernel.ruleset(), &planner.full());
            prop_assert!(planner.update().transaction.is_empty());
            prop_assert!(pintle_nft::diff::diff(kernel.ruleset(), &planner.full()).is_empty());
        }
    }
}
