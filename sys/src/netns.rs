//! Network namespaces: made, pinned to a path, entered by one thread.
//!
//! Owns: the namespace handles. Does not own: links, addresses or routes inside them (crate `net`).
//! A network namespace belongs to a *thread*, so anything done "inside" one runs on a thread of its own:
//! the caller never changes its namespace and an early return cannot leave it in the wrong one.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;

use crate::{Errno, Result};

/// Opens the namespace pinned at `path` (or any `/proc/<pid>/ns/net`).
pub fn open(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

/// The calling thread's network namespace.
pub fn current() -> std::io::Result<OwnedFd> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Moves the calling thread into `netns` for good. Prefer [`run_in`].
pub fn enter(netns: impl AsFd) -> Result<()> {
    nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)
}

/// Runs `f` inside `netns` on a thread of its own and waits for it. A socket opened by `f` stays in that namespace.
///
/// # Panics
/// Passes on a panic of `f`.
pub fn run_in<T: Send>(netns: impl AsFd, f: impl FnOnce() -> T + Send) -> Result<T> {
    let netns = netns.as_fd();
    on_own_thread(move || {
        enter(netns)?;
        Ok(f())
    })
}

/// Makes a new, empty network namespace (loopback down) that lives as long as the returned descriptor.
pub fn fresh() -> std::io::Result<OwnedFd> {
    on_own_thread(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
        current()
    })
}

/// Makes a new network namespace and pins it at `path` (the file is made; its directory must exist).
/// A path that already pins a namespace is an error (EEXIST).
pub fn create_at(path: &Path) -> std::io::Result<OwnedFd> {
    File::options().write(true).create_new(true).open(path)?;
    let pinned = on_own_thread(|| -> std::io::Result<OwnedFd> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
        nix::mount::mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        open(path)
    });
    if pinned.is_err() {
        // The pin was never made; leaving the empty file would block the next attempt.
        let _best_effort = std::fs::remove_file(path);
    }
    pinned
}

/// Unpins the namespace at `path` and removes the file. Missing is fine: the wanted state holds.
pub fn remove_at(path: &Path) -> std::io::Result<()> {
    match nix::mount::umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file, left by a crash between creating and pinning.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
