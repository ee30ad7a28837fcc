//! The pure part of a cache: events in, held objects and changes out.

use crate::watch::Event;
use crate::{ApiError, Error, Held, ObjectKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Drops fields before an object is held.
pub(crate) type Trim<K> = dyn Fn(&mut K) + Send + Sync;

type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

/// One change of what a cache holds.
#[derive(Debug)]
pub enum Change<K> {
    /// An object appeared (`old` is `None`) or changed.
    Applied {
        /// As it is now.
        new: Arc<K>,
        /// As it was.
        old: Option<Arc<K>>,
    },
    /// An object is gone, or no longer selected.
    Deleted {
        /// As it last was.
        old: Arc<K>,
    },
    /// A whole list was taken in; its differences came before this.
    Resync,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Change::Applied { new, old } => Change::Applied { new: new.clone(), old: old.clone() },
            Change::Deleted { old } => Change::Deleted { old: old.clone() },
            Change::Resync => Change::Resync,
        }
    }
}

/// All objects of one revision.
#[derive(Debug)]
pub struct Snapshot<K> {
    /// Everything up to this revision is in it.
    pub revision: u64,
    /// By namespace and name.
    pub objects: Arc<Objects<K>>,
}

impl<K> Clone for Snapshot<K> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, objects: self.objects.clone() }
    }
}

impl<K> Snapshot<K> {
    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// The objects of one namespace.
    pub fn namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        self.objects
            .range(ObjectKey::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }
}

pub(crate) struct Replica<K> {
    current: Snapshot<K>,
    /// The list under way; `None` when live.
    collecting: Option<Objects<K>>,
    synced: bool,
    trim: Box<Trim<K>>,
}

impl<K> Replica<K> {
    pub(crate) fn new(trim: Box<Trim<K>>) -> Self {
        let current = Snapshot { revision: 0, objects: Arc::default() };
        Self { current, collecting: None, synced: false, trim }
    }

    pub(crate) fn snapshot(&self) -> &Snapshot<K> {
        &self.current
    }

    pub(crate) fn revision(&self) -> u64 {
        self.current.revision
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether a list has begun of which the end has not come.
    pub(crate) fn is_collecting(&self) -> bool {
        self.collecting.is_some()
    }
}

impl<K: Held> Replica<K> {
    /// What follows, until the end of the initial events, is a whole list.
    pub(crate) fn begin_list(&mut self) {
        self.collecting = Some(Objects::new());
    }

    /// Takes in a whole list.
    pub(crate) fn replace(&mut self, items: Vec<K>, revision: u64) -> Vec<Change<K>> {
        let objects = items.into_iter().map(|object| self.hold(object)).collect();
        self.adopt(objects, revision)
    }

    /// Takes in one event of the watch.
    pub(crate) fn feed(&mut self, event: Event<K>) -> Result<Vec<Change<K>>, Error> {
        match event {
            Event::Applied(object) => Ok(self.applied(object)),
            Event::Deleted(object) => Ok(self.deleted(&object)),
            Event::Bookmark { resource_version, initial_events_end } => {
                let revision = resource_version.parse().unwrap_or(0);
                Ok(self.bookmark(revision, initial_events_end))
            }
            Event::Error(status) => Err(Error::Api(ApiError {
                method: "WATCH".into(),
                path: String::new(),
                code: status.code.and_then(|c| u16::try_from(c).ok()).unwrap_or(500),
                status,
            })),
        }
    }

    fn hold(&self, mut object: K) -> (ObjectKey, Arc<K>) {
        (self.trim)(&mut object);
        (object.key(), Arc::new(object))
    }

    fn applied(&mut self, object: K) -> Vec<Change<K>> {
        let revision = object.revision();
        let (key, new) = self.hold(object);
        if let Some(collecting) = &mut self.collecting {
            collecting.insert(key, new);
            return Vec::new();
        }
        self.current.revision = self.current.revision.max(revision);
        let old = Arc::make_mut(&mut self.current.objects).insert(key, new.clone());
        vec![Change::Applied { new, old }]
    }

    fn deleted(&mut self, object: &K) -> Vec<Change<K>> {
        let key = object.key();
        if let Some(collecting) = &mut self.collecting {
            collecting.remove(&key);
            return Vec::new();
        }
        self.current.revision = self.current.revision.max(object.revision());
        let old = Arc::make_mut(&mut self.current.objects).remove(&key);
        old.map(|old| Change::Deleted { old }).into_iter().collect()
    }

    fn bookmark(&mut self, revision: u64, initial_events_end: bool) -> Vec<Change<K>> {
        match self.collecting.take() {
            Some(objects) if initial_events_end => self.adopt(objects, revision),
            // A periodic bookmark between initial events says nothing about what is still to come.
            Some(objects) => {
                self.collecting = Some(objects);
                Vec::new()
            }
            None => {
                self.current.revision = self.current.revision.max(revision);
                Vec::new()
            }
        }
    }

    /// Makes a complete list current and tells how it differs. Unchanged objects stay the very same allocation.
    fn adopt(&mut self, mut objects: Objects<K>, revision: u64) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        for (key, old) in self.current.objects.iter() {
            if !objects.contains_key(key) {
                changes.push(Change::Deleted { old: old.clone() });
            }
        }
        for (key, new) in &mut objects {
            let old = self.current.objects.get(key);
            match old {
                Some(old) if old.is_same_version(new) => *new = old.clone(),
                _ => changes.push(Change::Applied { new: new.clone(), old: old.cloned() }),
            }
        }
        changes.push(Change::Resync);
        // A store that was reset answers with smaller revisions: the list is the truth, not our memory.
        self.current = Snapshot { revision, objects: Arc::new(objects) };
        self.collecting = None;
        self.synced = true;
        changes
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::revision_of;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("n".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(name.into());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn bookmark(revision: u64, initial_events_end: bool) -> Event<ConfigMap> {
        Event::Bookmark { resource_version: revision.to_string(), initial_events_end }
    }

    fn told(changes: &[Change<ConfigMap>]) -> Vec<String> {
        let name = |o: &ConfigMap| format!("{}@{}", o.metadata.name.clone().unwrap(), revision_of(o));
        changes
            .iter()
            .map(|change| match change {
                Change::Applied { new, old: None } => format!("+{}", name(new)),
                Change::Applied { new, old: Some(old) } => format!("{}→{}", name(old), name(new)),
                Change::Deleted { old } => format!("-{}", name(old)),
                Change::Resync => "resync".into(),
            })
            .collect()
    }

    fn replica() -> Replica<ConfigMap> {
        Replica::new(Box::new(|_| {}))
    }

    #[test]
    fn nothing_is_visible_before_the_initial_events_end() {
        let mut r = replica();
        r.begin_list();
        assert!(told(&r.feed(Event::Applied(object("a", 3))).unwrap()).is_empty());
        assert!(told(&r.feed(bookmark(3, false)).unwrap()).is_empty());
        assert!(!r.is_synced() && r.snapshot().objects.is_empty());
        assert_eq!(told(&r.feed(bookmark(5, true)).unwrap()), ["+a@3", "resync"]);
        assert!(r.is_synced());
        assert_eq!(r.revision(), 5);
    }

    #[test]
    fn live_events_change_the_replica_and_carry_the_old_object() {
        let mut r = replica();
        r.replace(vec![object("a", 1)], 1);
        assert_eq!(told(&r.feed(Event::Applied(object("a", 2))).unwrap()), ["a@1→a@2"]);
        assert_eq!(told(&r.feed(Event::Applied(object("b", 3))).unwrap()), ["+b@3"]);
        assert_eq!(told(&r.feed(Event::Deleted(object("a", 4))).unwrap()), ["-a@2"]);
        assert!(r.feed(Event::Deleted(object("a", 4))).unwrap().is_empty(), "gone already: nothing to tell");
        r.feed(bookmark(9, false)).unwrap();
        assert_eq!(r.revision(), 9);
    }

    #[test]
    fn a_second_list_tells_only_the_difference_and_keeps_unchanged_allocations() {
        let mut r = replica();
        r.replace(vec![object("a", 1), object("b", 2), object("c", 3)], 3);
        let before = r.snapshot().clone();
        let changes = r.replace(vec![object("b", 2), object("c", 7), object("d", 8)], 8);
        assert_eq!(told(&changes), ["-a@1", "c@3→c@7", "+d@8", "resync"]);
        let key = ObjectKey::new("n", "b");
        assert!(Arc::ptr_eq(before.get(&key).unwrap(), r.snapshot().get(&key).unwrap()));
    }

    #[test]
    fn a_snapshot_taken_earlier_does_not_change() {
        let mut r = replica();
        r.replace(vec![object("a", 1)], 1);
        let before = r.snapshot().clone();
        r.feed(Event::Applied(object("b", 2))).unwrap();
        assert_eq!(before.objects.len(), 1);
        assert_eq!(r.snapshot().objects.len(), 2);
    }

    #[test]
    fn an_error_event_is_an_error_that_knows_it_means_gone() {
        let status = k8s_openapi::apimachinery::pkg::apis::meta::v1::Status { code: Some(410), ..Default::default() };
        assert!(replica().feed(Event::Error(Box::new(status))).unwrap_err().is_gone());
    }

    #[test]
    fn namespaces_of_a_snapshot_do_not_leak_into_each_other() {
        let mut r = replica();
        let mut other = object("z", 2);
        other.metadata.namespace = Some("n2".into());
        r.replace(vec![object("a", 1), other], 2);
        assert_eq!(r.snapshot().namespace("n").count(), 1);
        assert_eq!(r.snapshot().namespace("n2").count(), 1);
        assert_eq!(r.snapshot().namespace("").count(), 0);
    }
}
