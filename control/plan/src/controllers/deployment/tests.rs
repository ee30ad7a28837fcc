//! Stories and properties of rollouts, with ReplicaSets and the scheduler at work.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;

use crate::controllers::replicaset::ReplicaSets;
use crate::controllers::sim::{Sim, deployment, node};
use crate::controllers::{deployment::Deployments, pods};
use crate::scheduler::SCHEDULER;

fn world() -> Sim {
    let mut sim = Sim::new(&[&Deployments, &ReplicaSets, SCHEDULER]);
    sim.create::<k8s_openapi::api::core::v1::Node>(node("n1"));
    sim
}

fn set_image(sim: &mut Sim, image: &str) {
    sim.edit::<Deployment>("default", "web", |d| {
        d.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    });
}

fn conditions(sim: &Sim) -> String {
    let d: Deployment = sim.find("default", "web").unwrap();
    let status = d.status.unwrap();
    let lines = status.conditions.iter().flatten().map(|c| {
        let word = |w: &Option<String>| w.clone().unwrap_or_default();
        format!("{}={} {}: {}", word(&c.type_), word(&c.status), word(&c.reason), word(&c.message))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_deployment_becomes_a_replica_set_and_pods() {
    let mut sim = world();
    sim.create::<Deployment>(deployment("web", 2, "a"));
    sim.settle();
    insta::assert_snapshot!(sim.told(), @"
    deployment-controller: create replicasets.apps default/web-cc546cb45
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled up replica set web-cc546cb45 from 0 to 2
    deployment-controller: put deployments.apps/status default/web
    deployment-controller: put deployments.apps default/web
    deployment-controller: put deployments.apps/status default/web
    replicaset-controller: create pods default/web-cc546cb45-00004
    replicaset-controller: event Normal SuccessfulCreate default/web-cc546cb45: Created pod: web-cc546cb45-00004
    replicaset-controller: create pods default/web-cc546cb45-00005
    replicaset-controller: event Normal SuccessfulCreate default/web-cc546cb45: Created pod: web-cc546cb45-00005
    replicaset-controller: put replicasets.apps/status default/web-cc546cb45
    replicaset-controller: put replicasets.apps/status default/web-cc546cb45
    deployment-controller: put deployments.apps/status default/web
    default-scheduler: bind default/web-cc546cb45-00004 to n1
    default-scheduler: event Normal Scheduled default/web-cc546cb45-00004: Successfully assigned default/web-cc546cb45-00004 to n1
    default-scheduler: bind default/web-cc546cb45-00005 to n1
    default-scheduler: event Normal Scheduled default/web-cc546cb45-00005: Successfully assigned default/web-cc546cb45-00005 to n1
    ");
    sim.live();
    insta::assert_snapshot!(conditions(&sim), @r#"
    Available=True MinimumReplicasAvailable: Deployment has minimum availability.
    Progressing=True NewReplicaSetAvailable: ReplicaSet "web-cc546cb45" has successfully progressed.
    "#);
}

#[test]
fn a_new_template_replaces_the_pods_within_the_bounds() {
    let mut sim = world();
    sim.create::<Deployment>(deployment("web", 4, "a"));
    sim.live();
    sim.told();
    set_image(&mut sim, "b");
    sim.live();
    let told = sim.told();
    let story: Vec<&str> = told.lines().filter(|l| l.contains("ScalingReplicaSet")).collect();
    insta::assert_snapshot!(story.join("\n"), @"
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled up replica set web-79cd699774 from 0 to 1
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled down replica set web-cc546cb45 from 4 to 3
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled up replica set web-79cd699774 from 1 to 2
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled down replica set web-cc546cb45 from 3 to 1
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled up replica set web-79cd699774 from 2 to 4
    deployment-controller: event Normal ScalingReplicaSet default/web: Scaled down replica set web-cc546cb45 from 1 to 0
    ");
    insta::assert_snapshot!(conditions(&sim), @r#"
    Available=True MinimumReplicasAvailable: Deployment has minimum availability.
    Progressing=True NewReplicaSetAvailable: ReplicaSet "web-79cd699774" has successfully progressed.
    "#);
    let images: Vec<_> =
        sim.list::<Pod>().iter().map(|p| p.spec.as_ref().unwrap().containers[0].image.clone()).collect();
    assert_eq!(images, vec![Some("b".to_owned()); 4]);
}

#[test]
fn going_back_to_an_old_template_takes_its_replica_set_with_a_new_revision() {
    let mut sim = world();
    sim.create::<Deployment>(deployment("web", 1, "a"));
    sim.live();
    set_image(&mut sim, "b");
    sim.live();
    set_image(&mut sim, "a");
    sim.live();
    let mut sets: Vec<String> = sim
        .list::<ReplicaSet>()
        .iter()
        .map(|rs| {
            let note = |k: &str| rs.metadata.annotations.as_ref().unwrap().get(k).cloned().unwrap_or_default();
            let image = rs.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            format!(
                "{image}: {:?} revision {} before {:?}",
                rs.spec.replicas,
                note(super::REVISION),
                note(super::REVISION_HISTORY)
            )
        })
        .collect();
    sets.sort();
    assert_eq!(sets, [r#"a: Some(1) revision 3 before "1""#, r#"b: Some(0) revision 2 before """#]);
}

#[test]
fn recreate_waits_for_the_old_pods_to_be_gone() {
    let mut sim = world();
    let mut d = deployment("web", 2, "a");
    d["spec"]["strategy"] = serde_json::json!({"type": "Recreate"});
    sim.create::<Deployment>(d);
    sim.live();
    set_image(&mut sim, "b");
    sim.settle();
    assert!(sim.list::<Pod>().iter().all(|p| p.metadata.deletion_timestamp.is_some()), "old ones end first");
    sim.live();
    assert_eq!(sim.list::<Pod>().len(), 2);
}

#[test]
fn a_rollout_that_does_not_move_is_reported_after_its_deadline() {
    let mut sim = Sim::new(&[&Deployments, &ReplicaSets]);
    sim.create::<Deployment>(deployment("web", 1, "a"));
    sim.settle();
    sim.advance(601);
    sim.settle();
    insta::assert_snapshot!(conditions(&sim), @r#"
    Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.
    Progressing=False ProgressDeadlineExceeded: ReplicaSet "web-cc546cb45" has timed out progressing.
    "#);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut sim = world();
    sim.create::<Deployment>(deployment("web", 1, "a"));
    sim.live();
    sim.edit::<Deployment>("default", "web", |d| d.spec.paused = Some(true));
    set_image(&mut sim, "b");
    sim.edit::<Deployment>("default", "web", |d| d.spec.replicas = Some(3));
    sim.live();
    assert_eq!(sim.list::<ReplicaSet>().len(), 1);
    assert_eq!(sim.list::<Pod>().len(), 3);
    sim.edit::<Deployment>("default", "web", |d| d.spec.paused = None);
    sim.live();
    assert_eq!(sim.list::<ReplicaSet>().len(), 2);
}

#[test]
fn replica_sets_of_others_are_left_alone() {
    let mut sim = world();
    let foreign = serde_json::json!({
        "metadata": {"name": "theirs", "namespace": "default", "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "x", "controller": true}]},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web", "own": "x"}},
            "template": {"metadata": {"labels": {"app": "web", "own": "x"}}}},
    });
    let before: ReplicaSet = sim.create(foreign);
    sim.create::<Deployment>(deployment("web", 1, "a"));
    sim.live();
    let after: ReplicaSet = sim.find("default", "theirs").unwrap();
    let links =
        |rs: &ReplicaSet| (rs.metadata.owner_references.clone(), rs.metadata.annotations.clone(), rs.spec.clone());
    assert_eq!(links(&before), links(&after));
}

/// What users and fate do during a rollout.
#[derive(Debug, Clone)]
enum Happening {
    Step(usize),
    Kubelet(usize),
    Image(u8),
    Scale(i32),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        12 => (0..100usize).prop_map(Happening::Step),
        8 => (0..100usize).prop_map(Happening::Kubelet),
        1 => (0..4u8).prop_map(Happening::Image),
    ];
    let scaled = prop_oneof![20 => one, 1 => (0..8i32).prop_map(Happening::Scale)];
    proptest::collection::vec(scaled, 0..150)
}

fn live_pods(sim: &Sim) -> Vec<Pod> {
    sim.list::<Pod>().into_iter().filter(pods::is_active).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without scaling, no order of events makes a rollout leave its bounds; with it, it still converges.
    #[test]
    fn rollouts_stay_within_their_bounds_and_converge(events in happenings(), surge in 0..3i32, gone in 0..3i32) {
        let mut sim = world();
        let mut d = deployment("web", 5, "0");
        d["spec"]["strategy"]["rollingUpdate"] = serde_json::json!({"maxSurge": surge, "maxUnavailable": gone});
        sim.create::<Deployment>(d);
        sim.live();
        let gone = if surge == 0 && gone == 0 { 1 } else { gone };
        let mut scaled = false;
        for event in events {
            match event {
                Happening::Step(n) => { sim.step_nth(n); }
                Happening::Kubelet(n) => {
                    let pods = sim.list::<Pod>();
                    if let Some(pod) = pods.get(n % pods.len().max(1)) { sim.kubelet_one(pod); }
                }
                Happening::Image(n) => set_image(&mut sim, &n.to_string()),
                Happening::Scale(n) => {
                    scaled = true;
                    sim.edit::<Deployment>("default", "web", |d| d.spec.replicas = Some(n));
                }
            }
            if !scaled {
                let pods = live_pods(&sim);
                let ready = pods.iter().filter(|p| pods::is_ready(p)).count();
                prop_assert!(pods.len() <= usize::try_from(5 + surge).unwrap(), "{} pods", pods.len());
                prop_assert!(ready >= usize::try_from((5 - gone).max(0)).unwrap(), "{ready} ready");
            }
        }
        sim.live();
        let d: Deployment = sim.find("default", "web").unwrap();
        let wanted = usize::try_from(d.spec.replicas.unwrap()).unwrap();
        let pods = live_pods(&sim);
        prop_assert_eq!(pods.len(), wanted);
        let image = &d.spec.template.spec.as_ref().unwrap().containers[0].image;
        prop_assert!(pods.iter().all(|p| &p.spec.as_ref().unwrap().containers[0].image == image));
    }
}
