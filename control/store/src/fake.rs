//! A store that forgets everything when it is dropped. Behaves as the durable one does; for tests.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::judge::Batch;
use crate::map::{Map, Objects};
use crate::{Commit, Entry, List, Op, Page, ReadError, Revision, Store, Watch};

/// See the module.
#[derive(Debug)]
pub struct FakeStore(RwLock<Map>);

impl Default for FakeStore {
    fn default() -> FakeStore {
        FakeStore(RwLock::new(Map::new(Objects::new(), Revision(1))))
    }
}

impl FakeStore {
    // A panic while holding the lock leaves the map between two events at worst, never torn.
    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, Map> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for FakeStore {
    fn revision(&self) -> Revision {
        self.read().revision()
    }
    fn compacted(&self) -> Revision {
        self.read().compacted()
    }
    fn get(&self, key: &str) -> Option<Entry> {
        self.read().get(key)
    }
    fn list(&self, list: &List<'_>) -> Result<Page, ReadError> {
        self.read().list(list)
    }
    fn commit(&self, ops: Vec<Op>) -> Commit {
        let mut map = self.write();
        let mut batch = Batch::new(&map);
        let outcome = batch.add(&map, &ops);
        if outcome.is_ok() {
            map.apply(batch.events, batch.revision);
        }
        Commit::done(outcome)
    }
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, ReadError> {
        self.write().watch(prefix, from)
    }
    fn compact(&self, revision: Revision) {
        self.write().compact(revision);
    }
}
