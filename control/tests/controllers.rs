//! The driver and every controller against the real API server, in one process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Client, Identity, ListParams, Wire, delete_options};
use pintle_control::apiserver::{self, ApiServerConfig, Handle, LEAF_LIFE_S, ServiceRanges};
use pintle_control::controllers::{Config, run_with_scheduler};
use tokio_util::sync::CancellationToken;

struct World {
    admin: Client,
    cancel: CancellationToken,
    controllers: tokio::task::JoinHandle<Result<(), pintle_control::controllers::Error>>,
    handle: Handle,
    _state: tempfile::TempDir,
}

fn client(handle: &Handle, user: &'static str, groups: &'static [&'static str]) -> Client {
    let handle = handle.clone();
    let dial = move || -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Wire>> + Send>> {
        let io = handle.local_client_stream(user, groups);
        Box::pin(async move { Ok(Wire { io: Box::new(io), http2: true }) })
    };
    Client::over(Box::new(dial), Identity::None, "test").unwrap()
}

impl World {
    async fn start() -> World {
        let state = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let config = ApiServerConfig {
            state_dir: state.path().to_owned(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            server_url: "https://127.0.0.1:6443".to_owned(),
            names: Vec::new(),
            advertise: None,
            ranges: ServiceRanges::default(),
            certificate_life_s: LEAF_LIFE_S,
        };
        let handle = apiserver::start(config, cancel.clone()).await.unwrap();
        let manager = client(&handle, "system:kube-controller-manager", &[]);
        let scheduler = client(&handle, "system:kube-scheduler", &[]);
        let settings = Config::new(state.path().join("server/pki"));
        let controllers = tokio::spawn(run_with_scheduler(settings, manager, scheduler, cancel.clone()));
        let admin = client(&handle, "admin", &["system:masters"]);
        World { admin, cancel, controllers, handle, _state: state }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.controllers.await.unwrap().unwrap();
        self.handle.stopped().await;
    }
}

/// Waits until `check` gives something, at most ten seconds.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_gets_the_root_certificate_and_is_emptied_when_it_goes() {
    let world = World::start().await;
    let admin = &world.admin;
    admin.create::<Namespace>(&object(serde_json::json!({"metadata": {"name": "team"}}))).await.unwrap();
    let published =
        until("kube-root-ca.crt", || async { admin.get::<ConfigMap>("team", "kube-root-ca.crt").await.ok() });
    assert_eq!(published.await.data.unwrap()["ca.crt"], world.handle.ca_pem);
    // Somebody spoils it: it is put right.
    let spoil = pintle_client::Patch::Merge(serde_json::json!({"data": {"ca.crt": "x"}}));
    admin.patch::<ConfigMap>("team", "kube-root-ca.crt", &spoil).await.unwrap();
    until("the certificate is back", || async {
        let map = admin.get::<ConfigMap>("team", "kube-root-ca.crt").await.ok()?;
        (map.data?["ca.crt"] == world.handle.ca_pem).then_some(())
    })
    .await;
    admin.delete::<Namespace>("", "team", &delete_options(None, None)).await.unwrap();
    until("the namespace is gone", || async {
        admin.get::<Namespace>("", "team").await.err().filter(pintle_client::Error::is_not_found)
    })
    .await;
    let left = admin.list::<ConfigMap>("", &ListParams::all()).await.unwrap();
    assert!(left.items.iter().all(|m| m.metadata.namespace.as_deref() != Some("team")));
    world.stop().await;
}

/// A node that is ready, and a kubelet that says every bound pod runs and every deleted one has ended.
async fn join(admin: &Client, name: &str) {
    let node = serde_json::json!({"metadata": {"name": name}});
    admin.create::<Node>(&object(node)).await.unwrap();
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap();
    let status = pintle_client::Patch::Merge(serde_json::json!({"status": {
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}],
    }}));
    admin.patch_sub::<Node>("", name, "status", &status).await.unwrap();
}

async fn kubelet(admin: Client, cancel: CancellationToken) {
    let cache = pintle_client::Cache::<Pod>::start(&admin);
    let mut changes = cache.subscribe();
    let mut next = 0;
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = cancel.cancelled() => return,
        };
        let pintle_client::Change::Applied { new: pod, .. } = change else { continue };
        let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap(), pod.metadata.name.as_deref().unwrap());
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if bound && pod.metadata.deletion_timestamp.is_some() {
            let _ = admin.delete::<Pod>(namespace, name, &delete_options(None, Some(0))).await;
        } else if bound && phase != Some("Running") {
            next += 1;
            let ip = format!("10.42.0.{next}");
            let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap();
            let status = pintle_client::Patch::Merge(serde_json::json!({"status": {
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            }}));
            let _ = admin.patch_sub::<Pod>(namespace, name, "status", &status).await;
        }
    }
}

fn deployment(replicas: i32, image: &str) -> Deployment {
    object(serde_json::json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]},
            },
        },
    }))
}

fn available(d: &Deployment) -> i32 {
    d.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_runs_answers_behind_its_service_rolls_and_goes() {
    let world = World::start().await;
    let admin = &world.admin;
    until("the default service account", || async { admin.get::<ServiceAccount>("default", "default").await.ok() })
        .await;
    join(admin, "n1").await;
    let node = until("the node's pod range", || async {
        let node = admin.get::<Node>("", "n1").await.ok()?;
        let free = node.spec.as_ref()?.taints.as_ref().is_none_or(Vec::is_empty);
        node.spec.as_ref()?.pod_cidr.clone().filter(|_| free)
    });
    assert_eq!(node.await, "10.42.0.0/24");
    tokio::spawn(kubelet(admin.clone(), world.cancel.clone()));
    let service = serde_json::json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    admin.create::<Service>(&object(service)).await.unwrap();
    let start = Instant::now();
    admin.create::<Deployment>(&deployment(3, "a")).await.unwrap();
    until("three available pods", || async {
        admin.get::<Deployment>("default", "web").await.ok().filter(|d| available(d) == 3)
    })
    .await;
    eprintln!("three pods available after {:?}", start.elapsed());
    until("three endpoints", || async {
        let slices = admin
            .list::<EndpointSlice>("default", &ListParams::all().labels("kubernetes.io/service-name=web"))
            .await
            .ok()?;
        let ready = slices.items.iter().flat_map(|s| s.endpoints.iter().flatten());
        (ready.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count() == 3).then_some(())
    })
    .await;
    until("three addresses in Endpoints", || async {
        let endpoints = admin.get::<Endpoints>("default", "web").await.ok()?;
        (endpoints.subsets?.first()?.addresses.as_ref()?.len() == 3).then_some(())
    })
    .await;
    let image = pintle_client::Patch::Strategic(serde_json::json!(
        {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "b"}]}}}}));
    admin.patch::<Deployment>("default", "web", &image).await.unwrap();
    until("the rollout's end", || async {
        let d = admin.get::<Deployment>("default", "web").await.ok()?;
        let status = d.status.as_ref()?;
        let seen = status.observed_generation == d.metadata.generation;
        (seen && status.updated_replicas == Some(3) && status.replicas == Some(3) && available(&d) == 3).then_some(())
    })
    .await;
    let foreground: k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions =
        object(serde_json::json!({"propagationPolicy": "Foreground"}));
    admin.delete::<Deployment>("default", "web", &foreground).await.unwrap();
    until("everything of it is gone", || async {
        let sets = admin.list::<ReplicaSet>("default", &ListParams::all()).await.ok()?.items.len();
        let pods = admin.list::<Pod>("default", &ListParams::all()).await.ok()?.items.len();
        let gone = admin.get::<Deployment>("default", "web").await.err()?.is_not_found();
        (gone && sets + pods == 0).then_some(())
    })
    .await;
    world.stop().await;
}
