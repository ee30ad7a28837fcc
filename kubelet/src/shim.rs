//! The kubelet's end of the pod supervisor's protocol.
//!
//! Owns: starting a supervisor, connections to it, matching answers to requests. Does not own: the protocol's words
//! (`runtime/shim`), containers.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pintle_shim::{Call, ContainerState, Event, FRAME_LEN_MAX, Failure, Message, Reply, Request, VERSION};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::error::{At as _, FileError};

/// Why a supervisor did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    #[error("cannot start the pod's supervisor {}", runtime.display())]
    Spawn { runtime: PathBuf, source: std::io::Error },
    #[error("the pod's supervisor did not start: {said}")]
    NotReady { said: String },
    #[error("cannot talk to the pod's supervisor at {}", socket.display())]
    Socket { socket: PathBuf, source: std::io::Error },
    #[error("the pod's supervisor is gone")]
    Gone,
    #[error("the pod's supervisor speaks version {version} of the protocol, not {VERSION}")]
    Version { version: u32 },
    #[error("malformed frame from the pod's supervisor")]
    Malformed(#[source] serde_json::Error),
    #[error("unexpected answer from the pod's supervisor: {0:?}")]
    Unexpected(Box<Reply>),
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error(transparent)]
    File(#[from] FileError),
}

type Answer = Result<(Reply, Vec<OwnedFd>), ShimError>;
type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// What to do with an event; `None` says that the connection ended.
pub(crate) type OnEvent = Box<dyn Fn(Option<Event>) + Send + Sync>;

/// A connection to a pod's supervisor. Dropping the last clone closes it.
#[derive(Clone)]
pub(crate) struct Shim {
    inner: Arc<Inner>,
}

struct Inner {
    socket: PathBuf,
    stream: Arc<UnixStream>,
    write: tokio::sync::Mutex<()>,
    pending: Pending,
    next: AtomicU64,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Starts a supervisor for the configuration in `dir/shim.json` and waits until it says it is ready.
pub(crate) fn spawn(runtime: &Path, dir: &Path) -> Result<(), ShimError> {
    let log = dir.join("shim.log");
    let log_file = std::fs::OpenOptions::new().create(true).append(true).open(&log).at("open", &log)?;
    let failed = |source| ShimError::Spawn { runtime: runtime.to_owned(), source };
    let mut child = Command::new(runtime)
        .arg("shim")
        .arg("--config")
        .arg(dir.join("shim.json"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufReader::new(stdout).read_line(&mut said).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if said.trim() == "ready" {
        return Ok(());
    }
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    let last = log.trim().lines().last().unwrap_or_default();
    Err(ShimError::NotReady { said: format!("{status}: {}{last}", said.trim()) })
}

/// Kills the supervisor that listens in a directory; none is fine. On cgroup v1 it is in no limit's cgroup, so that
/// killing the pod's cgroups may miss it. Blocking.
pub(crate) fn kill(dir: &Path) {
    let Ok(stream) = std::os::unix::net::UnixStream::connect(dir.join("shim.sock")) else { return };
    if let Ok(peer) = pintle_sys::scm::peer(&stream)
        && peer.uid() == 0
        && peer.pid() > 1
    {
        // It may be ending at this very moment, which is as good.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(peer.pid()), nix::sys::signal::Signal::SIGKILL);
    }
}

impl Shim {
    /// Connects and checks who answers. Events go to `on_event` until the connection ends.
    pub(crate) async fn connect(dir: &Path, on_event: OnEvent) -> Result<Shim, ShimError> {
        let socket = dir.join("shim.sock");
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|source| ShimError::Socket { socket: socket.clone(), source })?;
        let peer = pintle_sys::scm::peer(&stream)
            .map_err(|e| ShimError::Socket { socket: socket.clone(), source: e.into() })?;
        if peer.uid() != 0 {
            let source = std::io::Error::other(format!("it runs as uid {}", peer.uid()));
            return Err(ShimError::Socket { socket, source });
        }
        let stream = Arc::new(stream);
        let pending = Pending::default();
        let reader = tokio::spawn(read(stream.clone(), pending.clone(), on_event));
        let next = AtomicU64::new(1);
        let shim = Shim {
            inner: Arc::new(Inner { socket, stream, write: tokio::sync::Mutex::new(()), pending, next, reader }),
        };
        match shim.call(Call::Hello).await? {
            Reply::Hello { version, .. } if version == VERSION => Ok(shim),
            Reply::Hello { version, .. } => Err(ShimError::Version { version }),
            other => Err(ShimError::Unexpected(Box::new(other))),
        }
    }

    /// Asks and waits for the answer.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, ShimError> {
        Ok(self.call_with(call, &[]).await?.0)
    }

    /// Asks, passing descriptors, and waits for the answer and its descriptors.
    pub(crate) async fn call_with(&self, call: Call, fds: &[BorrowedFd<'_>]) -> Answer {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.inner.pending).insert(id, sender);
        let body = serde_json::to_vec(&Request { id, call }).map_err(ShimError::Malformed)?;
        let mut frame = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        frame.extend_from_slice(&body);
        self.send(&frame, fds)
            .await
            .map_err(|source| ShimError::Socket { socket: self.inner.socket.clone(), source })?;
        receiver.await.map_err(|_| ShimError::Gone)?
    }

    /// Asks for the containers and for every event from then on.
    pub(crate) async fn subscribe(&self) -> Result<Vec<ContainerState>, ShimError> {
        match self.call(Call::Subscribe).await? {
            Reply::Containers { containers } => Ok(containers),
            other => Err(ShimError::Unexpected(Box::new(other))),
        }
    }

    async fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let _turn = self.inner.write.lock().await;
        let stream = &self.inner.stream;
        let mut sent = 0;
        while sent < frame.len() {
            let fds = if sent == 0 { fds } else { &[] };
            let write = || pintle_sys::scm::send(stream.as_fd(), &frame[sent..], fds).map_err(std::io::Error::from);
            sent += stream.async_io(Interest::WRITABLE, write).await?;
        }
        Ok(())
    }
}

async fn read(stream: Arc<UnixStream>, pending: Pending, on_event: OnEvent) {
    let mut buffer = Vec::new();
    let mut fds = Vec::new();
    while let Some(frame) = next_frame(&stream, &mut buffer, &mut fds).await {
        match serde_json::from_slice::<Message>(&frame) {
            Ok(Message::Response(response)) => {
                let waiting = lock(&pending).remove(&response.id);
                let answer = response.result.map(|r| (r, std::mem::take(&mut fds))).map_err(ShimError::Failed);
                // Whoever asked may have given up.
                waiting.map(|w| w.send(answer));
            }
            Ok(Message::Event(event)) => on_event(Some(event)),
            Err(error) => {
                tracing::warn!(%error, "malformed frame from a pod's supervisor");
                break;
            }
        }
    }
    // Dropping the senders tells everyone who waits that the supervisor is gone.
    lock(&pending).clear();
    on_event(None);
}

/// The next whole frame, or `None` at the end of the connection.
async fn next_frame(stream: &UnixStream, buffer: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> Option<Vec<u8>> {
    loop {
        if let Some(head) = buffer.first_chunk::<4>() {
            let len = u32::from_le_bytes(*head);
            if len > FRAME_LEN_MAX {
                return None;
            }
            let end = 4 + len as usize;
            if buffer.len() >= end {
                let frame = buffer[4..end].to_vec();
                buffer.drain(..end);
                return Some(frame);
            }
        }
        let mut chunk = [0u8; 2048];
        let receive = || pintle_sys::scm::receive(stream.as_fd(), &mut chunk, fds).map_err(std::io::Error::from);
        match stream.async_io(Interest::READABLE, receive).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
