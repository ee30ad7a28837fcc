//! Where everything lies in a store, and its lock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pintle_rootfs_plan::digest::{ChainId, Digest, ImageId};
use rustix::fs::FlockOperation;

use crate::error::{At, Result};

/// The paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Dirs {
    root: PathBuf,
}

/// Held while what other processes see is changed. Dropping it unlocks.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Dirs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, chain: &ChainId) -> PathBuf {
        self.layers().join(chain.0.hex())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn used(&self) -> PathBuf {
        self.root.join("used")
    }

    pub(crate) fn used_by(&self, image: &ImageId) -> PathBuf {
        self.used().join(image.0.hex())
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Makes what is missing.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in [self.blobs(), self.layers(), self.snapshots(), self.used(), self.tmp()] {
            fs::create_dir_all(&dir).at("create", &dir)?;
        }
        Ok(())
    }

    /// Waits for the store's lock.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).at("lock", &path)?;
        Ok(Lock { _file: file })
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync", path)
}
