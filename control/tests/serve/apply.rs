//! Server-side apply, as a client sees it.

use http::Method;
use serde_json::{Value, json};

use super::client::{Client, Reply, server};
use super::{DEPLOYMENTS, MERGE, deployment};

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

/// Every owner with its fields, a line each.
fn owners(reply: &Reply) -> String {
    let line = |entry: &Value| {
        let subresource = entry["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
        let who = entry["manager"].as_str().unwrap_or_default();
        format!("{who}{subresource} {} {}", entry["operation"].as_str().unwrap_or_default(), entry["fieldsV1"])
    };
    reply.at("/metadata/managedFields").as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

impl Client {
    async fn apply(&mut self, path: &str, options: &str, config: &Value) -> Reply {
        let headers = [("content-type", "application/apply-patch+yaml")];
        // A YAML document that is not JSON: clients may send either.
        let yaml = format!("# by hand\n{config}");
        self.ask(Method::PATCH, &format!("{path}?{options}"), &headers, &yaml).await
    }
}

/// The whole of it: what an applier leaves out it gives up.
fn sized(count: i32) -> Value {
    let mut object = deployment("web");
    object["spec"]["replicas"] = json!(count);
    object
}

fn replicas(count: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": count}})
}

#[tokio::test]
async fn what_is_not_there_is_created_and_a_second_apply_writes_nothing() {
    let server = server().await;
    let mut client = server.admin().await;
    let made = client.apply(WEB, "fieldManager=a", &deployment("web")).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.at("/spec/replicas"), &json!(1), "defaults are filled in");
    insta::assert_snapshot!(owners(&made), @r#"a Apply {"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}}}}}}"#);
    let again = client.apply(WEB, "fieldManager=a", &deployment("web")).await;
    assert_eq!((again.code, again.version()), (200, made.version()));
    let dry = client.apply(WEB, "fieldManager=a&dryRun=All", &sized(7)).await;
    assert_eq!(dry.at("/spec/replicas"), &json!(7));
    assert_eq!(client.get(WEB).await.version(), made.version());
}

#[tokio::test]
async fn others_writes_are_conflicts_until_they_are_forced_and_status_has_owners_of_its_own() {
    let server = server().await;
    let mut client = server.admin().await;
    client.apply(WEB, "fieldManager=a", &sized(1)).await;
    let scaled =
        client.patch(&format!("{WEB}/scale?fieldManager=hand"), MERGE, &json!({"spec": {"replicas": 5}})).await;
    assert_eq!(scaled.code, 200);
    let conflict = client.apply(WEB, "fieldManager=a", &sized(2)).await;
    insta::assert_snapshot!(conflict.message(), @r#"409 Apply failed with 1 conflict: conflict with "hand" with subresource "scale" using apps/v1: .spec.replicas"#);
    insta::assert_snapshot!(conflict.at("/details/causes"), @r#"[{"field":".spec.replicas","message":"conflict with \"hand\" with subresource \"scale\" using apps/v1","reason":"FieldManagerConflict"}]"#);
    let forced = client.apply(WEB, "fieldManager=a&force=true", &sized(2)).await;
    assert_eq!(forced.at("/spec/replicas"), &json!(2));
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 9}, "status": {"replicas": 3}});
    let told = client.apply(&format!("{WEB}/status"), "fieldManager=c", &status).await;
    assert_eq!((told.at("/spec/replicas"), told.at("/status/replicas")), (&json!(2), &json!(3)));
    insta::assert_snapshot!(owners(&told), @r#"
    a Apply {"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}}}}}}
    c/status Apply {"f:status":{"f:replicas":{}}}
    "#);
}

#[tokio::test]
async fn objects_nobody_applies_carry_no_owners_and_tracking_can_be_ended() {
    let server = server().await;
    let mut client = server.admin().await;
    let mut plain = deployment("web");
    plain["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]);
    let made = client.post(DEPLOYMENTS, &plain).await;
    assert_eq!(made.at("/metadata/managedFields"), &Value::Null);
    client.apply(WEB, "fieldManager=a", &replicas(1)).await;
    assert_eq!(client.get(WEB).await.at("/metadata/managedFields").as_array().unwrap().len(), 2);
    let ended = client.patch(WEB, MERGE, &json!({"metadata": {"managedFields": [{}]}})).await;
    assert_eq!(ended.at("/metadata/managedFields"), &Value::Null, "{}", ended.message());
}

#[tokio::test]
async fn a_bad_apply_is_told_what_is_wrong_with_it() {
    let server = server().await;
    let mut client = server.admin().await;
    client.post(DEPLOYMENTS, &deployment("web")).await;
    let mut said = Vec::new();
    let mut bad = replicas(1);
    bad["spec"]["replica"] = json!(2);
    let mut owned = replicas(1);
    owned["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let mut other = replicas(1);
    other["metadata"]["name"] = json!("other");
    let mut gone = deployment("gone");
    gone["metadata"]["uid"] = json!("u1");
    for (path, options, config) in [
        (WEB, "", &replicas(1)),
        (WEB, "fieldManager=a", &bad),
        (WEB, "fieldManager=a", &owned),
        (WEB, "fieldManager=a", &other),
        ("/apis/apps/v1/namespaces/default/deployments/gone", "fieldManager=a", &gone),
    ] {
        said.push(client.apply(path, options, config).await.message());
    }
    said.push(client.patch(&format!("{WEB}?force=true"), MERGE, &replicas(1)).await.message());
    insta::assert_snapshot!(said.join("\n"), @r#"
    422 PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
    400 failed to create typed patch object (default/web; apps/v1, Kind=Deployment): unknown field "spec.replica"
    400 metadata.managedFields must be nil
    400 the name of the object (other) does not match the name on the URL (web)
    409 Operation cannot be fulfilled on deployments.apps "gone": uid mismatch: the provided object specified uid u1, and no existing object was found
    422 PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch
    "#);
}
