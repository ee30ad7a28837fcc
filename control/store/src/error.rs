//! How the store fails. Owns no behaviour.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Entry, Revision};

/// A list or watch that names a revision the store cannot show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// History before `oldest` is forgotten.
    #[error("revision {asked} is too old: history begins at {oldest}")]
    Compacted {
        /// Asked for.
        asked: Revision,
        /// The oldest that can be shown.
        oldest: Revision,
    },
    /// Not written yet.
    #[error("revision {asked} is in the future: the newest is {newest}")]
    Future {
        /// Asked for.
        asked: Revision,
        /// The newest there is.
        newest: Revision,
    },
}

/// A transaction that did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// An expectation did not hold.
    #[error("{key} is not as the transaction expects it")]
    Conflict {
        /// Of which key.
        key: Arc<str>,
        /// What is there.
        actual: Option<Entry>,
    },
    /// The database refused; nothing was changed.
    #[error("cannot make a transaction durable in {path}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made.
    #[error("cannot create the directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("the database {path} is in use by another process")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot open the database {path}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// No thread for committing.
    #[error("cannot start the thread that commits to {path}")]
    Thread {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl CommitError {
    /// Whether there was no room for it on the disk.
    pub fn is_full(&self) -> bool {
        let CommitError::Database { source, .. } = self else { return false };
        matches!(&**source, redb::Error::Io(error)
            if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }
}

impl OpenError {
    /// Whether the database's file is there, but not a database, or not whole.
    pub fn is_damaged(&self) -> bool {
        let OpenError::Database { source, .. } = self else { return false };
        match &**source {
            redb::Error::Corrupted(_) | redb::Error::RepairAborted => true,
            redb::Error::Io(error) => matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof),
            _ => false,
        }
    }
}
