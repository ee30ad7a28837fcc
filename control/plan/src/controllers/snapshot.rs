//! What the caches hold: every object of the watched kinds, typed or by metadata alone, with an index by owner.
//!
//! Owns lookups and the application of changes. Does not own how changes arrive (`control/src/controllers`).

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::words::{Key, KindRef, Name, Scoped};
use crate::kind::ApiObject;

/// A cached object of any kind.
pub trait Object: Any + Send + Sync {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// For [`Snapshot::get`].
    fn any(&self) -> &dyn Any;
}

impl<T: ApiObject> Object for T {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn any(&self) -> &dyn Any {
        self
    }
}

/// An object of which only metadata is kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetaOnly(pub ObjectMeta);

impl Object for MetaOnly {
    fn meta(&self) -> &ObjectMeta {
        &self.0
    }
    fn any(&self) -> &dyn Any {
        self
    }
}

/// Where an object is, from its metadata.
pub fn name_of(meta: &ObjectMeta) -> Name {
    Name::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// metadata.resourceVersion as a number; 0 where it is absent or not ours.
pub fn revision_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// One object before and after. Both are None never.
#[derive(Clone)]
pub struct Change {
    /// Which object.
    pub key: Key,
    /// Before; None when it is new.
    pub old: Option<Arc<dyn Object>>,
    /// After; None when it is gone.
    pub new: Option<Arc<dyn Object>>,
}

impl Change {
    /// Before and after, if the change is about this type.
    pub fn of<T: ApiObject>(&self) -> Option<(Option<&T>, Option<&T>)> {
        let cast = |side: &'_ Option<Arc<dyn Object>>| side.as_deref().map(|o| o.any().is::<T>());
        if cast(&self.old).or(cast(&self.new)) != Some(true) {
            return None;
        }
        Some((downcast(self.old.as_deref()), downcast(self.new.as_deref())))
    }
    /// Metadata of the newest side.
    pub fn meta(&self) -> &ObjectMeta {
        static EMPTY: std::sync::LazyLock<ObjectMeta> = std::sync::LazyLock::new(ObjectMeta::default);
        self.new.as_deref().or(self.old.as_deref()).map_or(&EMPTY, Object::meta)
    }
    /// Metadata of both sides.
    pub fn metas(&self) -> impl Iterator<Item = &ObjectMeta> {
        self.old.iter().chain(self.new.iter()).map(|o| o.meta())
    }
}

fn downcast<T: ApiObject>(object: Option<&dyn Object>) -> Option<&T> {
    object.and_then(|o| o.any().downcast_ref())
}

/// All objects of one kind.
#[derive(Default)]
struct Table {
    objects: BTreeMap<Name, Arc<dyn Object>>,
    dependents: HashMap<String, BTreeSet<Name>>,
}

impl Table {
    fn index(&mut self, name: &Name, meta: &ObjectMeta) {
        for owner in meta.owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(name.clone());
        }
    }
    fn unindex(&mut self, name: &Name, meta: &ObjectMeta) {
        for owner in meta.owner_references.iter().flatten() {
            if let Some(names) = self.dependents.get_mut(&owner.uid) {
                names.remove(name);
                if names.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

/// Every cached object.
#[derive(Default)]
pub struct Snapshot {
    tables: BTreeMap<KindRef, Table>,
}

impl Snapshot {
    /// Makes the kind known, so that [`Snapshot::knows`] answers true even while it is empty.
    pub fn register(&mut self, kind: KindRef) {
        self.tables.entry(kind).or_default();
    }

    /// Puts or removes one object and says what changed. Older revisions than the one held are refused (None).
    pub fn set(&mut self, key: Key, new: Option<Arc<dyn Object>>) -> Option<Change> {
        let table = self.tables.entry(key.kind).or_default();
        let old = table.objects.get(&key.name).cloned();
        if let (Some(old), Some(new)) = (&old, &new)
            && old.meta().uid == new.meta().uid
            && revision_of(old.meta()) >= revision_of(new.meta())
            && revision_of(new.meta()) > 0
        {
            return None;
        }
        if let Some(old) = &old {
            table.unindex(&key.name, old.meta());
            table.objects.remove(&key.name);
        }
        if let Some(new) = &new {
            table.index(&key.name, new.meta());
            table.objects.insert(key.name.clone(), new.clone());
        }
        (old.is_some() || new.is_some()).then_some(Change { key, old, new })
    }

    /// Whether this kind is cached at all.
    pub fn knows(&self, kind: KindRef) -> bool {
        self.tables.contains_key(&kind)
    }

    /// The kinds cached.
    pub fn kinds(&self) -> impl Iterator<Item = KindRef> + '_ {
        self.tables.keys().copied()
    }

    /// A cached kind by what an owner reference says.
    pub fn kind_named(&self, api_version: &str, kind: &str) -> Option<KindRef> {
        self.tables.keys().copied().find(|k| k.kind == kind && k.api_version() == api_version)
    }

    /// One object, typed. None where it is absent or kept by metadata alone.
    pub fn get<T: ApiObject>(&self, name: &Name) -> Option<&T>
    where
        T::Scope: Scoped,
    {
        downcast(self.tables.get(&KindRef::of::<T>())?.objects.get(name).map(|o| &**o))
    }

    /// One object's metadata.
    pub fn meta(&self, key: &Key) -> Option<&ObjectMeta> {
        Some(self.tables.get(&key.kind)?.objects.get(&key.name)?.meta())
    }

    /// All objects of a type, in order of namespace and name.
    pub fn list<T: ApiObject>(&self) -> impl Iterator<Item = &T>
    where
        T::Scope: Scoped,
    {
        self.tables
            .get(&KindRef::of::<T>())
            .into_iter()
            .flat_map(|t| t.objects.values())
            .filter_map(|o| downcast(Some(&**o)))
    }

    /// All objects of a type in one namespace.
    pub fn list_in<'a, T: ApiObject>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a T>
    where
        T::Scope: Scoped,
    {
        self.tables
            .get(&KindRef::of::<T>())
            .into_iter()
            .flat_map(move |t| t.objects.range(Name::new(namespace, "")..))
            .take_while(move |(name, _)| name.namespace == namespace)
            .filter_map(|(_, o)| downcast(Some(&**o)))
    }

    /// Objects of a type that name `uid` among their owners.
    pub fn owned<'a, T: ApiObject>(&'a self, uid: &str) -> impl Iterator<Item = &'a T>
    where
        T::Scope: Scoped,
    {
        let table = self.tables.get(&KindRef::of::<T>());
        table
            .into_iter()
            .flat_map(move |t| t.dependents.get(uid).into_iter().flatten().filter_map(|name| t.objects.get(name)))
            .filter_map(|o| downcast(Some(&**o)))
    }

    /// Keys of all objects, of any kind, that name `uid` among their owners.
    pub fn dependents(&self, uid: &str) -> Vec<Key> {
        self.tables
            .iter()
            .flat_map(|(kind, t)| t.dependents.get(uid).into_iter().flatten().map(|n| Key::new(*kind, n.clone())))
            .collect()
    }

    /// Keys of all objects of a kind.
    pub fn keys(&self, kind: KindRef) -> impl Iterator<Item = Key> + '_ {
        self.tables.get(&kind).into_iter().flat_map(move |t| t.objects.keys().map(move |n| Key::new(kind, n.clone())))
    }

    /// All objects of a kind.
    pub fn objects(&self, kind: KindRef) -> impl Iterator<Item = (Key, Arc<dyn Object>)> + '_ {
        let table = self.tables.get(&kind);
        table.into_iter().flat_map(move |t| t.objects.iter().map(move |(n, o)| (Key::new(kind, n.clone()), o.clone())))
    }
}
