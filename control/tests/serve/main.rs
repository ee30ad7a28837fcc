//! The API over a store in memory, as a client sees it: every verb, on several kinds.
#![expect(clippy::unwrap_used, reason = "tests")]

mod apply;
mod client;

use std::time::Duration;

use client::{Client, server};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn map(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}},
    }})
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let server = server().await;
    let mut client = server.admin().await;
    let made = client.post(MAPS, &map("a", &json!({}))).await;
    assert_eq!(made.code, 201);
    let path = format!("{MAPS}/a");
    let read = client.get(&path).await;
    assert_eq!((read.code, &read.body), (200, &made.body));

    let mut changed = read.body.clone();
    changed["data"]["a"] = "2".into();
    let updated = client.put(&path, &changed).await;
    assert_eq!((updated.code, updated.at("/data/a")), (200, &json!("2")));
    let again = client.put(&path, &updated.body).await;
    assert_eq!(again.version(), updated.version(), "an update that changes nothing makes no revision");
    assert_eq!(client.put(&path, &changed).await.at("/reason"), "Conflict");

    assert_eq!(client.delete(&path, &json!({"preconditions": {"uid": "another"}})).await.code, 409);
    let deleted = client.delete(&path, &Value::Null).await;
    assert_eq!((deleted.code, deleted.at("/status")), (200, &json!("Success")));
    assert_eq!(client.get(&path).await.message(), "404 configmaps \"a\" not found");
}

#[tokio::test]
async fn failures_read_as_clients_know_them() {
    let server = server().await;
    let mut client = server.admin().await;
    client.post(MAPS, &map("a", &json!({}))).await;
    let mut bad = deployment("web");
    bad["spec"]["replicas"] = (-1).into();
    let mut unknown = deployment("web");
    unknown["spec"]["replicaz"] = 1.into();
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let lines = [
        client.post(MAPS, &map("a", &json!({}))).await.message(),
        client.post("/api/v1/namespaces/nowhere/configmaps", &map("a", &json!({}))).await.message(),
        client.post(DEPLOYMENTS, &bad).await.message(),
        client.post(&strict, &unknown).await.message(),
        client.post(MAPS, &json!({"kind": "Pod", "apiVersion": "v1"})).await.message(),
        client.get("/api/v1/nosuch").await.message(),
        client.get(&format!("{MAPS}?fieldSelector=spec.x=1")).await.message(),
        client.get(&format!("{MAPS}?resourceVersion=99999")).await.message(),
        client.delete("/api/v1/namespaces/default", &Value::Null).await.message(),
        client.patch(&format!("{MAPS}/a"), "text/plain", &json!({})).await.message(),
        client.ask(Method::GET, MAPS, &[("accept", "text/html")], "").await.message(),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    409 configmaps "a" already exists
    404 namespaces "nowhere" not found
    422 Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
    400 Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replicaz"
    400 the kind in the data (Pod) does not match the expected kind (ConfigMap)
    404 the server could not find the requested resource
    400 field label not supported: spec.x
    504 Timeout: Too large resource version: 99999, current: 9
    403 namespaces "default" is forbidden: this namespace may not be deleted
    415 the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml
    406 only the following media types are accepted: application/json, application/json;as=Table;g=meta.k8s.io;v=v1
    "#);
}

#[tokio::test]
async fn unknown_fields_warn_unless_told_otherwise() {
    let server = server().await;
    let mut client = server.admin().await;
    let mut unknown = deployment("web");
    unknown["spec"]["replicaz"] = 1.into();
    let warned = client.post(DEPLOYMENTS, &unknown).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"spec.replicaz\\\"\""]);
    unknown["metadata"]["name"] = "other".into();
    let ignored = client.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &unknown).await;
    assert_eq!((ignored.code, ignored.warnings.len()), (201, 0));
}

#[tokio::test]
async fn a_dry_run_goes_all_the_way_and_leaves_nothing() {
    let server = server().await;
    let mut client = server.admin().await;
    let dry = client.post(&format!("{DEPLOYMENTS}?dryRun=All"), &deployment("web")).await;
    assert_eq!((dry.code, dry.at("/spec/replicas")), (201, &json!(1)));
    assert_eq!(client.get(&format!("{DEPLOYMENTS}/web")).await.code, 404);
    client.post(DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web?dryRun=All");
    assert_eq!(client.patch(&path, MERGE, &json!({"spec": {"replicas": 7}})).await.at("/spec/replicas"), &json!(7));
    assert_eq!(client.delete(&path, &Value::Null).await.code, 200);
    assert_eq!(client.get(&format!("{DEPLOYMENTS}/web")).await.at("/spec/replicas"), &json!(1));
}

#[tokio::test]
async fn generation_counts_the_spec_and_patches_merge_by_key() {
    let server = server().await;
    let mut client = server.admin().await;
    client.post(DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web");
    let labelled = client.patch(&path, MERGE, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(labelled.at("/metadata/generation"), &json!(1));
    let containers = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "c"}]}}}});
    let patched = client.patch(&path, STRATEGIC, &containers).await;
    assert_eq!(patched.at("/metadata/generation"), &json!(2));
    assert_eq!(patched.at("/spec/template/spec/containers").as_array().unwrap().len(), 2);
    let status = client
        .patch(&format!("{path}/status"), MERGE, &json!({"status": {"replicas": 3}, "spec": {"replicas": 9}}))
        .await;
    assert_eq!((status.at("/status/replicas"), status.at("/spec/replicas")), (&json!(3), &json!(1)));
    let scaled = client.patch(&format!("{path}/scale"), MERGE, &json!({"spec": {"replicas": 4}})).await;
    assert_eq!((scaled.at("/kind"), scaled.at("/spec/replicas")), (&json!("Scale"), &json!(4)));
    assert_eq!(client.get(&path).await.at("/metadata/generation"), &json!(3));
}

#[tokio::test]
async fn lists_page_consistently_and_select() {
    let server = server().await;
    let mut client = server.admin().await;
    for name in ["a", "b", "c", "d"] {
        client.post(MAPS, &map(name, &json!({"odd": if matches!(name, "a" | "c") { "yes" } else { "no" }}))).await;
    }
    let first = client.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!((first.names(), first.at("/metadata/remainingItemCount")), (vec!["a", "b"], &json!(2)));
    client.delete(&format!("{MAPS}/c"), &Value::Null).await;
    let token = first.at("/metadata/continue").as_str().unwrap();
    let second = client.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(second.names(), ["c", "d"], "the second page shows the state of the first");
    assert_eq!(second.version(), first.version());
    assert_eq!(client.get(&format!("{MAPS}?labelSelector=odd%3Dno")).await.names(), ["b", "d"]);
    assert_eq!(client.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dd")).await.names(), ["d"]);
    let limited = client.get(&format!("{MAPS}?limit=1&labelSelector=odd%3Dno")).await;
    assert_eq!((limited.names(), limited.at("/metadata/remainingItemCount")), (vec!["b"], &Value::Null));
    assert_eq!(client.get("/api/v1/configmaps?limit=1").await.names(), ["a"]);
}

#[tokio::test]
async fn tables_carry_columns_cells_and_metadata() {
    let server = server().await;
    let mut client = server.admin().await;
    client.post(MAPS, &map("a", &json!({}))).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = client.ask(Method::GET, MAPS, &accept, "").await;
    assert_eq!(table.at("/kind"), "Table");
    assert_eq!(table.at("/columnDefinitions/0/name"), "Name");
    assert_eq!(table.at("/rows/0/cells/0"), "a");
    assert_eq!(table.at("/rows/0/object/kind"), "PartialObjectMetadata");
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let list = client.ask(Method::GET, MAPS, &partial, "").await;
    assert_eq!((list.at("/kind"), list.at("/items/0/data")), (&json!("PartialObjectMetadataList"), &Value::Null));
}

/// Reads a watch's events as `TYPE name` until there are `count`.
async fn events(client: &mut Client, path: &str, count: usize) -> Vec<String> {
    let mut body = client.send(Method::GET, path, &[], "").await.into_body();
    let mut text = String::new();
    while text.lines().count() < count {
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    let show = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let end = event.pointer("/object/metadata/annotations/k8s.io~1initial-events-end").is_some();
        let name =
            event.pointer("/object/metadata/name").and_then(Value::as_str).unwrap_or(if end { "end" } else { "" });
        format!("{} {name}", event["type"].as_str().unwrap())
    };
    text.lines().map(show).collect()
}

#[tokio::test]
async fn watches_replay_select_and_announce() {
    let server = server().await;
    let mut client = server.admin().await;
    let start = client.get(MAPS).await.version();
    client.post(MAPS, &map("a", &json!({"x": "1"}))).await;
    client.post(MAPS, &map("b", &json!({}))).await;
    client.patch(&format!("{MAPS}/b"), MERGE, &json!({"metadata": {"labels": {"x": "1"}}})).await;
    client.patch(&format!("{MAPS}/a"), MERGE, &json!({"metadata": {"labels": {"x": "2"}}})).await;
    client.delete(&format!("{MAPS}/b"), &Value::Null).await;
    let mut watcher = server.admin().await;
    let all = events(&mut watcher, &format!("{MAPS}?watch=true&resourceVersion={start}"), 5).await;
    assert_eq!(all, ["ADDED a", "ADDED b", "MODIFIED b", "MODIFIED a", "DELETED b"]);
    let mut watcher = server.admin().await;
    let path = format!("{MAPS}?watch=true&resourceVersion={start}&labelSelector=x%3D1");
    assert_eq!(events(&mut watcher, &path, 4).await, ["ADDED a", "ADDED b", "DELETED a", "DELETED b"]);
    let mut watcher = server.admin().await;
    let path =
        format!("{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    assert_eq!(events(&mut watcher, &path, 2).await, ["ADDED a", "BOOKMARK end"]);
    assert_eq!(client.get(&format!("{MAPS}?watch=true&resourceVersion=1&timeoutSeconds=1")).await.code, 200);
}

#[tokio::test]
async fn finalizers_hold_objects_and_foreground_deletion_adds_one() {
    let server = server().await;
    let mut client = server.admin().await;
    client.post(DEPLOYMENTS, &deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web");
    let marked = client.delete(&path, &json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(marked.at("/metadata/finalizers"), &json!(["foregroundDeletion"]));
    assert!(marked.at("/metadata/deletionTimestamp").is_string());
    assert_eq!(client.get(&path).await.code, 200);
    client.patch(&path, MERGE, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(client.get(&path).await.code, 404);

    let namespaces = "/api/v1/namespaces";
    client.post(namespaces, &json!({"metadata": {"name": "x"}})).await;
    let dying = client.delete(&format!("{namespaces}/x"), &Value::Null).await;
    assert_eq!(dying.at("/status/phase"), "Terminating");
    let refused = client.post(&format!("{namespaces}/x/configmaps"), &map("a", &json!({}))).await;
    assert_eq!(refused.at("/details/causes/0/reason"), "NamespaceTerminating");
    client
        .put(&format!("{namespaces}/x/finalize"), &json!({"metadata": {"name": "x"}, "spec": {"finalizers": []}}))
        .await;
    assert_eq!(client.get(&format!("{namespaces}/x")).await.code, 404);
}

#[tokio::test]
async fn a_pod_gets_an_account_a_node_and_a_graceful_end() {
    let server = server().await;
    let mut client = server.admin().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    client.post(accounts, &json!({"metadata": {"name": "default"}})).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let made = client.post(pods, &pod).await;
    assert_eq!((made.code, made.at("/spec/serviceAccountName")), (201, &json!("default")), "{:?}", made.body);
    assert_eq!(made.at("/spec/tolerations").as_array().unwrap().len(), 2);
    let path = format!("{pods}/{}", made.at("/metadata/name").as_str().unwrap());
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    assert_eq!(client.post(&format!("{path}/binding"), &binding).await.code, 201);
    assert_eq!(client.post(&format!("{path}/binding"), &binding).await.code, 409);
    assert_eq!(client.get(&format!("{pods}?fieldSelector=spec.nodeName%3Dn1")).await.names().len(), 1);

    let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1",
        "name": made.at("/metadata/name"), "uid": made.at("/metadata/uid")}}});
    let mut node = server.client("system:node:n1", &["system:nodes"]).await;
    let token = node.post(&format!("{accounts}/default/token"), &bound).await;
    assert_eq!(token.code, 201, "{:?}", token.body);
    let mut other = server.client("system:node:n2", &["system:nodes"]).await;
    assert_eq!(other.post(&format!("{accounts}/default/token"), &bound).await.code, 403);
    assert_eq!(other.get(&path).await.code, 403);
    let review = json!({"spec": {"token": token.at("/status/token")}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let known = client.post(reviews, &review).await;
    assert_eq!(known.at("/status/user/username"), "system:serviceaccount:default:default");

    let marked = client.post(&format!("{path}/eviction"), &json!({"metadata": {}})).await;
    assert_eq!(marked.code, 201);
    assert_eq!(client.get(&path).await.at("/metadata/deletionGracePeriodSeconds"), &json!(30));
    node.delete(&path, &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(client.get(&path).await.code, 404);
    assert_eq!(client.post(reviews, &review).await.at("/status/authenticated"), &json!(false), "its pod is gone");
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let server = server().await;
    let mut client = server.admin().await;
    let services = "/api/v1/namespaces/default/services";
    assert_eq!(client.get(&format!("{services}/kubernetes")).await.at("/spec/clusterIP"), "10.43.0.1");
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    let first = client.post(services, &service("a")).await;
    let second = client.post(services, &service("b")).await;
    assert_ne!(first.at("/spec/clusterIP"), second.at("/spec/clusterIP"));
    let mut clash = service("c");
    clash["spec"]["clusterIP"] = first.at("/spec/clusterIP").clone();
    assert_eq!(client.post(services, &clash).await.code, 422);
}

#[tokio::test]
async fn nobody_does_what_no_table_allows() {
    let server = server().await;
    let mut proxy = server.client("system:kube-proxy", &[]).await;
    assert_eq!(proxy.get("/api/v1/services").await.code, 200);
    let refused = proxy.get("/api/v1/namespaces/default/secrets").await;
    assert_eq!(
        refused.message(),
        "403 secrets is forbidden: User \"system:kube-proxy\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    let mut admin = server.admin().await;
    let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(admin.post(path, &review).await.at("/status/allowed"), &json!(true));
    assert_eq!(proxy.post(path, &review).await.at("/status/allowed"), &json!(false));
}

#[tokio::test]
async fn discovery_and_openapi_describe_every_kind() {
    let server = server().await;
    let mut client = server.admin().await;
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let groups = client.ask(Method::GET, "/apis", &accept, "").await;
    assert_eq!(groups.at("/kind"), "APIGroupDiscoveryList");
    assert_eq!(client.get("/api/v1").await.at("/kind"), "APIResourceList");
    let index = client.get("/openapi/v3").await;
    let paths = index.at("/paths").as_object().unwrap();
    assert!(paths.contains_key("apis/apps/v1"));
    for path in paths.values() {
        let url = path["serverRelativeURL"].as_str().unwrap();
        assert_eq!(client.get(url).await.at("/openapi"), "3.0.0", "{url}");
    }
    let core = client.get("/openapi/v3/api/v1").await;
    let containers = core.at("/components/schemas/io.k8s.api.core.v1.PodSpec/properties/containers");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    let tagged = client.send(Method::GET, "/apis", &accept, "").await;
    let tag = tagged.headers()["etag"].to_str().unwrap().to_owned();
    tagged.into_body().collect().await.unwrap();
    let again = client.send(Method::GET, "/apis", &[accept[0], ("if-none-match", &tag)], "").await;
    assert_eq!(again.status().as_u16(), 304);
}

/// A PEM request for a certificate of these groups.
fn certificate_request(groups: &[&str]) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
    for group in groups {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
    }
    params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

#[tokio::test]
async fn nobody_asks_for_a_certificate_of_the_masters() {
    let server = server().await;
    let mut client = server.admin().await;
    let mut ask = async |name: &str, groups: &[&str]| {
        let request = k8s_openapi::ByteString(certificate_request(groups).into_bytes());
        let spec =
            json!({"request": request, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]});
        let body = json!({"metadata": {"name": name}, "spec": spec});
        client.post("/apis/certificates.k8s.io/v1/certificatesigningrequests", &body).await.message()
    };
    insta::assert_snapshot!(ask("a", &["system:masters"]).await, @r#"403 certificatesigningrequests.certificates.k8s.io "a" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"#);
    assert_eq!(ask("b", &["devs"]).await, "201 ");
}
