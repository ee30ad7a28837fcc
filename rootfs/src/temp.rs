//! Work under way: directories in `tmp/` that vanish with their owner, however the owner ends.
//!
//! The owner holds an flock on its directory. Both making and sweeping happen under the store's lock, so a directory
//! that can be locked while sweeping belongs to nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

use crate::beneath;
use crate::dirs::{Dirs, Lock};
use crate::error::{At, Result};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A directory that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Temp {
    path: PathBuf,
    _held: File,
}

impl Temp {
    /// Makes one; the lock is only looked at, to show that it is held.
    pub(crate) fn create(dirs: &Dirs, _lock: &Lock) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        // Process ids repeat; what a dead namesake left was swept, or is swept now.
        let path = dirs.tmp().join(format!("{}-{number}", std::process::id()));
        beneath::remove_tree(&path).at("remove", &path)?;
        fs::create_dir(&path).at("create", &path)?;
        let held = File::open(&path).at("open", &path)?;
        rustix::fs::flock(&held, FlockOperation::LockExclusive).at("lock", &path)?;
        Ok(Self { path, _held: held })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Err(error) = beneath::remove_tree(&self.path) {
            // The next `Store::open` sweeps it.
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary directory");
        }
    }
}

/// Removes what dead processes left. What cannot be removed is reported and left for the next time: it is in nobody's
/// way.
pub(crate) fn sweep(dirs: &Dirs, _lock: &Lock) -> Result<()> {
    let tmp = dirs.tmp();
    for entry in fs::read_dir(&tmp).at("list", &tmp)? {
        let path = entry.at("list", &tmp)?.path();
        let Ok(file) = File::open(&path) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Err(error) = beneath::remove_tree(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a dead process left");
        }
    }
    Ok(())
}
