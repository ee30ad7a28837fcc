//! What this node does not do: the pod says so in an event or in its status, and names the field.

use pintle_testkit::Cluster;
use serde_json::{Value, json};

use super::driver::{Kubectl, has};
use super::{container, pod};

fn idle(more: Value) -> Value {
    container("main", "sleep 1000", more)
}

fn with_volume(source: Value) -> Value {
    let mut volume = json!({"name": "data"});
    volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    json!({"volumes": [volume], "containers": [idle(json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}))]})
}

fn apparmor_on() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Pods that are held back, with what their events must say.
fn held_back() -> Vec<(&'static str, Value, [&'static str; 2])> {
    let sandbox = "FailedCreatePodSandBox";
    vec![
        (
            "private-users",
            json!({"hostUsers": false, "containers": [idle(json!({}))]}),
            [sandbox, "spec.hostUsers: false (a user namespace for the pod) is not supported on this node"],
        ),
        (
            "host-port",
            json!({"containers": [idle(json!({"ports": [{"containerPort": 80, "hostPort": 8080}]}))]}),
            [sandbox, "spec.containers[main].ports[].hostPort: 8080 (use a Service of type NodePort, or hostNetwork)"],
        ),
        (
            "strange-runtime",
            json!({"runtimeClassName": "sandboxed", "containers": [idle(json!({}))]}),
            [sandbox, "spec.runtimeClassName: RuntimeClass \"sandboxed\" not found"],
        ),
        (
            "huge-volume",
            with_volume(json!({"emptyDir": {"medium": "HugePages"}})),
            ["FailedMount", "spec.volumes[data].emptyDir.medium: HugePages is not supported on this node"],
        ),
        (
            "network-volume",
            with_volume(json!({"nfs": {"server": "files.example", "path": "/"}})),
            ["FailedMount", "spec.volumes[data].nfs is not supported on this node"],
        ),
    ]
}

pub fn pods(_: &Cluster) -> Vec<Value> {
    let mut out: Vec<Value> = held_back().into_iter().map(|(name, spec, _)| pod(name, spec)).collect();
    let profile = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
    out.push(pod("confined", json!({"containers": [idle(profile)]})));
    let sysctls = json!([{"name": "kernel.msgmax", "value": "65536"}]);
    out.push(pod("tuned", json!({"securityContext": {"sysctls": sysctls}, "containers": [idle(json!({}))]})));
    let labels = json!({"securityContext": {"seLinuxOptions": {"level": "s0:c123,c456"}}});
    out.push(pod("labelled", json!({"containers": [idle(labels)]})));
    out
}

pub fn check(k: &Kubectl<'_>, _: &Cluster) {
    for (name, _, [reason, message]) in held_back() {
        let about = format!("involvedObject.name={name},reason={reason}");
        k.until(&["get", "events", "--field-selector", &about], |text| text.contains(message));
        // And long after the event is gone, the status says it too.
        k.until(&["get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].state.waiting.message}"], |text| {
            text.contains(message)
        });
        assert_eq!(k.field(&format!("pod/{name}"), "{.status.phase}"), "Pending");
    }
    if apparmor_on() {
        let event = "involvedObject.name=confined,reason=FailedCreatePodSandBox";
        k.until(&["get", "events", "--field-selector", event], |text| text.contains("appArmorProfile: RuntimeDefault"));
    } else {
        rejected(k, "confined", "AppArmor", "(spec.containers[main].securityContext.appArmorProfile)");
    }
    rejected(k, "tuned", "SysctlForbidden", "\"kernel.msgmax\"");
    // Where there is no SELinux its options mean nothing, on every Kubernetes node.
    k.ok(&["wait", "pod/labelled", "--for=condition=Ready", "--timeout=60s"]);
}

fn rejected(k: &Kubectl<'_>, name: &str, reason: &str, message: &str) {
    k.until(&["get", "pod", name, "-o", "jsonpath={.status.phase}"], |phase| phase == "Failed");
    assert_eq!(k.field(&format!("pod/{name}"), "{.status.reason}"), reason);
    has(&k.field(&format!("pod/{name}"), "{.status.message}"), &["Pod was rejected: ", message]);
}
