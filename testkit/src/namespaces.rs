//! Throw-away namespaces of the calling thread. nextest runs every test in its own process, so a thread's namespace is
//! a test's namespace; threads spawned afterwards and child processes inherit it.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::path::Path;

/// A fresh network namespace with `lo` up. The thread returns to its old one when this is dropped.
pub struct Netns {
    before: File,
    fresh: File,
}

impl Netns {
    /// Moves the calling thread into a fresh namespace.
    ///
    /// # Panics
    /// Without root, or when the kernel refuses.
    pub fn fresh() -> Self {
        let before = open_thread_namespace();
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET) needs root");
        pintle_sys::net::loopback_up().expect("bring lo up in a namespace we just made");
        Self { before, fresh: open_thread_namespace() }
    }

    /// Moves another thread into this namespace for good.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn enter(&self) {
        setns(&self.fresh, CloneFlags::CLONE_NEWNET).expect("setns into a namespace we hold");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(e) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            eprintln!("cannot return to the network namespace the test began in: {e}");
        }
    }
}

fn open_thread_namespace() -> File {
    File::open("/proc/thread-self/ns/net").expect("/proc/thread-self/ns/net is always there")
}

/// A private mount namespace: mounts made in it vanish with the test, and `/run` is empty and ours.
#[derive(Debug)]
pub struct MountNs(());

impl MountNs {
    /// Moves the calling thread into a fresh mount namespace in which `/run` is an empty tmpfs. There is no way back:
    /// the thread shares neither root nor working directory with the rest of the process any more.
    ///
    /// # Panics
    /// Without root, or when the kernel refuses.
    pub fn private() -> Self {
        use nix::mount::{MsFlags, mount};
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare(CLONE_NEWNS) needs root");
        let none: Option<&Path> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make all mounts private");
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).expect("mount /run");
        Self(())
    }
}
