//! Where pods go, and what is said of those that cannot go anywhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::SCHEDULER;
use crate::controllers::pods;
use crate::controllers::sim::{Sim, node};

fn world(nodes: &[Value]) -> Sim {
    let mut sim = Sim::new(&[SCHEDULER]);
    for node in nodes {
        sim.create::<Node>(node.clone());
    }
    sim
}

fn with(mut base: Value, path: &str, value: Value) -> Value {
    let mut at = &mut base;
    for step in path.split('.') {
        at = &mut at[step];
    }
    *at = value;
    base
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

/// Where the pods are, or why not.
fn places(sim: &Sim) -> String {
    let line = |p: &Pod| {
        let name = p.metadata.name.clone().unwrap();
        match pods::node(p) {
            Some(node) => format!("{name} on {node}"),
            None => {
                let c = pods::condition(p, "PodScheduled").unwrap();
                format!("{name} waits, {}: {}", c.reason.clone().unwrap(), c.message.clone().unwrap())
            }
        }
    };
    sim.list::<Pod>().iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn pods_are_spread_over_the_emptiest_nodes() {
    let mut sim = world(&[node("n1"), node("n2"), node("n3")]);
    for n in 0..6 {
        sim.create::<Pod>(pod(&format!("p{n}"), json!({})));
    }
    sim.settle();
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in sim.list::<Pod>() {
        *per_node.entry(pods::node(&pod).unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(per_node.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn a_pod_that_fits_nowhere_is_told_why_and_goes_as_soon_as_it_fits() {
    let mut sim = world(&[
        with(node("full"), "status.allocatable.cpu", json!("500m")),
        with(node("cordoned"), "spec", json!({"unschedulable": true})),
        with(node("tainted"), "spec", json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]})),
    ]);
    sim.create::<Pod>(pod("p", json!({})));
    sim.settle();
    insta::assert_snapshot!(sim.told(), @r#"
    default-scheduler: patch pods default/p {"status":{"conditions":[{"lastTransitionTime":"2026-07-01T00:00:00Z","message":"0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable.","observedGeneration":1,"reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}
    default-scheduler: event Warning FailedScheduling default/p: 0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}, 1 node(s) were unschedulable.
    "#);
    sim.edit::<Node>("", "cordoned", |n| n.spec.as_mut().unwrap().unschedulable = None);
    sim.settle();
    assert_eq!(places(&sim), "p on cordoned");
}

#[test]
fn every_filter_says_its_reason() {
    let labelled = with(node("n1"), "metadata.labels", json!({"kubernetes.io/hostname": "n1", "disk": "ssd"}));
    let mut sim = world(&[labelled]);
    let container = |extra: Value| json!({"containers": [extra]});
    let near = |what: &str, app: &str| {
        json!({"affinity": {what: {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]}}})
    };
    let cases = [
        ("a-first", container(json!({"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}))),
        ("b-port", container(json!({"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}))),
        ("c-selector", json!({"nodeSelector": {"disk": "hdd"}})),
        ("d-memory", container(json!({"name": "c", "resources": {"requests": {"memory": "1Ti", "cpu": "64"}}}))),
        ("e-near", near("podAffinity", "absent")),
        ("f-far", near("podAntiAffinity", "web")),
        ("g-near-own-kind", near("podAffinity", "web")),
        (
            "h-spread",
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]}),
        ),
        ("i-gated", json!({"schedulingGates": [{"name": "wait"}]})),
        ("j-other", json!({"nodeName": "n1"})),
    ];
    for (name, spec) in cases {
        sim.create::<Pod>(pod(name, spec));
    }
    sim.settle();
    insta::assert_snapshot!(places(&sim), @"
    a-first on n1
    b-port waits, Unschedulable: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.
    c-selector waits, Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.
    d-memory waits, Unschedulable: 0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.
    e-near waits, Unschedulable: 0/1 nodes are available: 1 node(s) didn't match pod affinity rules.
    f-far waits, Unschedulable: 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.
    g-near-own-kind on n1
    h-spread waits, Unschedulable: 0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).
    i-gated waits, SchedulingGated: Scheduling is blocked due to non-empty scheduling gates
    j-other on n1
    ");
}

#[test]
fn the_higher_priority_goes_first_and_others_wait() {
    let mut sim = world(&[with(node("n1"), "status.allocatable.cpu", json!("1"))]);
    sim.create::<Pod>(pod("a-low", json!({"priority": 1})));
    sim.create::<Pod>(pod("b-high", json!({"priority": 10})));
    sim.settle();
    insta::assert_snapshot!(places(&sim), @"
    a-low waits, Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.
    b-high on n1
    ");
}

#[test]
fn preferences_decide_between_nodes_that_fit() {
    let ssd = with(node("n2"), "metadata.labels.disk", json!("ssd"));
    let soft = with(node("n1"), "spec", json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}));
    let mut sim = world(&[soft, ssd, node("n3")]);
    let affinity = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}});
    sim.create::<Pod>(pod("likes-ssd", affinity));
    sim.settle();
    assert_eq!(places(&sim), "likes-ssd on n2");
}

#[test]
fn a_spread_constraint_keeps_zones_even() {
    let zone = |name: &str, zone: &str| with(node(name), "metadata.labels.zone", json!(zone));
    let mut sim = world(&[zone("a1", "a"), zone("a2", "a"), zone("b1", "b")]);
    for n in 0..4 {
        let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
        sim.create::<Pod>(pod(&format!("p{n}"), spread));
    }
    sim.settle();
    let in_b = sim.list::<Pod>().iter().filter(|p| pods::node(p) == Some("b1")).count();
    assert_eq!(in_b, 2, "{}", places(&sim));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// No node is ever given more than it has, and no pod waits that would fit.
    #[test]
    fn nodes_are_never_overfull_and_no_pod_waits_for_nothing(
        rooms in proptest::collection::vec(1..8i64, 1..5),
        wishes in proptest::collection::vec(1..5i64, 0..20),
    ) {
        let nodes: Vec<Value> = rooms.iter().enumerate()
            .map(|(n, cpu)| with(node(&format!("n{n}")), "status.allocatable.cpu", json!(cpu.to_string()))).collect();
        let mut sim = world(&nodes);
        for (n, cpu) in wishes.iter().enumerate() {
            let requests = json!({"requests": {"cpu": cpu.to_string()}});
            sim.create::<Pod>(pod(&format!("p{n:02}"), json!({"containers": [{"name": "c", "resources": requests}]})));
        }
        sim.settle();
        let mut free: BTreeMap<String, i64> = rooms.iter().enumerate().map(|(n, cpu)| (format!("n{n}"), *cpu)).collect();
        let mut waiting = Vec::new();
        for (pod, cpu) in sim.list::<Pod>().iter().zip(&wishes) {
            match pods::node(pod) {
                Some(node) => *free.get_mut(node).unwrap() -= cpu,
                None => waiting.push(*cpu),
            }
        }
        prop_assert!(free.values().all(|f| *f >= 0), "{free:?}");
        let most = free.values().copied().max().unwrap_or(0);
        prop_assert!(waiting.iter().all(|cpu| *cpu > most), "{waiting:?} wait with {free:?} free");
    }
}
