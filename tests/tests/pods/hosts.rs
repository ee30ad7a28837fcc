//! Namespaces of the node: a pod has its own unless it asks for the node's, and what it mounts is as it asked.

use pintle_testkit::{Cluster, eventually};
use serde_json::{Value, json};
use std::time::Duration;

use super::driver::Kubectl;
use super::restarts::pid_of;
use super::{container, pod, shared, told};

const NAMESPACES: [&str; 4] = ["ipc", "net", "pid", "uts"];

pub fn pods(cluster: &Cluster) -> Vec<Value> {
    let telling = |name: &str, more: Value| {
        let (volume, mount) = shared(cluster, name);
        let script =
            "for n in ipc net pid uts; do readlink /proc/self/ns/$n; done > /host/new; mv /host/new /host/story
                      exec sleep 1000";
        let mut spec =
            json!({"volumes": [volume], "containers": [container("main", script, json!({"volumeMounts": mount}))]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod(name, spec)
    };
    let strict = json!([{"name": "own", "mountPath": "/own", "bindMountOptions": ["noexec", "nosuid"]}]);
    let look = "stat -c %a /own > /tmp/mode; grep ' /own ' /proc/self/mountinfo | grep noexec | grep -q nosuid && exec sleep 1000";
    let mounted = json!({
        "volumes": [{"name": "own", "emptyDir": {"mode": 0o750}}],
        "containers": [container("main", look, json!({"volumeMounts": strict}))],
    });
    vec![
        telling("apart", json!({})),
        telling("of-the-node", json!({"hostIPC": true, "hostPID": true, "hostNetwork": true})),
        pod("strict", mounted),
    ]
}

pub fn check(k: &Kubectl<'_>, cluster: &Cluster) {
    let told = |name: &str| {
        eventually("the pod tells its namespaces", Duration::from_secs(30), || {
            Some(told(cluster, name, "story")).filter(|text| !text.is_empty())
        })
    };
    let agent = pid_of(cluster, "agent");
    let of_node = |name: &str| std::fs::read_link(format!("/proc/{agent}/ns/{name}")).unwrap();
    let of_node = NAMESPACES.map(|name| of_node(name).to_string_lossy().into_owned());
    assert_eq!(told("of-the-node").lines().collect::<Vec<_>>(), of_node);
    for (own, theirs) in told("apart").lines().zip(&of_node) {
        assert_ne!(own, theirs);
    }
    k.ok(&["wait", "pod/strict", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(k.ok(&["exec", "strict", "--", "cat", "/tmp/mode"]), "750\n");
}
