//! All pods of the node: who has a task, who gets one, who is an orphan.
//!
//! Owns: the way from watch events and manifests to pods' tasks, admission's order, mirror pods, orphans.
//! Does not own: a pod's life (`worker`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_client::{Cache, Change};
use pintle_kubelet_plan::admission::{NodeView, admit};
use pintle_kubelet_plan::containers::{name, namespace, uid};
use pintle_kubelet_plan::node::labels;
use pintle_kubelet_plan::observed::Rejection;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::chain;
use crate::worker::{Handle, Message, PodView, Worker, blocking, tear_down_orphan};
use crate::{disk, manifests};

/// Every pod's task, as the kubelet's API sees them too.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<Mutex<HashMap<String, Handle>>>);

impl Pods {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Handle>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    /// What is known of every pod.
    pub(crate) fn views(&self) -> Vec<PodView> {
        self.with(|pods| pods.values().map(|h| h.view.borrow().clone()).collect())
    }
    /// The pod of that name; of several the one that is not ending.
    pub(crate) fn find(&self, wanted_namespace: &str, wanted: &str) -> Option<PodView> {
        let mut all = self.views();
        all.retain(|v| namespace(&v.pod) == wanted_namespace && name(&v.pod) == wanted);
        all.sort_by_key(|v| v.pod.metadata.deletion_timestamp.is_some());
        all.into_iter().next()
    }
    /// News of a pod; `None` if it is gone.
    pub(crate) fn watch(&self, pod: &Pod) -> Option<tokio::sync::watch::Receiver<PodView>> {
        self.with(|pods| pods.get(uid(pod)).map(|h| h.view.clone()))
    }
    fn tell(&self, uid: &str, message: Message) -> bool {
        // A task that just ended is about to be taken off the list.
        self.with(|pods| pods.get(uid).map(|h| drop(h.tell.send(message))).is_some())
    }
}

/// Decides who gets a task.
pub(crate) struct Manager {
    pub(crate) ctx: Arc<Context>,
    pub(crate) pods: Pods,
    pub(crate) node: NodeView,
    statics: BTreeMap<(String, String), Arc<Pod>>,
    ended: mpsc::UnboundedReceiver<String>,
    end: mpsc::UnboundedSender<String>,
}

impl Manager {
    pub(crate) fn new(ctx: Arc<Context>, pods: Pods, facts: &pintle_kubelet_plan::node::MachineFacts) -> Manager {
        let (end, ended) = mpsc::unbounded_channel();
        let node = NodeView {
            name: ctx.config.node_name.clone(),
            labels: labels(facts),
            cpu_milli: ctx.facts.allocatable_cpu_milli,
            memory: ctx.facts.allocatable_memory,
            pods_max: usize::try_from(ctx.config.max_pods).unwrap_or(usize::MAX),
        };
        Manager { ctx, pods, node, statics: BTreeMap::new(), ended, end }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let fields = format!("spec.nodeName={}", self.ctx.config.node_name);
        let cache = Cache::<Pod>::builder(&self.ctx.client).fields(&fields).start();
        let mut changes = cache.subscribe();
        let watch = self.watch_manifests();
        self.read_manifests(&cache).await;
        let mut orphans_swept = false;
        loop {
            let manifests = async {
                match &watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => {
                    let synced = matches!(change, Change::Resync);
                    self.change(change, &cache);
                    if synced && !orphans_swept {
                        orphans_swept = true;
                        self.sync_mirrors(&cache);
                        self.sweep_orphans(&cache);
                    }
                }
                () = manifests => self.read_manifests(&cache).await,
                Some(uid) = self.ended.recv() => self.forget(&uid, &cache),
            }
        }
    }

    fn change(&mut self, change: Change<Pod>, cache: &Cache<Pod>) {
        match change {
            Change::Applied { new, .. } if manifests::mirrored(&new).is_some() => self.mirror_changed(&new),
            Change::Applied { new, .. } => self.see(new),
            Change::Deleted { old } if manifests::mirrored(&old).is_some() => {
                let key = (namespace(&old).to_owned(), name(&old).to_owned());
                if let Some(pod) = self.statics.get(&key).cloned() {
                    self.pods.tell(uid(&pod), Message::Mirror(None));
                    self.make_mirror(&pod, cache);
                }
            }
            Change::Deleted { old } => drop(self.pods.tell(uid(&old), Message::Gone(old.clone()))),
            Change::Resync => {}
        }
    }

    /// A pod of the API server: its task is told, or it gets one.
    fn see(&mut self, pod: Arc<Pod>) {
        if self.pods.tell(uid(&pod), Message::Pod(pod.clone())) {
            return;
        }
        let rejection = self.admission(&pod);
        self.begin(pod, false, rejection);
    }

    fn begin(&self, pod: Arc<Pod>, is_static: bool, rejection: Option<Rejection>) {
        let end = self.end.clone();
        let key = uid(&pod).to_owned();
        // The manager may have been dropped; nobody keeps a list then.
        let handle = Worker::spawn(self.ctx.clone(), pod, is_static, rejection, move |uid| drop(end.send(uid)));
        self.pods.with(|pods| pods.insert(key, handle));
    }

    /// Why the node refuses a pod it has never started.
    fn admission(&self, pod: &Pod) -> Option<Rejection> {
        let status = pod.status.as_ref();
        let begun = status.is_some_and(|s| s.start_time.is_some()) || pod.metadata.deletion_timestamp.is_some();
        if begun {
            return None;
        }
        let over = |view: &PodView| matches!(view.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let others: Vec<Arc<Pod>> = self.pods.views().into_iter().filter(|v| !over(v)).map(|v| v.pod).collect();
        let others: Vec<&Pod> = others.iter().map(|p| &**p).collect();
        let rejection = admit(pod, &others, &self.node).err()?;
        self.ctx.event(pod, None, &rejection.reason, rejection.message.clone());
        Some(rejection)
    }

    /// A task ended; if its static pod is still wanted, or its pod came back meanwhile, it starts again.
    fn forget(&mut self, ended: &str, cache: &Cache<Pod>) {
        self.pods.with(|pods| pods.remove(ended));
        let again = self.statics.values().find(|p| uid(p) == ended).cloned();
        if let Some(pod) = again {
            self.begin(pod, true, None);
        }
        let listed = cache.list().into_iter().find(|p| uid(p) == ended && manifests::mirrored(p).is_none());
        if let Some(pod) = listed {
            tracing::debug!(pod = name(&pod), "a pod that ended is still listed; its deletion is on its way");
        }
    }

    fn watch_manifests(&self) -> Option<crate::watch::Watch> {
        let dir = self.ctx.config.manifests.as_ref()?;
        let watch = disk::make_dir(dir, 0o700).and_then(|()| self.ctx.watcher.watch(dir));
        watch.inspect_err(|e| tracing::error!(error = chain(e), "cannot watch static pods")).ok()
    }

    async fn read_manifests(&mut self, cache: &Cache<Pod>) {
        let Some(dir) = self.ctx.config.manifests.clone() else { return };
        let node_name = self.ctx.config.node_name.clone();
        let read = blocking(move || manifests::read(&dir, &node_name)).await;
        let pods = match read {
            Ok(pods) => pods,
            // A directory that cannot be read says nothing about what should run.
            Err(e) => return tracing::error!(error = chain(&e), "cannot read static pods"),
        };
        let key = |p: &Pod| (namespace(p).to_owned(), name(p).to_owned());
        let new: BTreeMap<_, Arc<Pod>> = pods.into_iter().map(|p| (key(&p), Arc::new(p))).collect();
        for old in self.statics.values() {
            if new.values().all(|p| uid(p) != uid(old)) {
                self.pods.tell(uid(old), Message::Gone(old.clone()));
            }
        }
        self.statics = new;
        for pod in self.statics.values().cloned().collect::<Vec<_>>() {
            if !self.pods.with(|pods| pods.contains_key(uid(&pod))) {
                self.begin(pod, true, None);
            }
        }
        if cache.is_synced() {
            self.sync_mirrors(cache);
        }
    }

    /// Makes missing mirrors, removes those without a manifest.
    fn sync_mirrors(&self, cache: &Cache<Pod>) {
        for pod in self.statics.values() {
            match cache.get(namespace(pod), name(pod)) {
                Some(mirror) => self.mirror_changed(&mirror),
                None => self.make_mirror(pod, cache),
            }
        }
        for mirror in cache.list().iter().filter(|p| manifests::mirrored(p).is_some()) {
            if !self.statics.contains_key(&(namespace(mirror).to_owned(), name(mirror).to_owned())) {
                self.delete_mirror(mirror);
            }
        }
    }

    fn mirror_changed(&self, mirror: &Arc<Pod>) {
        let key = (namespace(mirror).to_owned(), name(mirror).to_owned());
        let pod = self.statics.get(&key);
        let current = pod.filter(|p| manifests::mirrored(mirror) == Some(uid(p)));
        match current {
            Some(pod) if mirror.metadata.deletion_timestamp.is_none() => {
                self.pods.tell(uid(pod), Message::Mirror(Some(mirror.clone())));
            }
            // Deleted by a user, or of an older manifest: it goes, and a new one follows its deletion.
            Some(_) | None => self.delete_mirror(mirror),
        }
    }

    fn make_mirror(&self, pod: &Arc<Pod>, cache: &Cache<Pod>) {
        if !cache.is_synced() {
            return;
        }
        let (ctx, pod) = (self.ctx.clone(), pod.clone());
        tokio::spawn(async move {
            let node = ctx.client.get::<Node>("", &ctx.config.node_name).await.ok();
            if let Err(e) = ctx.client.create(&manifests::mirror(&pod, node.as_ref())).await {
                tracing::warn!(pod = name(&pod), error = chain(&e), "cannot make a mirror pod");
            }
        });
    }

    fn delete_mirror(&self, mirror: &Arc<Pod>) {
        let (ctx, mirror) = (self.ctx.clone(), mirror.clone());
        tokio::spawn(async move {
            let options = pintle_client::delete_options(Some(uid(&mirror)), Some(0));
            if let Err(e) = ctx.client.delete::<Pod>(namespace(&mirror), name(&mirror), &options).await {
                tracing::debug!(pod = name(&mirror), error = chain(&e), "cannot delete a mirror pod");
            }
        });
    }

    /// Pods on disk that neither the API server nor the manifests know: only now that both have been read.
    fn sweep_orphans(&self, cache: &Cache<Pod>) {
        let dirs = &self.ctx.config.dirs;
        let mut found = disk::names(&dirs.run.join("pods")).unwrap_or_default();
        found.extend(disk::names(&dirs.state.join("agent/pods")).unwrap_or_default());
        found.extend(pintle_net::pod::list(&dirs.run).unwrap_or_default());
        found.sort();
        found.dedup();
        let known = cache.list();
        found.retain(|uid_found| {
            known.iter().all(|p| uid(p) != uid_found) && !self.pods.with(|pods| pods.contains_key(uid_found))
        });
        for orphan in found {
            tracing::info!(pod = orphan, "removing a pod nobody knows any more");
            let ctx = self.ctx.clone();
            tokio::spawn(async move {
                if let Err(e) = tear_down_orphan(ctx, orphan.clone()).await {
                    tracing::warn!(pod = orphan, error = chain(&e), "cannot remove an orphaned pod");
                }
            });
        }
    }
}
