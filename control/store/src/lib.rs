//! Keys, bytes and revisions: the memory of the control plane.
//!
//! Owns: one ordered map of encoded objects, its history, and its durability. Does not own: Kubernetes. It never looks
//! into a value except to write the revision at the one place its writer asked for ([`Value::stamp_at`]), so that a
//! value is encoded once and the same bytes serve every get, list and watch.
//!
//! ```text
//! commit ──► judge (compare) ──► durable (fsync once per batch) ──► apply to the map ──► watchers' queues ──► reply
//! ```
//!
//! Reads are answered from the map and never see what is not yet durable.

mod disk;
mod error;
mod fake;
mod judge;
mod map;
mod types;
mod watch;

pub use disk::DiskStore;
pub use error::{CommitError, OpenError, ReadError};
pub use fake::FakeStore;
pub use types::{Change, Commit, Committed, Entry, Event, Expect, List, Op, Page, Revision, Value};
pub use watch::{Watch, WatchError};

/// What the API server needs of a store.
///
/// Every committed transaction has its own revision, one more than the one before; all its changes share it.
pub trait Store: Send + Sync + 'static {
    /// The newest durable revision. 1 in a store nothing was written to.
    fn revision(&self) -> Revision;

    /// The oldest revision whose state can still be listed and after which every event can still be replayed.
    fn compacted(&self) -> Revision;

    /// The current value of `key`.
    fn get(&self, key: &str) -> Option<Entry>;

    /// A page of the keys below a prefix, in order of keys.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`] if `list.at` names a revision that cannot be shown.
    fn list(&self, list: &List<'_>) -> Result<Page, ReadError>;

    /// Applies all of `ops` or none. The future resolves when the outcome is durable; dropping it does not cancel.
    fn commit(&self, ops: Vec<Op>) -> Commit;

    /// Every event after `from` on keys that begin with `prefix`, in order of revisions, each exactly once.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`].
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, ReadError>;

    /// Forgets history up to and including `revision` (at most the newest).
    fn compact(&self, revision: Revision);
}
