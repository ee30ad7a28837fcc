//! The ordered map, its bounded history and its watchers. Owns what is in memory; does not own durability: whoever
//! calls [`Map::apply`] has made the batch durable before.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::watch::{QUEUE_EVENTS_MAX, Watch};
use crate::{Entry, Event, List, Page, ReadError, Revision};

/// History kept whatever its size: enough for a client that reconnects at once.
const HISTORY_EVENTS_MIN: usize = 256;
/// History kept at most (upstream: 102,400).
const HISTORY_EVENTS_MAX: usize = 32_768;
/// Bytes of values that only history still holds, beyond [`HISTORY_EVENTS_MIN`] events.
const HISTORY_BYTES_MAX: usize = 4 << 20;

/// Key → revision of the last write and value.
pub(crate) type Objects = BTreeMap<Arc<str>, (Revision, Bytes)>;

/// What is in memory.
#[derive(Debug)]
pub(crate) struct Map {
    objects: Objects,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    revision: Revision,
    compacted: Revision,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    queue: mpsc::Sender<Arc<Event>>,
}

impl Map {
    /// A map as read from disk; what happened before is forgotten.
    pub(crate) fn new(objects: Objects, revision: Revision) -> Map {
        Map { objects, history: VecDeque::new(), history_bytes: 0, revision, compacted: revision, watchers: Vec::new() }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.objects.get_key_value(key).map(|(key, (modified, bytes))| entry(key, *modified, bytes))
    }

    pub(crate) fn list(&self, list: &List<'_>) -> Result<Page, ReadError> {
        let at = list.at.unwrap_or(self.revision);
        self.check(at)?;
        if at == self.revision {
            let keys = self.range(list.prefix, list.after);
            return Ok(page(keys.map(|(key, (modified, bytes))| entry(key, *modified, bytes)), list.limit, at));
        }
        let old = self.as_of(list, at);
        Ok(page(old.iter().map(|(key, (modified, bytes))| entry(key, *modified, bytes)), list.limit, at))
    }

    /// The listed keys as they were at `at`: today's, with everything since then undone.
    fn as_of(&self, list: &List<'_>, at: Revision) -> Objects {
        let mut objects: Objects =
            self.range(list.prefix, list.after).map(|(key, value)| (key.clone(), value.clone())).collect();
        let wanted = |key: &str| key.starts_with(list.prefix) && list.after.is_none_or(|after| key > after);
        for event in self.history.iter().rev().take_while(|event| event.revision > at).filter(|e| wanted(&e.key)) {
            match &event.previous {
                Some(previous) => objects.insert(event.key.clone(), previous.clone()),
                None => objects.remove(&event.key),
            };
        }
        objects
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a (Revision, Bytes))> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.objects.range::<str, _>((from, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
    }

    fn check(&self, asked: Revision) -> Result<(), ReadError> {
        if asked < self.compacted {
            return Err(ReadError::Compacted { asked, oldest: self.compacted });
        }
        if asked > self.revision {
            return Err(ReadError::Future { asked, newest: self.revision });
        }
        Ok(())
    }

    pub(crate) fn watch(&mut self, prefix: &str, from: Revision) -> Result<Watch, ReadError> {
        self.check(from)?;
        let first = self.history.partition_point(|event| event.revision <= from);
        let missed: VecDeque<Arc<Event>> =
            self.history.range(first..).filter(|event| event.key.starts_with(prefix)).cloned().collect();
        let (queue, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
        self.watchers.retain(|watcher| !watcher.queue.is_closed());
        self.watchers.push(Watcher { prefix: prefix.into(), queue });
        Ok(Watch::new(missed, receiver))
    }

    /// Makes a durable batch visible, in the order of its events, and hands it to the watchers.
    pub(crate) fn apply(&mut self, events: Vec<Event>, revision: Revision) {
        for event in events {
            if event.deleted {
                self.objects.remove(&event.key);
            } else {
                self.objects.insert(event.key.clone(), (event.revision, event.bytes.clone()));
            }
            self.remember(Arc::new(event));
        }
        self.revision = revision;
        self.forget_surplus();
    }

    fn remember(&mut self, event: Arc<Event>) {
        // A full queue means a reader that is thousands of events late: it is cut off (its receiver ends) rather than
        // allowed to hold everybody's memory. A closed one has gone away.
        self.watchers.retain(|watcher| {
            !event.key.starts_with(&*watcher.prefix) || watcher.queue.try_send(event.clone()).is_ok()
        });
        self.history_bytes += cost(&event);
        self.history.push_back(event);
    }

    fn forget_surplus(&mut self) {
        while self.history.len() > HISTORY_EVENTS_MAX
            || (self.history.len() > HISTORY_EVENTS_MIN && self.history_bytes > HISTORY_BYTES_MAX)
        {
            self.forget_oldest();
        }
        // A transaction's events leave together: half of one is not a state anybody saw.
        while self.history.front().is_some_and(|event| event.revision <= self.compacted) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= cost(&event);
            self.compacted = event.revision;
        }
    }

    pub(crate) fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        while self.history.front().is_some_and(|event| event.revision <= self.compacted) {
            if let Some(event) = self.history.pop_front() {
                self.history_bytes -= cost(&event);
            }
        }
    }
}

/// What history pays for an event: the value it replaced, since the new one is in the map anyway (until replaced in
/// turn, when the next event pays), or for a deletion also the last one.
fn cost(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |(_, bytes)| bytes.len());
    std::mem::size_of::<Event>() + previous + if event.deleted { event.bytes.len() } else { 0 }
}

fn entry(key: &Arc<str>, modified: Revision, bytes: &Bytes) -> Entry {
    Entry { key: key.clone(), modified, bytes: bytes.clone() }
}

fn page(mut entries: impl Iterator<Item = Entry>, limit: usize, revision: Revision) -> Page {
    if limit == 0 {
        return Page { revision, entries: entries.collect(), remaining: 0 };
    }
    let first: Vec<Entry> = entries.by_ref().take(limit).collect();
    Page { revision, entries: first, remaining: entries.count() }
}
