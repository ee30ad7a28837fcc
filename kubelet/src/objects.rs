//! ConfigMaps and Secrets that pods of this node refer to: one watch for each, shared by all pods that need it.
//!
//! Owns: the watches' lives and who is told of changes. Does not own: what pods do with them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use pintle_client::{Cache, Change, Client, Object};
use pintle_kubelet_plan::containers::{namespace, uid};
use pintle_kubelet_plan::env::Objects;
use pintle_kubelet_plan::volumes::{References, references};
use tokio::sync::mpsc;

use crate::worker::Message;

/// Tells a pod that something it refers to changed.
pub(crate) type Tell = mpsc::UnboundedSender<Message>;

/// All watched objects.
pub(crate) struct ObjectStore {
    client: Client,
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
}

/// Watches of one kind, by (namespace, name).
type Entries<K> = Arc<Mutex<HashMap<(String, String), Entry<K>>>>;

struct Watched<K>(Entries<K>);

struct Entry<K> {
    cache: Cache<K>,
    pods: HashMap<String, Tell>,
    teller: tokio::task::JoinHandle<()>,
}

impl<K> Drop for Entry<K> {
    fn drop(&mut self) {
        self.teller.abort();
    }
}

impl ObjectStore {
    pub(crate) fn new(client: &Client) -> ObjectStore {
        let (config_maps, secrets) = (Watched(Arc::default()), Watched(Arc::default()));
        ObjectStore { client: client.clone(), config_maps, secrets }
    }

    /// Watches what the pod refers to, until [`ObjectStore::forget`].
    pub(crate) fn watch(&self, pod: &Pod, tell: &Tell) {
        let (maps, secrets) = references(pod);
        self.config_maps.watch(&self.client, pod, &maps, tell);
        self.secrets.watch(&self.client, pod, &secrets, tell);
    }

    /// Ends watches only this pod needed.
    pub(crate) fn forget(&self, pod_uid: &str) {
        self.config_maps.forget(pod_uid);
        self.secrets.forget(pod_uid);
    }

    /// What these references of the pod name, as it is now. Failing to look is an error, not an absence.
    pub(crate) async fn collect(
        &self,
        pod: &Pod,
        (maps, secrets): &References,
    ) -> Result<Objects, pintle_client::Error> {
        let mut out = Objects::default();
        for name in maps {
            let found = self.config_maps.get(&self.client, namespace(pod), name).await?;
            out.config_maps.insert(name.clone(), found.map(|o| (*o).clone()));
        }
        for name in secrets {
            let found = self.secrets.get(&self.client, namespace(pod), name).await?;
            out.secrets.insert(name.clone(), found.map(|o| (*o).clone()));
        }
        Ok(out)
    }
}

impl<K: Object> Watched<K> {
    fn watch(&self, client: &Client, pod: &Pod, names: &BTreeSet<String>, tell: &Tell) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            let key = (namespace(pod).to_owned(), name.clone());
            let entry = entries.entry(key.clone()).or_insert_with(|| {
                let fields = format!("metadata.name={name}");
                let cache = Cache::<K>::builder(client).namespace(&key.0).fields(&fields).start();
                let teller = tokio::spawn(tell_changes(cache.clone(), self.0.clone(), key));
                Entry { cache, pods: HashMap::new(), teller }
            });
            entry.pods.insert(uid(pod).to_owned(), tell.clone());
        }
    }

    fn forget(&self, pod_uid: &str) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| {
            entry.pods.remove(pod_uid);
            !entry.pods.is_empty()
        });
    }

    async fn get(&self, client: &Client, namespace: &str, name: &str) -> Result<Option<Arc<K>>, pintle_client::Error> {
        let cached = {
            let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.get(&(namespace.to_owned(), name.to_owned()));
            entry.filter(|e| e.cache.is_synced()).and_then(|e| e.cache.get(namespace, name))
        };
        if cached.is_some() {
            return Ok(cached);
        }
        // The watch may not have come this far, so that an absence in it proves nothing.
        match client.get::<K>(namespace, name).await {
            Ok(found) => Ok(Some(Arc::new(found))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

async fn tell_changes<K: Object>(cache: Cache<K>, entries: Entries<K>, key: (String, String)) {
    let mut changes = cache.subscribe();
    loop {
        match changes.next().await {
            Change::Resync => continue,
            Change::Applied { .. } | Change::Deleted { .. } => {}
        }
        let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        for tell in entries.get(&key).into_iter().flat_map(|e| e.pods.values()) {
            // A pod that is gone is about to be forgotten.
            let _ = tell.send(Message::ObjectsChanged);
        }
    }
}
