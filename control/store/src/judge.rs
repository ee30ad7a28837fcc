//! Decides transactions: which go ahead, at which revision, with which events. Pure; knows neither disk nor watchers.
//!
//! A batch is judged as if its transactions came one after the other: each sees what those before it would leave.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::map::Map;
use crate::{Change, CommitError, Committed, Entry, Event, Expect, Op, Revision};

/// A batch in the making.
pub(crate) struct Batch {
    /// In the order of revisions.
    pub(crate) events: Vec<Event>,
    /// The newest revision once the batch is durable.
    pub(crate) revision: Revision,
    /// What the batch leaves, by key: over the map's state.
    pending: HashMap<Arc<str>, Option<(Revision, Bytes)>>,
}

impl Batch {
    pub(crate) fn new(map: &Map) -> Batch {
        Batch { events: Vec::new(), revision: map.revision(), pending: HashMap::new() }
    }

    /// Judges one transaction and, if it goes ahead, adds its events.
    pub(crate) fn add(&mut self, map: &Map, ops: &[Op]) -> Result<Committed, CommitError> {
        for op in ops {
            self.expect(map, op)?;
        }
        let changes = ops.iter().any(|op| op.change != Change::Check && !self.is_void(map, op));
        let revision = if changes { Revision(self.revision.0 + 1) } else { self.revision };
        let bytes = ops.iter().map(|op| self.apply(map, op, revision)).collect();
        self.revision = revision;
        Ok(Committed { revision, bytes })
    }

    fn current(&self, map: &Map, key: &str) -> Option<(Revision, Bytes)> {
        match self.pending.get(key) {
            Some(pending) => pending.clone(),
            None => map.get(key).map(|entry| (entry.modified, entry.bytes)),
        }
    }

    /// Deleting what is not there changes nothing.
    fn is_void(&self, map: &Map, op: &Op) -> bool {
        matches!(op.change, Change::Delete { .. }) && self.current(map, &op.key).is_none()
    }

    fn expect(&self, map: &Map, op: &Op) -> Result<(), CommitError> {
        let actual = self.current(map, &op.key);
        let holds = match (op.expect, &actual) {
            (Expect::Anything, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => true,
            (Expect::At(wanted), Some((modified, _))) => wanted == *modified,
            (Expect::Absent, Some(_)) | (Expect::Present | Expect::At(_), None) => false,
        };
        if holds {
            return Ok(());
        }
        let actual = actual.map(|(modified, bytes)| Entry { key: op.key.clone(), modified, bytes });
        Err(CommitError::Conflict { key: op.key.clone(), actual })
    }

    fn apply(&mut self, map: &Map, op: &Op, revision: Revision) -> Bytes {
        let (bytes, deleted) = match &op.change {
            Change::Check => return Bytes::new(),
            Change::Put(value) => (value.stamped(revision), false),
            Change::Delete { last } => (last.stamped(revision), true),
        };
        let previous = self.current(map, &op.key);
        if deleted && previous.is_none() {
            return bytes;
        }
        let left = (!deleted).then(|| (revision, bytes.clone()));
        self.pending.insert(op.key.clone(), left);
        self.events.push(Event { key: op.key.clone(), revision, bytes: bytes.clone(), deleted, previous });
        bytes
    }
}
