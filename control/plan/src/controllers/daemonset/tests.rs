//! Daemons come with nodes, bear taints they must, and are replaced one by one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::{Value, json};

use super::DaemonSets;
use crate::controllers::pods;
use crate::controllers::sim::{Sim, node};
use crate::scheduler::SCHEDULER;

fn daemon(image: &str) -> Value {
    json!({
        "metadata": {"name": "log", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "log"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "revisionHistoryLimit": 10,
            "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

fn world(nodes: usize) -> Sim {
    let mut sim = Sim::new(&[&DaemonSets, SCHEDULER]);
    for n in 0..nodes {
        sim.create::<Node>(node(&format!("n{n}")));
    }
    sim.create::<DaemonSet>(daemon("a"));
    sim.live();
    sim
}

fn nodes_with_pods(sim: &Sim) -> Vec<String> {
    let mut nodes: Vec<String> = sim.list::<Pod>().iter().filter_map(|p| pods::node(p).map(str::to_owned)).collect();
    nodes.sort();
    nodes
}

#[test]
fn every_node_gets_one_pod_and_a_new_node_too() {
    let mut sim = world(2);
    assert_eq!(nodes_with_pods(&sim), ["n0", "n1"]);
    sim.create::<Node>(node("n2"));
    sim.live();
    assert_eq!(nodes_with_pods(&sim), ["n0", "n1", "n2"]);
    let status = sim.find::<DaemonSet>("default", "log").unwrap().status.unwrap();
    assert_eq!((status.desired_number_scheduled, status.number_ready, status.number_available), (3, 3, Some(3)));
}

#[test]
fn cordoned_nodes_keep_theirs_and_a_foreign_no_execute_taint_drives_it_away() {
    let mut sim = world(2);
    let taint = |sim: &mut Sim, key: &str, effect: &str| {
        let taint = Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() };
        sim.edit::<Node>("", "n0", |n| n.spec.get_or_insert_default().taints = Some(vec![taint]));
        sim.live();
    };
    taint(&mut sim, "node.kubernetes.io/unschedulable", "NoSchedule");
    assert_eq!(nodes_with_pods(&sim), ["n0", "n1"]);
    taint(&mut sim, "mine", "NoSchedule");
    assert_eq!(nodes_with_pods(&sim), ["n0", "n1"], "one that is there may stay");
    taint(&mut sim, "mine", "NoExecute");
    assert_eq!(nodes_with_pods(&sim), ["n1"]);
}

#[test]
fn an_update_takes_one_node_after_the_other_and_leaves_a_revision() {
    let mut sim = world(3);
    sim.edit::<DaemonSet>("default", "log", |d| {
        d.spec.template.spec.as_mut().unwrap().containers[0].image = Some("b".to_owned());
    });
    for _ in 0..20 {
        sim.settle();
        let ready = sim.list::<Pod>().iter().filter(|p| pods::is_active(p) && pods::is_ready(p)).count();
        assert!(ready >= 2, "{ready} of 3 ready");
        sim.kubelet();
    }
    sim.live();
    let image = |p: &Pod| p.spec.as_ref().unwrap().containers[0].image.clone();
    assert!(sim.list::<Pod>().iter().all(|p| image(p) == Some("b".to_owned())));
    let mut revisions: Vec<_> = sim.list::<ControllerRevision>().into_iter().map(|r| r.revision).collect();
    revisions.sort();
    assert_eq!(revisions, [Some(1), Some(2)]);
}

#[test]
fn with_surge_no_node_is_ever_without_a_ready_pod() {
    let mut sim = world(3);
    sim.edit::<DaemonSet>("default", "log", |d| {
        let rolling = d.spec.update_strategy.as_mut().unwrap().rolling_update.as_mut().unwrap();
        rolling.max_surge = Some(serde_json::from_value(json!(1)).unwrap());
        rolling.max_unavailable = Some(serde_json::from_value(json!(0)).unwrap());
        d.spec.template.spec.as_mut().unwrap().containers[0].image = Some("b".to_owned());
    });
    for _ in 0..20 {
        sim.settle();
        let mut ready: Vec<_> = sim
            .list::<Pod>()
            .iter()
            .filter(|p| pods::is_active(p) && pods::is_ready(p))
            .filter_map(|p| pods::node(p).map(str::to_owned))
            .collect();
        ready.sort();
        ready.dedup();
        assert_eq!(ready.len(), 3);
        sim.kubelet();
    }
    sim.live();
    assert_eq!(sim.list::<Pod>().len(), 3);
}
