//! One inotify instance for the whole process: whoever waits for a file or a directory to change waits here.
//!
//! Owns: the descriptor and its dispatch. Kernels allow few instances per user (128 by default), but many watches.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::error::{At as _, FileError};

/// Watches and who waits for them.
#[derive(Clone)]
pub(crate) struct Watcher {
    inner: Arc<Inner>,
}

struct Inner {
    inotify: AsyncFd<OwnedFd>,
    /// The kernel gives the same descriptor to a path watched twice, hence the count.
    watches: Mutex<HashMap<i32, (Arc<Notify>, usize)>>,
}

/// A watched path. Dropping it ends the watch.
pub(crate) struct Watch {
    inner: Arc<Inner>,
    descriptor: i32,
    changed: Arc<Notify>,
}

impl Watcher {
    /// Makes the instance; must be called within a runtime.
    pub(crate) fn start() -> Result<Watcher, FileError> {
        let path = Path::new("inotify");
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).at("make", path)?;
        let inotify = register(inotify).at("register", path)?;
        let inner = Arc::new(Inner { inotify, watches: Mutex::default() });
        tokio::spawn(dispatch(Arc::downgrade(&inner)));
        Ok(Watcher { inner })
    }

    /// Watches a file or a directory's entries.
    pub(crate) fn watch(&self, path: &Path) -> Result<Watch, FileError> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        let mut watches = self.inner.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptor = add_watch(self.inner.inotify.get_ref(), path, flags).at("watch", path)?;
        let entry = watches.entry(descriptor).or_insert_with(|| (Arc::new(Notify::new()), 0));
        entry.1 += 1;
        Ok(Watch { inner: self.inner.clone(), descriptor, changed: entry.0.clone() })
    }
}

impl Watch {
    /// Waits for the next change after this call, or one that nobody has seen.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.inner.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = watches.get_mut(&self.descriptor) {
            entry.1 -= 1;
            if entry.1 == 0 {
                watches.remove(&self.descriptor);
                // The path may be gone, and the kernel's watch with it.
                let _ = remove_watch(self.inner.inotify.get_ref(), self.descriptor);
            }
        }
    }
}

async fn dispatch(inner: std::sync::Weak<Inner>) {
    while let Some(strong) = inner.upgrade() {
        let Ok(mut guard) = strong.inotify.readable().await else { return };
        let changed = read_all(guard.get_inner());
        guard.clear_ready();
        let watches = strong.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for descriptor in changed {
            if let Some((changed, _)) = watches.get(&descriptor) {
                // One permit is kept for a waiter that is not waiting yet; several waiters are all woken.
                changed.notify_waiters();
                changed.notify_one();
            }
        }
    }
}

#[expect(deprecated, reason = "the replacement is unsafe; an OwnedFd cannot be closed or swapped behind our back")]
fn register(inotify: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(inotify, Interest::READABLE)
}

/// The watches whose events wait to be read.
fn read_all(inotify: &OwnedFd) -> Vec<i32> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut out = Vec::new();
    // The end is told as EAGAIN.
    while let Ok(event) = reader.next() {
        if !out.contains(&event.wd()) {
            out.push(event.wd());
        }
    }
    out
}
