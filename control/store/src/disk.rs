//! The durable store: redb behind one committing thread.
//!
//! Owns: group commit (everything that waits is made durable by one fsync), recovery at start. Does not own: judging
//! (`judge`) and reading (`map`). Only the committing thread writes to the database and to the map.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::judge::Batch;
use crate::map::{Map, Objects};
use crate::{
    Commit, CommitError, Committed, Entry, Event, List, Op, OpenError, Page, ReadError, Revision, Store, Watch,
};

/// key → (revision of its last write, value).
const OBJECTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("objects");
/// `revision` → the newest revision.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Pages redb keeps; all reads are answered from our own map, so it only serves the B-tree's inner pages.
const CACHE_BYTES: usize = 1 << 20;
/// A batch's size, so that a flood of writers cannot make one commit arbitrarily long.
const BATCH_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct DiskStore {
    map: Arc<RwLock<Map>>,
    // Taken when the store is dropped: the thread ends once every waiting transaction is answered.
    queue: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

struct Waiting {
    ops: Vec<Op>,
    reply: oneshot::Sender<Result<Committed, CommitError>>,
}

impl DiskStore {
    /// Opens or creates the store in `directory` (mode 0700, made if missing).
    ///
    /// # Errors
    /// [`OpenError`]; notably [`OpenError::InUse`].
    pub fn open(directory: &Path) -> Result<DiskStore, OpenError> {
        make_directory(directory)?;
        let path = directory.join("objects.redb");
        let database = open_database(&path)?;
        let (objects, revision) =
            load(&database).map_err(|source| OpenError::Database { path: path.clone(), source: Box::new(source) })?;
        tracing::info!(path = %path.display(), objects = objects.len(), %revision, "store opened");
        let map = Arc::new(RwLock::new(Map::new(objects, revision)));
        let (queue, waiting) = channel();
        let committer = Committer { path: path.clone(), database: Some(database), uncertain: None, map: map.clone() };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run(&waiting))
            .map_err(|source| OpenError::Thread { path, source })?;
        Ok(DiskStore { map, queue: Some(queue), thread: Some(thread) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

impl Store for DiskStore {
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
        let (reply, outcome) = oneshot::channel();
        if let Some(queue) = &self.queue {
            // If the thread is gone the reply is dropped with the message, which reads as `Closed`.
            let _ = queue.send(Waiting { ops, reply });
        }
        Commit(outcome)
    }
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, ReadError> {
        self.map.write().unwrap_or_else(PoisonError::into_inner).watch(prefix, from)
    }
    fn compact(&self, revision: Revision) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).compact(revision);
    }
}

struct Committer {
    path: PathBuf,
    // None after a failure: redb refuses further work on a database whose write failed until it is opened again.
    database: Option<Database>,
    // The batch whose write failed: only the database, opened again, can say whether it was durable after all.
    uncertain: Option<(Vec<Event>, Revision)>,
    map: Arc<RwLock<Map>>,
}

impl Committer {
    fn run(mut self, queue: &Receiver<Waiting>) {
        while let Ok(first) = queue.recv() {
            let mut waiting = vec![first];
            waiting.extend(queue.try_iter().take(BATCH_MAX - 1));
            self.batch(waiting);
        }
    }

    fn batch(&mut self, waiting: Vec<Waiting>) {
        // Before anything is judged: what is on the disk may be more than what we know.
        if let Err(source) = self.reopen() {
            return self.refuse(waiting, source);
        }
        let (batch, outcomes) = self.judge(&waiting);
        let durable = match &self.database {
            Some(database) if !batch.events.is_empty() => write(database, &batch.events, batch.revision),
            _ => Ok(()),
        };
        match durable {
            Ok(()) => {
                if !batch.events.is_empty() {
                    let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
                    map.apply(batch.events, batch.revision);
                }
                // A caller that no longer waits has no use for its outcome.
                waiting.into_iter().zip(outcomes).for_each(|(w, outcome)| drop(w.reply.send(outcome)));
            }
            Err(source) => {
                self.database = None;
                self.uncertain = Some((batch.events, batch.revision));
                self.refuse(waiting, source);
            }
        }
    }

    fn judge(&self, waiting: &[Waiting]) -> (Batch, Vec<Result<Committed, CommitError>>) {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::new(&map);
        let outcomes = waiting.iter().map(|waiting| batch.add(&map, &waiting.ops)).collect();
        (batch, outcomes)
    }

    /// Opens the database again after a failed write, for example once there is room on the disk.
    fn reopen(&mut self) -> Result<(), redb::Error> {
        if self.database.is_some() {
            return Ok(());
        }
        let database = builder().create(&self.path)?;
        let on_disk = stored_revision(&database)?;
        if let Some((events, revision)) = self.uncertain.take()
            && revision == on_disk
        {
            self.map.write().unwrap_or_else(PoisonError::into_inner).apply(events, revision);
        }
        tracing::info!(path = %self.path.display(), "the store is open again");
        self.database = Some(database);
        Ok(())
    }

    /// Nothing of a failed batch is visible, so all of it is refused, also what was only judged.
    fn refuse(&self, waiting: Vec<Waiting>, source: redb::Error) {
        tracing::error!(path = %self.path.display(), error = %source, "cannot write to the store");
        let source = Arc::new(source);
        for waiting in waiting {
            let error = CommitError::Database { path: self.path.clone(), source: source.clone() };
            // As above: nobody may be waiting any more.
            let _ = waiting.reply.send(Err(error));
        }
    }
}

fn write(database: &Database, events: &[Event], revision: Revision) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for event in events {
            if event.deleted {
                objects.remove(&*event.key)?;
            } else {
                objects.insert(&*event.key, (event.revision.0, &*event.bytes))?;
            }
        }
        transaction.open_table(META)?.insert("revision", revision.0)?;
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database) -> Result<(Objects, Revision), redb::Error> {
    // Opening for write creates the tables of a new database.
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(META)?;
    transaction.commit()?;

    let revision = stored_revision(database)?;
    let transaction = database.begin_read()?;
    let mut objects = Objects::new();
    for item in transaction.open_table(OBJECTS)?.iter()? {
        let (key, value) = item?;
        let (modified, bytes) = value.value();
        objects.insert(Arc::from(key.value()), (Revision(modified), Bytes::copy_from_slice(bytes)));
    }
    Ok((objects, revision))
}

fn stored_revision(database: &Database) -> Result<Revision, redb::Error> {
    let transaction = database.begin_read()?;
    Ok(Revision(transaction.open_table(META)?.get("revision")?.map_or(1, |revision| revision.value())))
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_database(path: &Path) -> Result<Database, OpenError> {
    builder().create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        other => OpenError::Database { path: path.to_owned(), source: Box::new(other.into()) },
    })
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::Directory { path: path.to_owned(), source })
}
