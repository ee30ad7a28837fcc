//! A replica of a collection, kept by list and watch.
//!
//! ```text
//!            start                 initial events end / list complete
//!   (empty) ───────► Collecting ───────────────────────────────────────► Live ◄──┐ watch ended: resume from
//!                        ▲                                                │  │     │ the last revision
//!                        └──────── 410 Gone: collect again, diff ─────────┘  └─────┘
//! ```
//!
//! What is held stays visible while the cache collects again; the difference is then told as ordinary changes.

mod driver;
mod replica;

use crate::{Client, Error, Held, ObjectKey, PartialObject, collection_path};
pub use replica::{Change, Snapshot};
use replica::{Replica, Trim};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// How far a cache has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    pub(crate) synced: bool,
    pub(crate) revision: u64,
}

pub(crate) struct Shared<K> {
    state: Mutex<State<K>>,
    progress: watch::Sender<Progress>,
}

struct State<K> {
    replica: Replica<K>,
    subscribers: Vec<mpsc::UnboundedSender<Change<K>>>,
}

/// Objects of one kind by namespace and name, never older than what [`Cache::wait_revision`] was asked for. Clones
/// share the replica; when the last one and every subscription are gone, the watch ends.
pub struct Cache<K> {
    shared: Arc<Shared<K>>,
    _driver: Arc<AbortOnDrop>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _driver: self._driver.clone() }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What to replicate.
pub struct Builder<K> {
    client: Client,
    path: String,
    accept: &'static str,
    labels: String,
    fields: String,
    trim: Option<Box<Trim<K>>>,
    keep_managed_fields: bool,
}

/// The changes of a cache, in order, without gaps. Unbounded: a subscriber must keep up or drop it.
pub struct Subscription<K> {
    changes: mpsc::UnboundedReceiver<Change<K>>,
    _cache: Cache<K>,
}

impl<K> Subscription<K> {
    /// The next change; waits for one.
    pub async fn next(&mut self) -> Change<K> {
        self.changes.recv().await.expect("the cache this subscription holds keeps the sending half")
    }

    /// The next change that has already come.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        self.changes.try_recv().ok()
    }
}

impl<K: Held> Cache<K> {
    /// A cache of all objects of a kind, in all namespaces, unless narrowed.
    pub fn builder(client: &Client) -> Builder<K> {
        Builder {
            client: client.clone(),
            path: collection_path::<K::Kind>(""),
            accept: "application/json",
            labels: String::new(),
            fields: String::new(),
            trim: None,
            keep_managed_fields: false,
        }
    }

    /// A cache of everything of a kind with the defaults.
    pub fn start(client: &Client) -> Self {
        Self::builder(client).start()
    }
}

impl Cache<PartialObject> {
    /// A cache of the metadata of whatever lies at `path` (`/apis/apps/v1/deployments`).
    pub fn metadata(client: &Client, path: &str) -> Builder<PartialObject> {
        let mut builder = Self::builder(client);
        builder.path = path.to_owned();
        builder.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        builder
    }
}

impl<K: Held> Builder<K> {
    /// Only this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.path = collection_path::<K::Kind>(namespace);
        self
    }

    /// Only what this field selector matches.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = selector.to_owned();
        self
    }

    /// Only what this label selector matches.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = selector.to_owned();
        self
    }

    /// Drops fields nobody here reads, to save memory.
    #[must_use]
    pub fn trim(mut self, trim: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.trim = Some(Box::new(trim));
        self
    }

    /// Keeps `metadata.managedFields`, which are otherwise dropped: nobody who plans from a cache reads them, and an
    /// update without them leaves them alone.
    #[must_use]
    pub fn keep_managed_fields(mut self) -> Self {
        self.keep_managed_fields = true;
        self
    }

    /// Starts the list and watch on the current tokio runtime.
    pub fn start(self) -> Cache<K> {
        let (inner, keep) = (self.trim, self.keep_managed_fields);
        let trim: Box<Trim<K>> = Box::new(move |object: &mut K| {
            if !keep {
                object.drop_managed_fields();
            }
            if let Some(inner) = &inner {
                inner(object);
            }
        });
        let state = State { replica: Replica::new(trim), subscribers: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), progress: watch::Sender::new(Progress::default()) });
        let driver = driver::Driver {
            client: self.client,
            path: self.path,
            accept: self.accept,
            labels: self.labels,
            fields: self.fields,
            shared: shared.clone(),
        };
        Cache { shared, _driver: Arc::new(AbortOnDrop(tokio::spawn(driver.run()))) }
    }
}

impl<K> Cache<K> {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shared.with(|s| s.replica.snapshot().get(&ObjectKey::new(namespace, name)).cloned())
    }

    /// All objects, in order of namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.with(|s| s.replica.snapshot().objects.values().cloned().collect())
    }

    /// All objects of one revision; costs one reference count.
    pub fn snapshot(&self) -> Snapshot<K> {
        self.shared.with(|s| s.replica.snapshot().clone())
    }

    /// Everything up to this revision is in the cache.
    pub fn revision(&self) -> u64 {
        self.shared.progress.borrow().revision
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.borrow().synced
    }

    /// Waits until the first list is complete. It retries for ever; callers who cannot wait use a time-out.
    pub async fn synced(&self) {
        self.wait(|p| p.synced).await;
    }

    /// Waits until the cache is complete up to `revision`: call it with the `resourceVersion` a write returned
    /// ([`crate::revision_of`]) before planning again. The write must be to an object this cache selects.
    pub async fn wait_revision(&self, revision: u64) {
        self.wait(|p| p.synced && p.revision >= revision).await;
    }

    async fn wait(&self, condition: impl FnMut(&Progress) -> bool) {
        let mut progress = self.shared.progress.subscribe();
        progress.wait_for(condition).await.expect("the cache holds the sending half");
    }

    /// Starts a subscription: first `Applied` for everything held, and `Resync` if the cache is synced; then changes
    /// as they come. Nothing is missed or told twice between the two.
    pub fn subscribe(&self) -> Subscription<K> {
        let (sender, changes) = mpsc::unbounded_channel();
        self.shared.with(|s| {
            // The receiver lives in this function: sending cannot fail.
            for object in s.replica.snapshot().objects.values() {
                let _ = sender.send(Change::Applied { new: object.clone(), old: None });
            }
            if s.replica.is_synced() {
                let _ = sender.send(Change::Resync);
            }
            s.subscribers.push(sender);
        });
        Subscription { changes, _cache: self.clone() }
    }
}

impl<K> Shared<K> {
    fn with<R>(&self, f: impl FnOnce(&mut State<K>) -> R) -> R {
        // A panic under the lock leaves a consistent replica: changes are applied by single map operations.
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the replica, tells the subscribers, then says how far we are.
    pub(crate) fn change(&self, f: impl FnOnce(&mut Replica<K>) -> Result<Vec<Change<K>>, Error>) -> Result<(), Error> {
        let progress = self.with(|s| {
            let changes = f(&mut s.replica)?;
            s.subscribers.retain(|to| changes.iter().all(|c| to.send(c.clone()).is_ok()) && !to.is_closed());
            Ok::<_, Error>(Progress { synced: s.replica.is_synced(), revision: s.replica.revision() })
        })?;
        self.progress.send_if_modified(|p| std::mem::replace(p, progress) != progress);
        Ok(())
    }

    pub(crate) fn revision(&self) -> u64 {
        self.progress.borrow().revision
    }
}
