//! Controllers as kubectl drives them: rollouts, descriptions, garbage collection, drains.

use pintle_testkit::BUSYBOX_IMAGE;

use super::driver::{Kubectl, has};

fn deployment(name: &str, replicas: u32, message: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {BUSYBOX_IMAGE}
        command: [sh, -c, 'mkdir -p /www; echo {message} > /www/index.html; exec httpd -f -p 8080 -h /www']
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: http}}]}}
"
    )
}

fn delete(k: &Kubectl<'_>, name: &str) {
    k.ok(&["delete", "deployment,service", name]);
    k.until(&["get", "pods", "-l", &format!("app={name}"), "-o", "name"], str::is_empty);
}

pub fn rollout(k: &Kubectl<'_>) {
    k.apply(&deployment("roll", 2, "first"));
    has(&k.ok(&["rollout", "status", "deployment/roll", "--timeout=60s"]), &["successfully rolled out"]);
    has(&k.ok(&["get", "deployment", "roll"]), &["READY", "2/2"]);
    has(&k.ok(&["get", "pods", "-l", "app=roll", "-o", "wide"]), &["1/1", "Running", "10.42."]);
    k.apply(&deployment("roll", 2, "second"));
    k.ok(&["rollout", "status", "deployment/roll", "--timeout=60s"]);
    has(&k.ok(&["rollout", "history", "deployment/roll"]), &["REVISION", "1 ", "2 "]);
    has(&k.ok(&["rollout", "history", "deployment/roll", "--revision=1"]), &["first"]);
    // kubectl 1.37 warns by itself that what `apply` remembers stays behind.
    let (undone, _) = k.succeeds(&["rollout", "undo", "deployment/roll"], "");
    assert_eq!(undone, "deployment.apps/roll rolled back\n");
    k.ok(&["rollout", "status", "deployment/roll", "--timeout=60s"]);
    has(&k.field("deployment/roll", "{.spec.template.spec.containers[0].command[2]}"), &["first"]);
    assert_eq!(k.ok(&["rollout", "restart", "deployment/roll"]), "deployment.apps/roll restarted\n");
    k.ok(&["rollout", "status", "deployment/roll", "--timeout=60s"]);
    assert_eq!(k.ok(&["scale", "deployment/roll", "--replicas=4"]), "deployment.apps/roll scaled\n");
    k.ok(&["wait", "deployment/roll", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=60s"]);
    has(&k.ok(&["get", "endpointslices", "-l", "kubernetes.io/service-name=roll"]), &["IPv4", "8080"]);
    assert_eq!(k.ok(&["rollout", "pause", "deployment/roll"]), "deployment.apps/roll paused\n");
    assert_eq!(k.ok(&["rollout", "resume", "deployment/roll"]), "deployment.apps/roll resumed\n");
    k.ok(&["set", "image", "deployment/roll", "web=example.invalid/none:1"]);
    has(&k.fails(1, &["rollout", "status", "deployment/roll", "--timeout=2s"], ""), &["timed out waiting"]);
    has(&k.ok(&["get", "deployment", "roll", "-o", "jsonpath={.status.readyReplicas}"]), &["3"]);
    k.succeeds(&["rollout", "undo", "deployment/roll"], "");
    k.ok(&["rollout", "status", "deployment/roll", "--timeout=60s"]);
    delete(k, "roll");
}

pub fn describe(k: &Kubectl<'_>) {
    k.apply(&deployment("told", 2, "x"));
    k.ok(&["rollout", "status", "deployment/told", "--timeout=60s"]);
    has(
        &k.ok(&["describe", "deployment", "told"]),
        &["2 desired | 2 updated | 2 total | 2 available", "NewReplicaSet:", "ScalingReplicaSet", "RollingUpdate"],
    );
    has(
        &k.ok(&["describe", "pod", "-l", "app=told"]),
        &[
            "Status:           Running",
            "Scheduled",
            "Started",
            "Readiness:",
            "QoS Class:",
            "Ready             True",
            "pintle://",
        ],
    );
    has(
        &k.ok(&["describe", "service", "told"]),
        &["Selector:", "app=told", "ClusterIP", "TargetPort:", "http/TCP", "10.42."],
    );
    let node = k.field("nodes", "{.items[0].metadata.name}");
    has(
        &k.ok(&["describe", "node", &node]),
        &["Allocatable:", "Conditions:", "Ready", "PodCIDR:", "Non-terminated Pods:", "told-"],
    );
    has(&k.ok(&["get", "events"]), &["Scheduled", "Started", "Created", "deployment/told"]);
    has(&k.ok(&["events", "--for", "deployment/told"]), &["ScalingReplicaSet"]);
    has(&k.ok(&["get", "all"]), &["deployment.apps/told", "replicaset.apps/told", "service/told", "pod/told"]);
    delete(k, "told");
}

pub fn propagation(k: &Kubectl<'_>) {
    k.apply(&deployment("kept", 1, "x"));
    k.ok(&["rollout", "status", "deployment/kept", "--timeout=60s"]);
    k.ok(&["delete", "deployment", "kept", "--cascade=orphan"]);
    has(&k.ok(&["get", "rs", "-l", "app=kept", "-o", "name"]), &["replicaset.apps/kept"]);
    k.apply(&deployment("kept", 1, "x"));
    k.ok(&["rollout", "status", "deployment/kept", "--timeout=60s"]);
    assert_eq!(k.ok(&["get", "rs", "-l", "app=kept", "-o", "name"]).lines().count(), 1, "the orphan was adopted");
    k.ok(&["delete", "deployment", "kept", "--cascade=foreground"]);
    assert_eq!(k.ok(&["get", "rs,pods", "-l", "app=kept", "-o", "name"]), "", "foreground: dependents first");
    k.ok(&["delete", "service", "kept"]);

    k.ok(&["create", "namespace", "short"]);
    k.ok_with(&["apply", "-n", "short", "-f", "-"], &deployment("gone", 1, "x"));
    k.ok(&["rollout", "status", "-n", "short", "deployment/gone", "--timeout=60s"]);
    k.ok(&["delete", "namespace", "short"]);
    has(&k.fails(1, &["get", "namespace", "short"], ""), &["NotFound"]);

    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: sum}}\nspec: {{completions: 2, parallelism: 2, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: {BUSYBOX_IMAGE}, command: [sh, -c, 'echo $((1+1))']}}]}}}}}}\n"
    );
    k.apply(&job);
    k.ok(&["wait", "job/sum", "--for=condition=Complete", "--timeout=60s"]);
    has(&k.ok(&["get", "jobs"]), &["COMPLETIONS", "2/2"]);
    assert_eq!(k.ok(&["logs", "-l", "batch.kubernetes.io/job-name=sum", "--tail=-1"]), "2\n2\n");
    k.ok(&["delete", "job", "sum"]);
}

pub fn drain(k: &Kubectl<'_>) {
    let node = k.field("nodes", "{.items[0].metadata.name}");
    k.apply(&deployment("moved", 1, "x"));
    k.ok(&["rollout", "status", "deployment/moved", "--timeout=60s"]);
    has(&k.ok(&["cordon", &node]), &["cordoned"]);
    has(&k.ok(&["get", "nodes"]), &["SchedulingDisabled"]);
    let (drained, _) = k.succeeds(&["drain", &node, "--ignore-daemonsets", "--timeout=60s"], "");
    has(&drained, &["evicted", "drained"]);
    k.until(&["get", "pods", "-l", "app=moved"], |table| table.contains("Pending"));
    k.until(&["get", "events", "--field-selector", "reason=FailedScheduling"], |text| {
        text.contains("0/1 nodes are available: 1 node(s) were unschedulable")
    });
    has(&k.ok(&["uncordon", &node]), &["uncordoned"]);
    k.ok(&["rollout", "status", "deployment/moved", "--timeout=60s"]);
    delete(k, "moved");
}
