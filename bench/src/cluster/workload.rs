//! Pods and Deployments to be measured, and how long the API takes to show them done.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use pintle_client::{Cache, Change, Client, ListParams, delete_options};
use serde_json::json;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// One namespace's pods under measurement.
pub struct Workload {
    client: Client,
    image: String,
    pods: Cache<Pod>,
    deployments: Cache<Deployment>,
}

impl Workload {
    /// Starts watching.
    pub async fn new(client: &Client, image: &str) -> Result<Workload> {
        let accounts = Cache::<ServiceAccount>::builder(client).namespace("default").start();
        let pods = Cache::<Pod>::builder(client).namespace("default").start();
        let deployments = Cache::<Deployment>::builder(client).namespace("default").start();
        accounts.synced().await;
        pods.synced().await;
        deployments.synced().await;
        let workload = Workload { client: client.clone(), image: image.to_owned(), pods, deployments };
        until(&accounts, |account| account.is_some_and(|a| a.metadata.name.as_deref() == Some("default"))).await?;
        Ok(workload)
    }

    fn template(&self) -> serde_json::Value {
        json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": self.image, "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "mkdir -p /www && echo ok > /www/index.html && exec httpd -f -p 8080 -h /www"],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        })
    }

    /// Creates one pod; how long until the API shows it Running.
    pub async fn pod(&self, name: &str) -> Result<Duration> {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": self.template(),
        }))?;
        let start = Instant::now();
        self.client.create(&pod).await?;
        until(&self.pods, |pod| {
            pod.is_some_and(|p| {
                p.metadata.name.as_deref() == Some(name)
                    && p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
            })
        })
        .await?;
        let took = start.elapsed();
        self.client.delete::<Pod>("default", name, &delete_options(None, Some(0))).await?;
        self.no_pods().await?;
        Ok(took)
    }

    /// Creates a Deployment whose pods have an HTTP readiness probe; how long until all are ready.
    pub async fn deployment(&self, name: &str, replicas: i32) -> Result<Duration> {
        let mut spec = self.template();
        spec["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
        let deployment: Deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
            },
        }))?;
        let start = Instant::now();
        self.client.create(&deployment).await?;
        until(&self.deployments, |deployment| {
            deployment.is_some_and(|d| {
                d.metadata.name.as_deref() == Some(name)
                    && d.status.as_ref().and_then(|s| s.ready_replicas) == Some(replicas)
            })
        })
        .await?;
        Ok(start.elapsed())
    }

    /// Deletes everything and waits until it is gone.
    pub async fn clear(&self) -> Result<()> {
        let options = delete_options(None, None);
        self.client.delete_collection::<Deployment>("default", &ListParams::all(), &options).await?;
        self.no_pods().await
    }

    async fn no_pods(&self) -> Result<()> {
        let mut changes = self.pods.subscribe();
        let empty = async {
            while !self.pods.list().is_empty() {
                changes.next().await;
            }
        };
        if tokio::time::timeout(PATIENCE, empty).await.is_err() {
            bail!("pods are not gone after {PATIENCE:?}");
        }
        Ok(())
    }
}

/// Waits until one object of the cache, as it is now or becomes, is as wanted.
async fn until<K: pintle_client::Object>(cache: &Cache<K>, wanted: impl Fn(Option<&K>) -> bool) -> Result<()> {
    let mut changes = cache.subscribe();
    if cache.list().iter().any(|object| wanted(Some(object))) {
        return Ok(());
    }
    let seen = async {
        loop {
            match changes.next().await {
                Change::Applied { new, .. } if wanted(Some(&new)) => return,
                Change::Resync if cache.list().iter().any(|object| wanted(Some(object))) => return,
                Change::Applied { .. } | Change::Deleted { .. } | Change::Resync => {}
            }
        }
    };
    if tokio::time::timeout(PATIENCE, seen).await.is_err() {
        bail!("not seen within {PATIENCE:?}");
    }
    Ok(())
}
