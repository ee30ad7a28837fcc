//! How the API server starts over what it finds: other ranges, ports in use, damaged stores.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use pintle_client::{Client, Identity, Wire};
use pintle_control::apiserver::{self, ApiServerConfig, ApiServerError, Handle, LEAF_LIFE_S, ServiceRanges};
use pintle_store::{FakeStore, Store};
use tokio_util::sync::CancellationToken;

fn config(state_dir: &Path, cidr: &str, ports: &str) -> ApiServerConfig {
    ApiServerConfig {
        state_dir: state_dir.to_owned(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        server_url: "https://127.0.0.1:6443".to_owned(),
        names: Vec::new(),
        advertise: Some("127.0.0.1:6443".parse().unwrap()),
        ranges: ServiceRanges::parse(cidr, ports).unwrap(),
        certificate_life_s: LEAF_LIFE_S,
    }
}

fn admin(handle: &Handle) -> Client {
    let handle = handle.clone();
    let dial = move || -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Wire>> + Send>> {
        let io = handle.local_client_stream("admin", &["system:masters"]);
        Box::pin(async move { Ok(Wire { io: Box::new(io), http2: true }) })
    };
    Client::over(Box::new(dial), Identity::None, "test").unwrap()
}

fn service(name: &str) -> Service {
    let json = serde_json::json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    serde_json::from_value(json).unwrap()
}

/// The whole chain of an error with its hint, on one line each.
fn told(error: &ApiServerError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\ncause: {error}"));
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    }
}

#[tokio::test]
async fn services_get_their_addresses_from_the_ranges_and_those_cannot_change_under_them() {
    let state = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(FakeStore::default());
    let cancel = CancellationToken::new();
    let first = config(state.path(), "172.20.0.0/24", "31000-31009");
    let handle = apiserver::start_over(store.clone(), first, cancel.clone()).await.unwrap();
    let client = admin(&handle);
    let own = client.get::<Service>("default", "kubernetes").await.unwrap();
    assert_eq!(own.spec.unwrap().cluster_ip.as_deref(), Some("172.20.0.1"));
    let web = client.create(&service("web")).await.unwrap().spec.unwrap();
    let port = web.ports.as_ref().unwrap()[0].node_port.unwrap();
    assert!(web.cluster_ip.as_ref().unwrap().starts_with("172.20.0."), "{web:?}");
    assert!((31_000..=31_009).contains(&port), "{port}");
    cancel.cancel();
    handle.stopped().await;

    let start = |cidr: &'static str, ports: &'static str| {
        apiserver::start_over(store.clone(), config(state.path(), cidr, ports), CancellationToken::new())
    };
    let ports_moved = start("172.20.0.0/24", "30000-30009").await.unwrap_err();
    insta::assert_snapshot!(told(&ports_moved).replace(&port.to_string(), "31NNN"), @r"
    1 of the stored Services' addresses and ports lie outside 172.20.0.0/24 and node ports 30000-30009: default/web port 31NNN
    hint: start with the --service-cidr and --service-node-port-range they were made with, or delete them there first; the address of default/kubernetes cannot change, so another --service-cidr needs another state directory
    ");
    let address = web.cluster_ip.unwrap();
    let moved = start("10.43.0.0/16", "31000-31009").await.unwrap_err();
    insta::assert_snapshot!(told(&moved).replace(&address, "172.20.0.N"), @r"
    2 of the stored Services' addresses and ports lie outside 10.43.0.0/16 and node ports 31000-31009: default/kubernetes 172.20.0.1, default/web 172.20.0.N
    hint: start with the --service-cidr and --service-node-port-range they were made with, or delete them there first; the address of default/kubernetes cannot change, so another --service-cidr needs another state directory
    ");
    start("172.20.0.0/16", "31000-31999").await.unwrap();
}
