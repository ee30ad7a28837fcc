//! A fresh network and mount namespace for the calling test, and TCP between namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pintle_net::{NetError, netns};

/// Moves the calling thread into namespaces of its own; `None`, loudly, when the test does not run as root.
pub fn enter(what_for: &str) -> Option<tempfile::TempDir> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "root is needed for {what_for}");
        eprintln!("SKIPPED: root is needed for {what_for}");
        return None;
    }
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    // What is mounted in there goes with the namespace; elsewhere the directory could not be removed.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, None::<&str>).unwrap();
    Some(tempfile::tempdir_in("/run").unwrap())
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Runs async work on a thread inside the namespace at `path`.
pub fn inside<T: Send + 'static, F: Future<Output = Result<T, NetError>>>(
    path: &Path,
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    netns::run_blocking(path, move || block_on(work())).unwrap().unwrap()
}

/// A server in the namespace at `path` that answers each of `count` connections with the client's address.
pub fn serve(path: Option<PathBuf>, port: u16, count: usize) -> std::thread::JoinHandle<()> {
    let (ready, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        if let Some(path) = path {
            netns::enter(&path).unwrap();
        }
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        ready.send(()).unwrap();
        for _ in 0..count {
            let (mut stream, from) = listener.accept().unwrap();
            write!(stream, "{}", from.ip()).unwrap();
        }
    });
    wait.recv().unwrap();
    thread
}

/// What the server at the address answers, asked from the calling thread's namespace.
pub fn ask(addr: IpAddr, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(addr, port), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn ask_from(path: &Path, addr: IpAddr, port: u16) -> std::io::Result<String> {
    netns::run_blocking(path, move || ask(addr, port)).unwrap()
}
