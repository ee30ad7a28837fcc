//! Server-side apply and what is built on it: helm.

use super::driver::{Kubectl, has};

fn map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: s}}\ndata: {{key: {value}}}\n")
}

pub fn apply(k: &Kubectl<'_>) {
    const APPLY: &[&str] = &["apply", "--server-side", "-f", "-"];
    assert_eq!(k.ok_with(APPLY, &map("one")), "configmap/s serverside-applied\n");
    let revision = k.field("cm/s", "{.metadata.resourceVersion}");
    assert_eq!(k.ok_with(APPLY, &map("one")), "configmap/s serverside-applied\n");
    assert_eq!(revision, k.field("cm/s", "{.metadata.resourceVersion}"), "nothing new, nothing written");
    let owners = "{range .metadata.managedFields[*]}{.manager}/{.operation} {end}";
    assert_eq!(k.field("cm/s", owners), "kubectl/Apply ");
    k.ok(&["patch", "cm", "s", "-p", r#"{"data":{"key":"by hand","more":"x"}}"#]);
    assert_eq!(k.field("cm/s", owners), "kubectl-patch/Update ");
    has(
        &k.fails(1, APPLY, &map("two")),
        &["Apply failed with 1 conflict: conflict with \"kubectl-patch\" using v1: .data.key", "--force-conflicts"],
    );
    const FORCED: &[&str] = &["apply", "--server-side", "--force-conflicts", "-f", "-"];
    k.ok_with(FORCED, &map("two"));
    assert_eq!(k.field("cm/s", "{.data.key} {.data.more}"), "two x");
    has(&k.fails(1, &["diff", "--server-side", "-f", "-"], &map("three")), &[]);
    has(
        &k.fails(1, APPLY, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndatum: {}\n"),
        &["failed to create typed patch object (default/s; v1, Kind=ConfigMap): unknown field \"datum\""],
    );
    k.ok(&["delete", "cm", "s"]);

    // From one way of applying to the other: what the first set, the second can take away.
    k.ok_with(&["apply", "-f", "-"], &map("one, old: kept"));
    k.ok_with(APPLY, &map("two"));
    assert_eq!(k.field("cm/s", "{.data.key}{.data.old}"), "two");
    k.ok(&["delete", "cm", "s"]);
}

pub fn helm(k: &Kubectl<'_>) {
    let chart = pintle_testkit::repository().join("tests/tests/kubectl/chart");
    let chart = chart.to_str().unwrap();
    let told = k.helm(&["install", "shop", chart, "--wait", "--timeout=60s"]);
    has(&told, &["STATUS: deployed", "REVISION: 1"]);
    assert_eq!(k.field("deploy/shop", "{.spec.replicas} {.status.readyReplicas}"), "1 1");
    has(
        &k.helm(&["upgrade", "shop", chart, "--set=replicas=2,greeting=hello", "--wait", "--timeout=60s"]),
        &["REVISION: 2"],
    );
    assert_eq!(k.field("deploy/shop", "{.spec.replicas}"), "2");
    assert_eq!(k.field("cm/shop", "{.data.greeting}"), "hello");
    has(&k.helm(&["rollback", "shop", "1", "--wait", "--timeout=60s"]), &["Rollback was a success"]);
    assert_eq!(k.field("cm/shop", "{.data.greeting}"), "good day");
    has(&k.helm(&["list"]), &["shop", "deployed", "shop-0.1.0"]);
    has(&k.helm(&["uninstall", "shop", "--wait"]), &["release \"shop\" uninstalled"]);
    assert_eq!(k.ok(&["get", "deploy,cm,svc", "-l", "app.kubernetes.io/managed-by=Helm", "-o", "name"]), "");
}
