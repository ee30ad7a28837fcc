//! From caches to the driver: changes in order, and how far each kind has come.
//!
//! A kind that some controller reads whole is cached typed; of every other only metadata is asked for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_client::{Cache, Change, Client, Object as ClientObject, PartialObject};
use pintle_control_plan::controllers::{KindRef, Name, Object, Scoped};
use pintle_control_plan::kind::ApiObject;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

/// One object as it now is; None when it is gone.
pub(super) type Update = (Name, Option<Arc<dyn Object>>);

/// News of one kind.
pub(super) struct Batch {
    /// Which kind.
    pub kind: KindRef,
    /// In order.
    pub updates: Vec<Update>,
    /// Everything up to this revision has been told.
    pub revision: u64,
}

type Starter = fn(&Client, UnboundedSender<Batch>) -> JoinHandle<()>;

/// Kinds that are cached typed when a controller watches them.
const TYPED: &[(KindRef, Starter)] = pintle_control_plan::typed_kinds!(typed);

/// Whether a controller may watch this kind whole.
pub(super) fn is_typed(kind: KindRef) -> bool {
    TYPED.iter().any(|(k, _)| *k == kind)
}

/// Starts the feed of one kind: typed if `whole`, else metadata alone.
pub(super) fn start(kind: KindRef, whole: bool, client: &Client, to: UnboundedSender<Batch>) -> JoinHandle<()> {
    match TYPED.iter().find(|(k, _)| *k == kind && whole) {
        Some((_, starter)) => starter(client, to),
        None => {
            let cache = Cache::<PartialObject>::metadata(client, &path(kind)).trim(drop_bulk).start();
            let wrap = |object: &Arc<PartialObject>| -> Arc<dyn Object> { Arc::new(Partial(object.clone())) };
            tokio::spawn(forward(kind, cache, wrap, to))
        }
    }
}

/// Of objects kept by metadata alone nobody reads annotations, and some hold whole manifests.
fn drop_bulk(object: &mut PartialObject) {
    object.metadata.annotations = None;
}

/// Where the kind's objects of all namespaces are.
pub(super) fn path(kind: KindRef) -> String {
    if kind.group.is_empty() {
        format!("/api/{}/{}", kind.version, kind.plural)
    } else {
        format!("/apis/{}/{}/{}", kind.group, kind.version, kind.plural)
    }
}

/// The driver's view of an object of which only metadata is held.
struct Partial(Arc<PartialObject>);

impl Object for Partial {
    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }
    fn any(&self) -> &dyn std::any::Any {
        self
    }
}

fn typed<K>(client: &Client, to: UnboundedSender<Batch>) -> JoinHandle<()>
where
    K: ClientObject + ApiObject,
    K::Scope: Scoped,
{
    let wrap = |object: &Arc<K>| -> Arc<dyn Object> { object.clone() };
    tokio::spawn(forward(KindRef::of::<K>(), Cache::<K>::start(client), wrap, to))
}

/// Tells changes before the revision that covers them: the revision is read first, then the changes are drained.
async fn forward<K: ClientObject>(
    kind: KindRef,
    cache: Cache<K>,
    wrap: impl Fn(&Arc<K>) -> Arc<dyn Object>,
    to: UnboundedSender<Batch>,
) {
    cache.synced().await;
    let mut subscription = cache.subscribe();
    let mut told = None;
    loop {
        let mut updates = Vec::new();
        if let Some(revision) = told {
            tokio::select! {
                change = subscription.next() => updates.extend(update(change, &wrap)),
                () = cache.wait_revision(revision + 1) => {}
            }
        }
        let revision = cache.revision();
        while let Some(change) = subscription.try_next() {
            updates.extend(update(change, &wrap));
        }
        told = Some(revision);
        if to.send(Batch { kind, updates, revision }).is_err() {
            return;
        }
    }
}

fn update<K: ClientObject>(change: Change<K>, wrap: &impl Fn(&Arc<K>) -> Arc<dyn Object>) -> Option<Update> {
    let name = |object: &Arc<K>| {
        let meta = object.metadata();
        Name::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    };
    match change {
        Change::Applied { new, .. } => Some((name(&new), Some(wrap(&new)))),
        Change::Deleted { old } => Some((name(&old), None)),
        Change::Resync => None,
    }
}
