//! Mirror pods: what the API server shows of static pods.
//!
//! Owns: making missing mirrors, removing those without a manifest, trying again. Does not own: the manifests
//! (`manifests`), running them (`worker`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_client::{Backoff, Cache};
use pintle_kubelet_plan::containers::{name, namespace, uid};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::chain;
use crate::manifests;

/// Static pods by namespace and name.
pub(crate) type Statics = BTreeMap<(String, String), Arc<Pod>>;

/// A pod as [`Statics`] and the API server name it.
pub(crate) fn key(pod: &Pod) -> (String, String) {
    (namespace(pod).to_owned(), name(pod).to_owned())
}

/// Writes mirrors.
pub(crate) struct Mirrors {
    ctx: Arc<Context>,
    backoff: Backoff,
    retry: mpsc::UnboundedSender<()>,
    due: mpsc::UnboundedReceiver<()>,
}

impl Mirrors {
    pub(crate) fn new(ctx: Arc<Context>) -> Mirrors {
        let (retry, due) = mpsc::unbounded_channel();
        Mirrors { ctx, backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)), retry, due }
    }

    /// Waits until something that failed is to be tried again: then [`Mirrors::sync`] follows.
    pub(crate) async fn due(&mut self) {
        if self.due.recv().await.is_none() {
            // Cannot be: the other end is ours.
            std::future::pending().await
        }
    }

    /// Makes missing mirrors, removes those without a manifest; returns the mirrors that stand, with their pods.
    pub(crate) fn sync(&mut self, statics: &Statics, cache: &Cache<Pod>) -> Vec<(Arc<Pod>, Arc<Pod>)> {
        if !cache.is_synced() {
            // An empty list would say nothing; this is called again when it is there.
            return Vec::new();
        }
        let mut standing = Vec::new();
        for pod in statics.values() {
            match cache.get(namespace(pod), name(pod)) {
                Some(mirror) if is_mirror_of(&mirror, pod) => standing.push((pod.clone(), mirror)),
                // Another mirror goes below, and a new one follows its deletion.
                Some(other) if manifests::mirrored(&other).is_some() => {}
                Some(_) => {
                    tracing::warn!(pod = name(pod), "another pod has the static pod's name; it is not shown");
                }
                None => self.make(pod),
            }
        }
        for mirror in cache.list().iter().filter(|p| manifests::mirrored(p).is_some()) {
            if !statics.get(&key(mirror)).is_some_and(|pod| is_mirror_of(mirror, pod)) {
                self.delete(mirror);
            }
        }
        standing
    }

    /// Makes a pod's mirror.
    pub(crate) fn make(&mut self, pod: &Arc<Pod>) {
        let (ctx, pod, failed) = (self.ctx.clone(), pod.clone(), self.after_failure());
        tokio::spawn(async move {
            // Without its owner a mirror is only not collected with the node.
            let node = ctx.client.get::<Node>("", &ctx.config.node_name).await.ok();
            match ctx.client.create(&manifests::mirror(&pod, node.as_ref())).await {
                Ok(_) => {}
                // The watch brings it.
                Err(e) if e.is_already_exists() => {}
                Err(e) => {
                    tracing::warn!(pod = name(&pod), error = chain(&e), "cannot make a mirror pod");
                    failed.await;
                }
            }
        });
    }

    /// Deletes a mirror.
    pub(crate) fn delete(&mut self, mirror: &Arc<Pod>) {
        let (ctx, mirror, failed) = (self.ctx.clone(), mirror.clone(), self.after_failure());
        tokio::spawn(async move {
            let options = pintle_client::delete_options(Some(uid(&mirror)), Some(0));
            match ctx.client.delete::<Pod>(namespace(&mirror), name(&mirror), &options).await {
                Ok(_) => {}
                // Gone, or another pod of that name by now: the watch tells.
                Err(e) if e.is_not_found() || e.is_conflict() => {}
                Err(e) => {
                    tracing::warn!(pod = name(&mirror), error = chain(&e), "cannot delete a mirror pod");
                    failed.await;
                }
            }
        });
    }

    /// Asks for another [`Mirrors::sync`] after a while.
    fn after_failure(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (pause, retry) = (self.backoff.delay(), self.retry.clone());
        async move {
            tokio::time::sleep(pause).await;
            // The manager may have ended meanwhile.
            let _ = retry.send(());
        }
    }
}

/// Whether a mirror shows this very manifest and is not on its way out.
pub(crate) fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    manifests::mirrored(mirror) == Some(uid(pod)) && mirror.metadata.deletion_timestamp.is_none()
}
