//! The words of the store's interface. Owns no behaviour.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::CommitError;

/// Counts committed transactions. 0 means "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes to be stored, and where in them the decimal revision of their own commit is to be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The bytes, with nothing at `stamp_at` yet.
    pub bytes: Bytes,
    /// An offset into `bytes` (0 ..= len), or nowhere.
    pub stamp_at: Option<usize>,
}

impl Value {
    /// Bytes that do not mention their revision.
    pub fn plain(bytes: impl Into<Bytes>) -> Value {
        Value { bytes: bytes.into(), stamp_at: None }
    }

    /// The bytes with `revision` written in. An offset behind the end counts as the end.
    #[must_use]
    pub fn stamped(&self, revision: Revision) -> Bytes {
        let Some(at) = self.stamp_at else { return self.bytes.clone() };
        let at = at.min(self.bytes.len());
        let digits = revision.0.to_string();
        let mut out = Vec::with_capacity(self.bytes.len() + digits.len());
        out.extend_from_slice(&self.bytes[..at]);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.bytes[at..]);
        Bytes::from(out)
    }
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Arc<str>,
    /// When it was last written.
    pub modified: Revision,
    /// Its bytes, shared with every reader.
    pub bytes: Bytes,
}

/// What must hold for a transaction to go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last written at exactly this revision.
    At(Revision),
    /// The key exists.
    Present,
    /// Nothing.
    Anything,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    Put(Value),
    /// It goes; watchers see `last` (the object as it was, stamped with the revision of its deletion).
    Delete {
        /// What the deletion's event carries.
        last: Value,
    },
    /// It stays: the expectation alone counts.
    Check,
}

/// One key's part in a transaction. A key may appear in it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Which key.
    pub key: Arc<str>,
    /// What must hold.
    pub expect: Expect,
    /// What happens then.
    pub change: Change,
}

/// A transaction that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its revision; the newest one if it changed nothing.
    pub revision: Revision,
    /// The stamped bytes of each operation, in their order; empty for [`Change::Check`].
    pub bytes: Vec<Bytes>,
}

/// One change, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub key: Arc<str>,
    /// When.
    pub revision: Revision,
    /// The new value, or for a deletion the last one.
    pub bytes: Bytes,
    /// Whether the key is gone.
    pub deleted: bool,
    /// What was there before.
    pub previous: Option<(Revision, Bytes)>,
}

/// Which keys to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    /// Keys begin with this.
    pub prefix: &'a str,
    /// Only keys after this one.
    pub after: Option<&'a str>,
    /// At most so many; 0 is no limit.
    pub limit: usize,
    /// As of this revision instead of now.
    pub at: Option<Revision>,
}

impl<'a> List<'a> {
    /// All keys below `prefix`, now.
    pub fn all(prefix: &'a str) -> List<'a> {
        List { prefix, after: None, limit: 0, at: None }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision whose state this is.
    pub revision: Revision,
    /// In order of keys.
    pub entries: Vec<Entry>,
    /// How many more keys follow below the prefix.
    pub remaining: usize,
}

/// A transaction on its way to the disk.
#[derive(Debug)]
pub struct Commit(pub(crate) oneshot::Receiver<Result<Committed, CommitError>>);

impl Commit {
    /// An outcome that is known already.
    pub(crate) fn done(outcome: Result<Committed, CommitError>) -> Commit {
        let (send, receive) = oneshot::channel();
        // The receiver is in our hands, so sending cannot fail.
        let _ = send.send(outcome);
        Commit(receive)
    }

    /// Waits without an async runtime.
    ///
    /// # Errors
    /// Those of the transaction.
    pub fn wait(self) -> Result<Committed, CommitError> {
        self.0.blocking_recv().unwrap_or(Err(CommitError::Closed))
    }
}

impl Future for Commit {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|outcome| outcome.unwrap_or(Err(CommitError::Closed)))
    }
}
