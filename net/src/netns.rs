//! Named network namespaces: a file on which a namespace is bind-mounted, so that it lives without any process.
//! Owns creating, entering, listing and removing them; what is inside is not its business.
//!
//! A thread that changed its namespace is never given back: the work runs on a thread of its own, which then ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};

use crate::NetError;

/// `NSFS_MAGIC` of linux/magic.h: the file system of bind-mounted namespaces.
const NSFS: FsType = FsType(0x6e73_6673);

/// Moves the calling thread into the namespace at `path`. Meant for a process that is still single-threaded, such as
/// a daemon before it starts its runtime: threads made later inherit it.
///
/// # Errors
/// When the file cannot be opened or is no network namespace.
pub fn enter(path: &Path) -> Result<(), NetError> {
    let file = File::open(path).map_err(|e| NetError::file("open network namespace", path, e))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|e| NetError::file("enter network namespace", path, e))
}

/// Whether a live namespace is mounted at `path`.
#[must_use]
pub fn exists(path: &Path) -> bool {
    File::open(path).and_then(|f| fstatfs(&f).map_err(Into::into)).is_ok_and(|s| s.filesystem_type() == NSFS)
}

/// Makes the namespace at `path` unless it is there. The result outlives the process.
///
/// # Errors
/// When the directory, the file or the mount cannot be made.
pub async fn create(path: &Path) -> Result<(), NetError> {
    let path = path.to_owned();
    on_thread(move || create_here(&path)).await
}

/// Runs `work` inside the namespace at `path`, on a thread of its own.
///
/// # Errors
/// When the namespace cannot be entered; the work's own result is the value.
pub async fn run<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetError> {
    let path = path.to_owned();
    on_thread(move || enter(&path).map(|()| work())).await
}

/// Like [`run`], for callers without an async runtime.
///
/// # Errors
/// As [`run`].
pub fn run_blocking<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetError> {
    let path = path.to_owned();
    let thread = std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || enter(&path).map(|()| work()))
        .map_err(|source| NetError::Thread { source })?;
    thread.join().map_err(|_panic| NetError::Thread { source: io::Error::other("the thread panicked") })?
}

/// Unmounts and removes the namespace at `path`; one that is not there is no error. The kernel destroys the namespace,
/// and every veth in it, once its last process and file descriptor are gone.
///
/// # Errors
/// When the mount or the file cannot be removed.
pub fn remove(path: &Path) -> Result<(), NetError> {
    loop {
        // Several mounts can be stacked after a crash between mount and a second create; take them all off.
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(e) => return Err(NetError::file("unmount", path, e)),
        }
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(NetError::file("remove", path, e)),
        _ => Ok(()),
    }
}

/// The namespace files in `dir` whose names begin with `prefix`, sorted. A directory that is not there is empty.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path, prefix: &str) -> Result<Vec<PathBuf>, NetError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(NetError::file("list", dir, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| NetError::file("list", dir, e))?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Removes every namespace of [`list`], and the directory if it is empty then. Returns how many there were.
///
/// # Errors
/// At the first one that cannot be removed.
pub fn remove_all(dir: &Path, prefix: &str) -> Result<usize, NetError> {
    let found = list(dir, prefix)?;
    for path in &found {
        remove(path)?;
    }
    // Only an empty directory goes; one with other files in it, or none at all, is left as it is.
    drop(fs::remove_dir(dir));
    Ok(found.len())
}

/// Moves the calling thread into the namespace at `path`, which is made first when missing.
pub(crate) fn create_here(path: &Path) -> Result<(), NetError> {
    if exists(path) {
        return enter(path);
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|e| NetError::file("create directory", dir, e))?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(|e| NetError::file("create", path, e))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| NetError::file("make a network namespace for", path, e))?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| NetError::file("bind-mount a network namespace on", path, e))
}

/// Runs blocking work on a fresh thread, which inherits the caller's namespaces and may change its own.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".into())
        // The receiver is gone only when the caller was cancelled; the work is done either way.
        .spawn(move || drop(done.send(work())))
        .map_err(|source| NetError::Thread { source })?;
    result.await.map_err(|_gone| NetError::Thread { source: io::Error::other("the thread panicked") })?
}
