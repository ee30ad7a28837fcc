//! One `pintle up` per state directory: an flock(2) that lives exactly as long as its holder, with the holder's
//! identity written inside.

use crate::process::Identity;
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The lock, held until this and every descriptor duplicated from it are closed.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What an attempt to lock found.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Held(Lock),
    /// Somebody has it; who, if they have said so yet.
    Busy(Option<Identity>),
}

/// Tries to take the lock file at `path`.
pub fn try_take(path: &Path) -> Result<Attempt> {
    loop {
        match take_once(path)? {
            // A start that failed removed the file between our opening and our locking it.
            Attempt::Held(lock) if !lock.is_at(path)? => {}
            attempt => return Ok(attempt),
        }
    }
}

fn take_once(path: &Path) -> Result<Attempt> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.with_context(|| format!("cannot open the lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Attempt::Held(Lock { file })),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            (&file).read_to_string(&mut text).with_context(|| format!("cannot read the lock {}", path.display()))?;
            Ok(Attempt::Busy(serde_json::from_str(&text).ok()))
        }
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("flock({})", path.display())),
    }
}

impl Lock {
    /// Whether the file that is locked is the one others would open.
    fn is_at(&self, path: &Path) -> Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        let ours = self.file.metadata().context("cannot look at the lock")?;
        match std::fs::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).with_context(|| format!("cannot look at the lock {}", path.display())),
        }
    }

    /// A lock another process took and handed to us as an open descriptor.
    pub fn inherited(fd: OwnedFd) -> Self {
        Self { file: fd.into() }
    }

    /// A descriptor to hand to a child, which then holds the lock too.
    pub fn share(&self) -> Result<OwnedFd> {
        Ok(self.file.try_clone().context("cannot duplicate the lock's descriptor")?.into())
    }

    /// Writes down who holds the lock.
    pub fn sign(&mut self, identity: &Identity) -> Result<()> {
        let text = serde_json::to_string(identity)?;
        self.file.set_len(0).context("cannot write the lock")?;
        self.file.rewind().context("cannot write the lock")?;
        self.file.write_all(text.as_bytes()).context("cannot write the lock")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_second_taker_learns_who_holds_the_lock_and_gets_it_once_all_copies_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let Attempt::Held(mut lock) = try_take(&path).unwrap() else { panic!("nobody else has it") };
        assert!(matches!(try_take(&path).unwrap(), Attempt::Busy(None)));
        let own = Identity::own().unwrap();
        lock.sign(&own).unwrap();
        assert!(matches!(try_take(&path).unwrap(), Attempt::Busy(Some(who)) if who == own));
        let copy = lock.share().unwrap();
        drop(lock);
        assert!(matches!(try_take(&path).unwrap(), Attempt::Busy(_)), "a child still holds it");
        drop(copy);
        assert!(matches!(try_take(&path).unwrap(), Attempt::Held(_)));
    }
}
