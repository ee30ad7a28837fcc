//! The order of containers' lives, their last words, and the pod's own end.

use pintle_testkit::{Cluster, eventually};
use serde_json::{Value, json};
use std::time::Duration;

use super::driver::Kubectl;
use super::{container, pod, shared, told};

/// Says its end before it ends.
fn lingering(name: &str) -> String {
    format!("trap 'echo {name} ends >> /host/order; exit 0' TERM; echo {name} >> /host/order; sleep 1000 & wait")
}

pub fn pods(cluster: &Cluster) -> Vec<Value> {
    let (volume, mount) = shared(cluster, "ordered");
    let mounted = |more: Value| {
        let mut out = json!({"volumeMounts": mount});
        out.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        out
    };
    let startup = json!({"exec": {"command": ["grep", "-q", "^sidecar", "/host/order"]}, "periodSeconds": 1});
    let sidecar = mounted(json!({"restartPolicy": "Always", "startupProbe": startup}));
    let ordered = json!({
        "volumes": [volume],
        "initContainers": [
            container("first", "echo first >> /host/order", mounted(json!({}))),
            container("sidecar", &lingering("sidecar"), sidecar),
            container("second", "echo second >> /host/order", mounted(json!({}))),
        ],
        "containers": [container("main", &lingering("main"), mounted(json!({})))],
    });
    let words = |more: Value| {
        let mut out = json!({"terminationMessagePolicy": "File"});
        out.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        out
    };
    let on_error = || words(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}));
    let last_words = json!({
        "restartPolicy": "Never",
        "containers": [
            container("file", "echo in the log; printf bye > /dev/termination-log; exit 3", on_error()),
            container("log", "echo first; echo last; exit 1", on_error()),
            container("well", "echo all is well; exit 0", on_error()),
            container("only-file", "echo in the log; exit 1", words(json!({}))),
            container("own-path", "printf here > /tmp/end", words(json!({"terminationMessagePath": "/tmp/end"}))),
        ],
    });
    let helped = json!({
        "restartPolicy": "Never",
        "initContainers": [container("helper", "trap 'exit 0' TERM; sleep 1000 & wait", json!({"restartPolicy": "Always"}))],
        "containers": [container("main", "exit 0", json!({}))],
    });
    let late = json!({"activeDeadlineSeconds": 2, "containers": [container("main", "sleep 1000", json!({}))],
        "terminationGracePeriodSeconds": 1});
    vec![pod("ordered", ordered), pod("last-words", last_words), pod("helped", helped), pod("late", late)]
}

pub fn check(k: &Kubectl<'_>, cluster: &Cluster) {
    k.ok(&["wait", "pod/ordered", "--for=condition=Ready", "--timeout=60s"]);
    eventually("the main container said that it runs", Duration::from_secs(30), || {
        (told(cluster, "ordered", "order").lines().count() == 4).then_some(())
    });
    k.ok(&["delete", "pod", "ordered"]);
    assert_eq!(told(cluster, "ordered", "order"), "first\nsidecar\nsecond\nmain\nmain ends\nsidecar ends\n");

    k.until(&["get", "pod", "last-words", "-o", "jsonpath={.status.phase}"], |phase| phase == "Failed");
    let path = r#"{range .status.containerStatuses[*]}{.name}={.state.terminated.message};{end}"#;
    assert_eq!(k.field("pod/last-words", path), "file=bye;log=first\nlast\n;well=;only-file=;own-path=here;");

    k.until(&["get", "pod", "helped", "-o", "jsonpath={.status.phase}"], |phase| phase == "Succeeded");
    k.until(&["get", "pod", "late", "-o", "jsonpath={.status.phase} {.status.reason}"], |text| {
        text == "Failed DeadlineExceeded"
    });
}
