//! Objects that need no kubelet: every form of get, every way of writing, every way of being refused.

use std::io::{BufRead, BufReader};

use super::driver::{Kubectl, has};

pub fn discovery(k: &Kubectl<'_>) {
    // An older client says itself that it is old.
    has(&k.succeeds(&["version"], "").0, &["Server Version: v1.37"]);
    has(&k.ok(&["cluster-info"]), &["Kubernetes control plane", "is running at"]);
    let resources = k.ok(&["api-resources"]);
    has(
        &resources,
        &["deployments", "deploy", "apps/v1", "Deployment", "pods", "po", "services", "svc", "leases", "jobs"],
    );
    has(&k.ok(&["api-resources", "--namespaced=false", "-o", "name"]), &["nodes", "namespaces"]);
    has(&k.ok(&["api-versions"]), &["v1", "apps/v1", "batch/v1", "discovery.k8s.io/v1", "coordination.k8s.io/v1"]);
    has(&k.ok(&["explain", "deployment.spec.replicas"]), &["FIELD: replicas", "integer"]);
    has(&k.ok(&["get", "--raw", "/readyz"]), &["ok"]);
}

const MAPS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: b, labels: {tier: back, num: '2'}}
data: {key: value}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {tier: front, num: '1'}}
data: {key: other}
";

pub fn get(k: &Kubectl<'_>) {
    let created = k.ok_with(&["create", "-f", "-"], MAPS);
    has(&created, &["configmap/b created", "configmap/a created"]);
    let table = k.ok(&["get", "cm"]);
    has(&table, &["NAME", "DATA", "AGE", "kube-root-ca.crt"]);
    has(&k.ok(&["get", "cm", "a", "-o", "yaml"]), &["apiVersion: v1", "kind: ConfigMap", "key: other", "uid: "]);
    has(&k.ok(&["get", "cm", "a", "-o", "json"]), &["\"resourceVersion\""]);
    assert_eq!(k.ok(&["get", "cm", "a", "b", "-o", "name"]), "configmap/a\nconfigmap/b\n");
    assert_eq!(k.field("cm/a", "{.data.key}"), "other");
    assert_eq!(k.ok(&["get", "cm", "-l", "tier=front", "-o", "name"]), "configmap/a\n");
    assert_eq!(k.ok(&["get", "cm", "-l", "tier in (back),num!=1", "-o", "name"]), "configmap/b\n");
    assert_eq!(k.ok(&["get", "cm", "--field-selector", "metadata.name=b", "-o", "name"]), "configmap/b\n");
    let sorted = k.ok(&["get", "cm", "-l", "tier", "--sort-by", "{.metadata.labels.num}", "-o", "name"]);
    assert_eq!(sorted, "configmap/a\nconfigmap/b\n");
    has(&k.ok(&["get", "cm", "-A"]), &["NAMESPACE", "kube-system"]);
    has(&k.ok(&["get", "nodes", "-o", "wide"]), &["INTERNAL-IP", "CONTAINER-RUNTIME", "pintle://", "Ready"]);
    has(&k.ok(&["get", "svc", "-o", "wide"]), &["kubernetes", "ClusterIP", "10.43.0.1", "443/TCP", "SELECTOR"]);
    has(&k.ok(&["get", "ns"]), &["default", "Active", "kube-system", "kube-public", "kube-node-lease"]);
    has(&k.ok(&["get", "cm,sa"]), &["configmap/a", "serviceaccount/default"]);
    let (empty, note) = k.succeeds(&["get", "secrets"], "");
    assert!(empty.is_empty() && note.contains("No resources found in default namespace."), "{empty}{note}");
    has(&k.ok(&["delete", "cm", "a", "b"]), &["configmap \"a\" deleted", "configmap \"b\" deleted"]);
    has(&k.fails(1, &["get", "cm", "a"], ""), &["Error from server (NotFound): configmaps \"a\" not found"]);
}

fn map(value: &str, extra: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{key: {value}{extra}}}\n")
}

pub fn apply(k: &Kubectl<'_>) {
    assert_eq!(k.apply(&map("one", "")), "configmap/c created\n");
    assert_eq!(k.apply(&map("one", "")), "configmap/c unchanged\n");
    let revision = k.field("cm/c", "{.metadata.resourceVersion}");
    assert_eq!(k.apply(&map("two", ", more: x")), "configmap/c configured\n");
    assert_ne!(revision, k.field("cm/c", "{.metadata.resourceVersion}"));
    assert_eq!(k.apply(&map("two", "")), "configmap/c configured\n");
    assert_eq!(k.field("cm/c", "{.data.more}"), "", "apply removes what it no longer mentions");
    assert_eq!(
        k.ok_with(&["apply", "--dry-run=server", "-f", "-"], &map("three", "")),
        "configmap/c configured (server dry run)\n"
    );
    assert_eq!(k.field("cm/c", "{.data.key}"), "two", "a dry run stores nothing");
    has(&k.fails(1, &["diff", "-f", "-"], &map("three", "")), &[]);
    assert_eq!(k.ok_with(&["replace", "-f", "-"], &map("four", "")), "configmap/c replaced\n");
    let edited = k.command(&["edit", "cm", "c"]).env("KUBE_EDITOR", "sed -i s/four/five/").output().unwrap();
    has(&String::from_utf8_lossy(&edited.stdout), &["configmap/c edited"]);
    assert_eq!(k.field("cm/c", "{.data.key}"), "five");
    let stale = map("six", "").replace("name: c", "name: c, resourceVersion: '1'");
    has(&k.fails(1, &["replace", "-f", "-"], &stale), &["Conflict", "the object has been modified"]);
    k.ok(&["delete", "cm", "c"]);
    let generated =
        k.ok_with(&["create", "-f", "-"], &map("x", "").replace("name: c", "generateName: gen-, labels: {gen: 'y'}"));
    has(&generated, &["configmap/gen-"]);
    k.ok(&["delete", "cm", "-l", "gen=y"]);
}

pub fn patch(k: &Kubectl<'_>) {
    k.ok(&["create", "configmap", "p", "--from-literal=a=1", "--from-literal=b=2"]);
    assert_eq!(k.ok(&["label", "cm", "p", "color=red"]), "configmap/p labeled\n");
    has(&k.fails(1, &["label", "cm", "p", "color=blue"], ""), &["--overwrite is false"]);
    assert_eq!(k.ok(&["label", "cm", "p", "color-"]), "configmap/p unlabeled\n");
    assert_eq!(k.ok(&["annotate", "cm", "p", "note=hello world"]), "configmap/p annotated\n");
    assert_eq!(k.field("cm/p", "{.metadata.annotations.note}"), "hello world");
    assert_eq!(k.ok(&["patch", "cm", "p", "-p", r#"{"data":{"a":null,"c":"3"}}"#]), "configmap/p patched\n");
    assert_eq!(k.field("cm/p", "{.data}"), r#"{"b":"2","c":"3"}"#);
    k.ok(&["patch", "cm", "p", "--type=merge", "-p", r#"{"data":{"b":"20"}}"#]);
    k.ok(&[
        "patch",
        "cm",
        "p",
        "--type=json",
        "-p",
        r#"[{"op":"test","path":"/data/b","value":"20"},{"op":"remove","path":"/data/b"}]"#,
    ]);
    assert_eq!(k.field("cm/p", "{.data}"), r#"{"c":"3"}"#);
    assert_eq!(k.ok(&["patch", "cm", "p", "-p", r#"{"data":{"c":"3"}}"#]), "configmap/p patched (no change)\n");
    k.ok(&["delete", "cm", "p"]);
}

pub fn watch(k: &Kubectl<'_>) {
    let mut watcher = k.spawn(&["get", "cm", "-l", "watched", "-w", "-o", "name"]);
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    k.ok_with(&["create", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w, labels: {watched: 'y'}}\n");
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/w");
    k.ok(&["annotate", "cm", "w", "turn=1"]);
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/w");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    let waiter = k.spawn(&["wait", "cm/w", "--for=jsonpath={.metadata.annotations.turn}=2", "--timeout=30s"]);
    k.ok(&["annotate", "cm", "w", "turn=2", "--overwrite"]);
    let waited = waiter.wait_with_output().unwrap();
    has(&String::from_utf8_lossy(&waited.stdout), &["configmap/w condition met"]);
    let waiter = k.spawn(&["wait", "cm/w", "--for=delete", "--timeout=30s"]);
    k.ok(&["delete", "cm", "w"]);
    assert!(waiter.wait_with_output().unwrap().status.success());
    has(&k.fails(1, &["wait", "node", "--all", "--for=condition=Nothing", "--timeout=1s"], ""), &["timed out waiting"]);
}

pub fn bad_input(k: &Kubectl<'_>) {
    let unknown = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicaz: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}\n";
    has(
        &k.fails(1, &["create", "-f", "-"], unknown),
        &["BadRequest", "strict decoding error: unknown field \"spec.replicaz\""],
    );
    let invalid = unknown.replace("replicaz: 1", "replicas: -1");
    has(
        &k.fails(1, &["create", "-f", "-"], &invalid),
        &["The Deployment \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    let mismatched =
        unknown.replace("replicaz: 1, selector: {matchLabels: {a: b}}", "selector: {matchLabels: {a: other}}");
    has(&k.fails(1, &["create", "-f", "-"], &mismatched), &["`selector` does not match template `labels`"]);
    let nameless = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n";
    has(&k.fails(1, &["create", "-f", "-"], nameless), &["metadata.name: Invalid value: \"Not_A_Name\"", "RFC 1123"]);
    let nowhere = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nowhere}\n";
    has(&k.fails(1, &["create", "-f", "-"], nowhere), &["namespaces \"nowhere\" not found"]);
    has(&k.fails(1, &["create", "ns", "default"], ""), &["AlreadyExists", "namespaces \"default\" already exists"]);
    has(&k.fails(1, &["get", "gizmos"], ""), &["the server doesn't have a resource type \"gizmos\""]);
    has(
        &k.fails(1, &["create", "-f", "-"], "apiVersion: example.org/v1\nkind: Gizmo\nmetadata: {name: g}\n"),
        &["no matches for kind \"Gizmo\""],
    );
}
