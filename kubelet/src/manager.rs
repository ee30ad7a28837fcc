//! All pods of the node: who has a task, who gets one, who is an orphan.
//!
//! Owns: the way from records, watch events and manifests to pods' tasks, admission's order, orphans.
//! Does not own: a pod's life (`worker`), mirror pods (`mirrors`).
//!
//! ```text
//!   records on disk ──> tasks go on at once, whether or not the API server answers
//!   manifests       ──> static pods: begun, told that they are gone, begun anew when their predecessor has ended
//!   API server      ──> pods begun, told of changes; once its list is in, what it does not know is told to end
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use pintle_client::{Cache, Change};
use pintle_kubelet_plan::admission::{NodeView, admit};
use pintle_kubelet_plan::containers::{name, namespace, uid};
use pintle_kubelet_plan::node::labels;
use pintle_kubelet_plan::observed::Rejection;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::chain;
use crate::mirrors::{Mirrors, Statics, is_mirror_of, key};
use crate::record::Record;
use crate::worker::{Handle, Message, Origin, PodView, Worker, blocking, tear_down_orphan};
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
    fn has(&self, uid: &str) -> bool {
        self.with(|pods| pods.contains_key(uid))
    }
    /// Pods of the API server that have a task.
    fn of_api_server(&self) -> Vec<Arc<Pod>> {
        let from_there = |h: &&Handle| h.origin == Origin::ApiServer;
        self.with(|pods| pods.values().filter(from_there).map(|h| h.view.borrow().pod.clone()).collect())
    }
}

/// Decides who gets a task.
pub(crate) struct Manager {
    pub(crate) ctx: Arc<Context>,
    pub(crate) pods: Pods,
    pub(crate) node: NodeView,
    statics: Statics,
    mirrors: Mirrors,
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
            storage: ctx.facts.allocatable_storage,
            pods_max: usize::try_from(ctx.config.max_pods).unwrap_or(usize::MAX),
            host: ctx.host,
        };
        let mirrors = Mirrors::new(ctx.clone());
        Manager { ctx, pods, node, statics: Statics::new(), mirrors, ended, end }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let fields = format!("spec.nodeName={}", self.ctx.config.node_name);
        let cache = Cache::<Pod>::builder(&self.ctx.client).fields(&fields).start();
        let mut changes = cache.subscribe();
        self.resume().await;
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
                    self.change(change);
                    if synced {
                        self.sync_mirrors(&cache);
                        self.end_unknown(&cache);
                    }
                    if synced && !orphans_swept {
                        orphans_swept = true;
                        self.sweep_orphans();
                    }
                }
                () = manifests => self.read_manifests(&cache).await,
                () = self.mirrors.due() => self.sync_mirrors(&cache),
                Some(uid) = self.ended.recv() => self.forget(&uid, &cache),
            }
        }
    }

    /// Goes on with the pods an earlier kubelet left: their records say what to do until their sources speak.
    async fn resume(&mut self) {
        let run = self.ctx.config.dirs.run.clone();
        let records = match blocking(move || Record::all(&run)).await {
            Ok(records) => records,
            Err(e) => return tracing::error!(error = chain(&e), "cannot read the pods' records"),
        };
        for record in records {
            let pod = Arc::new(record.pod);
            if record.is_static {
                // The first reading of the manifests tells those that lost theirs.
                self.statics.insert(key(&pod), pod.clone());
                self.begin(pod, Origin::Manifest, None);
            } else {
                self.begin(pod, Origin::ApiServer, None);
            }
        }
    }

    fn change(&mut self, change: Change<Pod>) {
        match change {
            Change::Applied { new, .. } if manifests::mirrored(&new).is_some() => self.mirror_changed(&new),
            Change::Applied { new, .. } => self.see(new),
            Change::Deleted { old } if manifests::mirrored(&old).is_some() => {
                if let Some(pod) = self.statics.get(&key(&old)).cloned() {
                    self.pods.tell(uid(&pod), Message::Mirror(None));
                    self.mirrors.make(&pod);
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
        self.begin(pod, Origin::ApiServer, rejection);
    }

    fn begin(&self, pod: Arc<Pod>, origin: Origin, rejection: Option<Rejection>) {
        let end = self.end.clone();
        let key = uid(&pod).to_owned();
        // The manager may have been dropped; nobody keeps a list then.
        let handle = Worker::spawn(self.ctx.clone(), pod, origin, rejection, move |uid| drop(end.send(uid)));
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

    /// A task ended; a static pod that waited for its end, or is still wanted, starts.
    fn forget(&mut self, ended: &str, cache: &Cache<Pod>) {
        self.pods.with(|pods| pods.remove(ended));
        self.start_statics();
        // The mirror of one that starts only now may have come before its task, which then missed it.
        self.sync_mirrors(cache);
    }

    fn watch_manifests(&self) -> Option<crate::watch::Watch> {
        let dir = self.ctx.config.manifests.as_ref()?;
        let watch = disk::make_dir(dir, 0o700).and_then(|()| self.ctx.watcher.watch(dir));
        watch.inspect_err(|e| tracing::error!(error = chain(e), "cannot watch static pods")).ok()
    }

    async fn read_manifests(&mut self, cache: &Cache<Pod>) {
        let pods = match self.ctx.config.manifests.clone() {
            Some(dir) => {
                let node_name = self.ctx.config.node_name.clone();
                blocking(move || manifests::read(&dir, &node_name)).await
            }
            None => Ok(Vec::new()),
        };
        let pods = match pods {
            Ok(pods) => pods,
            // A directory that cannot be read says nothing about what should run.
            Err(e) => return tracing::error!(error = chain(&e), "cannot read static pods"),
        };
        let new: Statics = pods.into_iter().map(|p| (key(&p), Arc::new(p))).collect();
        for old in self.statics.values() {
            if new.values().all(|p| uid(p) != uid(old)) {
                self.pods.tell(uid(old), Message::Gone(old.clone()));
            }
        }
        self.statics = new;
        self.start_statics();
        self.sync_mirrors(cache);
    }

    /// Starts static pods that have no task. One whose manifest changed waits for its predecessor: they may want the
    /// same port.
    fn start_statics(&self) {
        for pod in self.statics.values() {
            let of_name = |h: &Handle| h.origin == Origin::Manifest && key(&h.view.borrow().pod) == key(pod);
            let taken = self.pods.with(|pods| pods.contains_key(uid(pod)) || pods.values().any(of_name));
            if !taken {
                self.begin(pod.clone(), Origin::Manifest, self.admission(pod));
            }
        }
    }

    fn sync_mirrors(&mut self, cache: &Cache<Pod>) {
        for (pod, mirror) in self.mirrors.sync(&self.statics, cache) {
            self.pods.tell(uid(&pod), Message::Mirror(Some(mirror)));
        }
    }

    fn mirror_changed(&mut self, mirror: &Arc<Pod>) {
        match self.statics.get(&key(mirror)) {
            Some(pod) if is_mirror_of(mirror, pod) => {
                self.pods.tell(uid(pod), Message::Mirror(Some(mirror.clone())));
            }
            // Deleted by a user, or of an older manifest: it goes, and a new one follows its deletion.
            Some(_) | None => self.mirrors.delete(mirror),
        }
    }

    /// Pods that were resumed from their records and are no longer in the API server end as if deleted now.
    fn end_unknown(&self, cache: &Cache<Pod>) {
        for pod in self.pods.of_api_server() {
            let known = cache.get(namespace(&pod), name(&pod)).is_some_and(|p| uid(&p) == uid(&pod));
            if !known {
                self.pods.tell(uid(&pod), Message::Gone(pod.clone()));
            }
        }
    }

    /// Pods on disk without a record that could be resumed, known neither to the API server nor by a manifest: only
    /// now that both have been read.
    fn sweep_orphans(&self) {
        let dirs = &self.ctx.config.dirs;
        let mut found = disk::names(&dirs.run.join("pods")).unwrap_or_default();
        found.extend(disk::names(&dirs.state.join("agent/pods")).unwrap_or_default());
        found.extend(pintle_net::pod::list(&dirs.run).unwrap_or_default());
        found.sort();
        found.dedup();
        // Every pod of the list has a task by now, or has ended on this node and left nothing.
        found.retain(|uid_found| !self.pods.has(uid_found));
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
