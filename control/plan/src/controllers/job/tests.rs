//! Jobs run, fail, resume, and count every pod once in any order of events.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Jobs;
use crate::controllers::sim::{Sim, node};
use crate::controllers::{meta, pods};
use crate::scheduler::SCHEDULER;

fn job(spec: Value) -> Value {
    let mut job = json!({
        "metadata": {"name": "sum", "namespace": "default"},
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6,
            "selector": {"matchLabels": {"job-name": "sum"}},
            "template": {"metadata": {"labels": {"job-name": "sum"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a"}]}},
        },
    });
    for (name, value) in spec.as_object().unwrap() {
        job["spec"][name] = value.clone();
    }
    job
}

fn world(spec: Value) -> Sim {
    let mut sim = Sim::new(&[&Jobs, SCHEDULER]);
    sim.create::<Node>(node("n1"));
    sim.create::<Job>(job(spec));
    sim.live();
    sim
}

fn finish(sim: &mut Sim, name: &str, phase: &str) {
    let now = sim.now;
    sim.edit::<Pod>("default", name, |p| {
        let status = p.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.conditions = None;
        let terminated = json!([{"name": "c", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "finishedAt": now}}}]);
        status.container_statuses = Some(serde_json::from_value(terminated).unwrap());
    });
}

fn finish_all(sim: &mut Sim, phase: &str) {
    let active: Vec<Pod> = sim.list::<Pod>().into_iter().filter(pods::is_active).collect();
    active.iter().for_each(|p| finish(sim, meta::name(&p.metadata), phase));
}

fn summary(sim: &Sim) -> String {
    let status = sim.find::<Job>("default", "sum").unwrap().status.unwrap();
    let on = |c: &&k8s_openapi::api::batch::v1::JobCondition| c.status == "True";
    let conditions: Vec<_> = status.conditions.iter().flatten().filter(on).map(|c| c.type_.clone()).collect();
    format!(
        "active {:?} succeeded {:?} failed {:?} indexes {:?} {conditions:?}",
        status.active, status.succeeded, status.failed, status.completed_indexes
    )
}

#[test]
fn a_job_runs_its_completions_and_is_complete_when_all_are_counted() {
    let mut sim = world(json!({"completions": 3, "parallelism": 2}));
    assert_eq!(summary(&sim), "active Some(2) succeeded None failed None indexes None []");
    finish_all(&mut sim, "Succeeded");
    sim.live();
    assert_eq!(summary(&sim), "active Some(1) succeeded Some(2) failed None indexes None []");
    finish_all(&mut sim, "Succeeded");
    sim.live();
    assert_eq!(
        summary(&sim),
        r#"active None succeeded Some(3) failed None indexes None ["SuccessCriteriaMet", "Complete"]"#
    );
    assert!(sim.list::<Pod>().iter().all(|p| !super::is_tracked(p)), "no pod is held");
}

#[test]
fn failed_pods_are_replaced_after_a_growing_pause_until_the_limit() {
    let mut sim = world(json!({"backoffLimit": 2}));
    let mut waits = Vec::new();
    for _ in 0..3 {
        finish_all(&mut sim, "Failed");
        sim.live();
        let mut wait_s = 0;
        while !sim.list::<Pod>().iter().any(pods::is_active) && wait_s < 100 {
            sim.advance(1);
            sim.live();
            wait_s += 1;
        }
        waits.push(wait_s);
    }
    assert_eq!(waits, [10, 20, 100]);
    assert_eq!(summary(&sim), r#"active None succeeded None failed Some(3) indexes None ["FailureTarget", "Failed"]"#);
}

#[test]
fn an_indexed_job_completes_every_index_once() {
    let mut sim = world(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}));
    let pod = |sim: &Sim, index: &str| -> Pod {
        let of = |p: &Pod| meta::annotation(&p.metadata, super::INDEX) == Some(index) && pods::is_active(p);
        sim.list::<Pod>().into_iter().find(of).unwrap()
    };
    let second = pod(&sim, "1");
    assert_eq!(second.spec.as_ref().unwrap().hostname.as_deref(), Some("sum-1"));
    let named = pod(&sim, "0");
    finish(&mut sim, meta::name(&named.metadata), "Succeeded");
    let named = pod(&sim, "2");
    finish(&mut sim, meta::name(&named.metadata), "Succeeded");
    finish(&mut sim, meta::name(&second.metadata), "Failed");
    sim.live();
    assert_eq!(summary(&sim), r#"active None succeeded Some(2) failed Some(1) indexes Some("0,2") []"#);
    sim.advance(10);
    sim.live();
    let named = pod(&sim, "1");
    finish(&mut sim, meta::name(&named.metadata), "Succeeded");
    sim.live();
    assert!(summary(&sim).contains(r#"indexes Some("0-2") ["SuccessCriteriaMet", "Complete"]"#), "{}", summary(&sim));
}

#[test]
fn a_job_over_its_deadline_fails_and_its_pods_end() {
    let mut sim = world(json!({"activeDeadlineSeconds": 30}));
    sim.advance(30);
    sim.live();
    assert!(summary(&sim).contains(r#"["FailureTarget", "Failed"]"#), "{}", summary(&sim));
    assert!(!sim.list::<Pod>().iter().any(pods::is_active));
}

#[test]
fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let mut sim = world(json!({"suspend": true}));
    assert_eq!(sim.list::<Pod>().len(), 0);
    assert!(summary(&sim).contains("Suspended"));
    sim.edit::<Job>("default", "sum", |j| j.spec.as_mut().unwrap().suspend = Some(false));
    sim.live();
    assert_eq!(sim.list::<Pod>().len(), 1);
}

#[test]
fn a_job_managed_by_somebody_else_is_left_alone() {
    let sim = world(json!({"managedBy": "example.com/queue"}));
    assert_eq!(sim.list::<Pod>().len(), 0);
    assert!(sim.find::<Job>("default", "sum").unwrap().status.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order of planning, ends and deletions, each pod is counted once and the Job completes.
    #[test]
    fn every_pod_is_counted_once(events in proptest::collection::vec((0..4u8, 0..100usize), 0..120)) {
        let mut sim = world(json!({"completions": 4, "parallelism": 2, "backoffLimit": 1000}));
        let mut succeeded = 0;
        for (what, n) in events {
            let active: Vec<Pod> = sim.list::<Pod>().into_iter().filter(pods::is_active).collect();
            let pod = active.get(n % active.len().max(1)).map(|p| meta::name(&p.metadata).to_owned());
            match (what, pod) {
                (0, Some(pod)) => { succeeded += 1; finish(&mut sim, &pod, "Succeeded"); }
                (1, Some(pod)) => finish(&mut sim, &pod, "Failed"),
                (2, Some(pod)) => sim.delete::<Pod>("default", &pod, None),
                _ => { sim.step_nth(n); }
            }
        }
        for _ in 0..100 {
            sim.live();
            let done = summary(&sim).contains("Complete");
            if done { break; }
            succeeded += sim.list::<Pod>().iter().filter(|p| pods::is_active(p)).count();
            finish_all(&mut sim, "Succeeded");
            sim.advance(600);
        }
        let status = sim.find::<Job>("default", "sum").unwrap().status.unwrap();
        prop_assert!(summary(&sim).contains("Complete"), "{}", summary(&sim));
        prop_assert_eq!(status.succeeded.unwrap_or(0), i32::try_from(succeeded).unwrap());
    }
}
