//! The cluster's own life: up, up again, killed, down, down again; and what stays on the machine (nothing).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{Cluster, eventually, repository, require_root};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn ready_pods(cluster: &Cluster) -> usize {
    let jsonpath =
        r#"jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let output = cluster.kubectl("v1.37").args(["get", "pods", "-o", jsonpath]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|l| l.ends_with(" True")).count()
}

fn container_ids(cluster: &Cluster) -> Vec<String> {
    let jsonpath = r#"jsonpath={range .items[*]}{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}"#;
    let output = cluster.kubectl("v1.37").args(["get", "pods", "-o", jsonpath]).output().unwrap();
    let mut ids: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn answers(cluster: &Cluster) -> Option<String> {
    let ip =
        cluster.kubectl("v1.37").args(["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]).output().unwrap();
    let url = format!("http://{}/", String::from_utf8_lossy(&ip.stdout));
    let output = cluster.command("curl").args(["-sS", "--max-time", "2", &url]).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn apply_example(cluster: &Cluster) {
    let file = repository().join("examples/web.yaml");
    let output = cluster.kubectl("v1.37").args(["apply", "-f"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("three Ready pods", LIMIT, || (ready_pods(cluster) == 3).then_some(()));
}

/// Every status of the node's Ready condition since the API server started, repetitions left out.
fn readiness_since_the_start(cluster: &Cluster) -> Vec<String> {
    let watch = "/api/v1/nodes?watch=1&resourceVersion=1&timeoutSeconds=1";
    let output = cluster.kubectl("v1.37").args(["get", "--raw", watch]).output().unwrap();
    let mut found: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let conditions = event["object"]["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
        found.push(ready["status"].as_str().unwrap().to_owned());
    }
    found.dedup();
    found
}

#[test]
fn a_deployment_behind_a_service_answers_and_nothing_stays_behind() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    assert_eq!(readiness_since_the_start(&cluster), ["False", "True"], "a node that is Ready stays so");
    apply_example(&cluster);
    let mut who = std::collections::BTreeSet::new();
    eventually("all three pods answer on the Service's address", LIMIT, || {
        who.extend(answers(&cluster));
        (who.len() == 3).then_some(())
    });
    assert!(cluster.up().contains("runs here already"), "a second up says so");
    cluster.down();
    cluster.down();
    cluster.up();
    eventually("the same Deployment is back after down and up", LIMIT, || (ready_pods(&cluster) == 3).then_some(()));
    cluster.down();
}

#[test]
fn after_a_kill_of_every_daemon_the_same_containers_run_on_under_a_new_up() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    apply_example(&cluster);
    let before = container_ids(&cluster);
    for (role, pid) in cluster.processes() {
        if role != "shim" {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
    eventually("the daemons are gone", LIMIT, || cluster.processes().iter().all(|(r, _)| r == "shim").then_some(()));
    cluster.up();
    eventually("the pods are Ready again", LIMIT, || (ready_pods(&cluster) == 3).then_some(()));
    assert_eq!(container_ids(&cluster), before, "same containers, same restart counts");
    eventually("the Service answers", LIMIT, || answers(&cluster));
    cluster.down();
}

#[test]
fn after_a_kill_of_everything_down_leaves_nothing() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    apply_example(&cluster);
    for (_, pid) in cluster.processes() {
        // Children may be gone with their parents by the time it is their turn.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    cluster.down();
}
