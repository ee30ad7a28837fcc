//! A node falls silent and comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::{NodeLifecycle, TaintEviction};
use crate::controllers::conditions;
use crate::controllers::sim::Sim;

fn node(sim: &Sim, name: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": name},
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": sim.now, "lastTransitionTime": sim.now}]},
    })
}

fn world() -> Sim {
    let mut sim = Sim::new(&[&NodeLifecycle, &TaintEviction]);
    for name in ["n1", "n2"] {
        let n = node(&sim, name);
        sim.create::<Node>(n);
        let renewed = sim.now;
        sim.create::<Lease>(json!({
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"renewTime": format!("{renewed:.6}"), "leaseDurationSeconds": 40},
        }));
    }
    let tolerations = |s: i64| {
        json!([
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": s},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": s},
        ])
    };
    for (name, tolerations) in [("patient", tolerations(300)), ("hasty", tolerations(5)), ("bare", json!([]))] {
        sim.create::<Pod>(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}], "tolerations": tolerations},
        }));
    }
    sim.kubelet();
    sim.settle();
    sim.told();
    sim
}

fn renew(sim: &mut Sim, name: &str) {
    let now = sim.now;
    sim.edit::<Lease>("kube-node-lease", name, |l| {
        l.spec.as_mut().unwrap().renew_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now));
    });
}

#[test]
fn a_silent_node_becomes_unknown_and_its_pods_leave_as_they_tolerate() {
    let mut sim = world();
    sim.advance(39);
    renew(&mut sim, "n2");
    sim.settle();
    assert_eq!(sim.told(), "", "within the grace nothing happens");
    sim.advance(1);
    sim.settle();
    insta::assert_snapshot!(sim.told(), @r#"
    node-controller: patch nodes n1 {"status":{"conditions":[{"lastHeartbeatTime":"2026-07-01T00:00:00Z","lastTransitionTime":"2026-07-01T00:00:40Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2026-07-01T00:00:40Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2026-07-01T00:00:40Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2026-07-01T00:00:40Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
    node-controller: event Normal NodeNotReady n1: Node n1 status is now: NodeNotReady
    node-controller: patch pods default/bare {"status":{"conditions":[{"lastTransitionTime":"2026-07-01T00:00:40Z","reason":"NodeNotReady","status":"False","type":"Ready"}]}}
    node-controller: event Warning NodeNotReady default/bare: Node is not ready
    node-controller: patch pods default/hasty {"status":{"conditions":[{"lastTransitionTime":"2026-07-01T00:00:40Z","reason":"NodeNotReady","status":"False","type":"Ready"}]}}
    node-controller: event Warning NodeNotReady default/hasty: Node is not ready
    node-controller: patch pods default/patient {"status":{"conditions":[{"lastTransitionTime":"2026-07-01T00:00:40Z","reason":"NodeNotReady","status":"False","type":"Ready"}]}}
    node-controller: event Warning NodeNotReady default/patient: Node is not ready
    node-controller: patch nodes n1 {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-07-01T00:00:40Z"}]}}
    taint-eviction-controller: patch pods default/bare {"status":{"conditions":[{"lastTransitionTime":"2026-07-01T00:00:40Z","reason":"NodeNotReady","status":"False","type":"Ready"},{"lastTransitionTime":"2026-07-01T00:00:40Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
    taint-eviction-controller: delete pods default/bare
    taint-eviction-controller: event Normal TaintManagerEviction default/bare: Marking for deletion Pod default/bare
    "#);
    sim.advance(5);
    renew(&mut sim, "n2");
    sim.settle();
    insta::assert_snapshot!(sim.told(), @r#"
    taint-eviction-controller: patch pods default/hasty {"status":{"conditions":[{"lastTransitionTime":"2026-07-01T00:00:40Z","reason":"NodeNotReady","status":"False","type":"Ready"},{"lastTransitionTime":"2026-07-01T00:00:45Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
    taint-eviction-controller: delete pods default/hasty
    taint-eviction-controller: event Normal TaintManagerEviction default/hasty: Marking for deletion Pod default/hasty
    "#);
}

#[test]
fn a_node_that_speaks_again_loses_its_taints() {
    let mut sim = world();
    sim.advance(30);
    renew(&mut sim, "n2");
    sim.advance(11);
    sim.settle();
    assert!(sim.find::<Node>("", "n1").unwrap().spec.unwrap().taints.is_some());
    renew(&mut sim, "n1");
    let now = conditions::time(sim.now);
    sim.edit::<Node>("", "n1", |n| {
        let list = n.status.as_mut().unwrap().conditions.as_mut().unwrap();
        list.retain(|c| c.type_ == "Ready");
        list[0].status = "True".to_owned();
        list[0].last_heartbeat_time = Some(now);
    });
    sim.settle();
    assert_eq!(sim.find::<Node>("", "n1").unwrap().spec.unwrap().taints, Some(vec![]));
}

#[test]
fn when_nobody_is_ready_nobody_is_evicted() {
    let mut sim = world();
    sim.advance(1000);
    sim.settle();
    assert_eq!(sim.list::<Pod>().iter().filter(|p| p.metadata.deletion_timestamp.is_some()).count(), 0);
    let taints = sim.find::<Node>("", "n1").unwrap().spec.unwrap().taints.unwrap();
    assert!(taints.iter().all(|t| t.effect == "NoSchedule"), "{taints:?}");
}

#[test]
fn cordoning_shows_as_a_taint_and_foreign_taints_stay() {
    let mut sim = world();
    sim.edit::<Node>("", "n1", |n| {
        let spec = n.spec.get_or_insert_default();
        spec.unschedulable = Some(true);
        spec.taints = Some(vec![k8s_openapi::api::core::v1::Taint {
            key: "gpu".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        }]);
    });
    sim.settle();
    let keys = |sim: &Sim| -> Vec<String> {
        sim.find::<Node>("", "n1").unwrap().spec.unwrap().taints.unwrap().into_iter().map(|t| t.key).collect()
    };
    assert_eq!(keys(&sim), ["gpu", "node.kubernetes.io/unschedulable"]);
    sim.edit::<Node>("", "n1", |n| n.spec.as_mut().unwrap().unschedulable = None);
    sim.settle();
    assert_eq!(keys(&sim), ["gpu"]);
}
