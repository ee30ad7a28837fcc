//! One more process in a container: for probes and hooks, output captured; for users, their own descriptors.
//!
//! ```text
//!   Line (a container's process as a pattern, a connection of its own) ── begin ──> an exec's number ── wait ──> exit
//! ```
//! A probe keeps its line, so that asking again costs one message; users and hooks take a new one.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::{Process, Spec};
use pintle_kubelet_plan::oci::exec_process;
use pintle_shim::{Call, Event, Exit, Reply};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::blocking;
use crate::context::Context;
use crate::error::{At as _, PodError};
use crate::shim::{Shim, ShimError};

/// Output kept of a probe or hook (kubelet's `maxReadLength`).
const OUTPUT_MAX: usize = 10 << 10;
/// How long output is awaited after the process has ended: a child of it may hold the pipe open.
const LATE_OUTPUT_MS: u64 = 50;

/// How a captured process ended and what it said.
pub(crate) struct Captured {
    pub(crate) exit: Exit,
    pub(crate) output: String,
}

/// A connection to a pod's supervisor over which processes are run in one container.
pub(crate) struct Line {
    pub(crate) shim: Shim,
    id: String,
    pattern: Process,
    ends: mpsc::UnboundedReceiver<Option<Event>>,
}

/// A process under way.
pub(crate) struct Begun {
    pub(crate) exec: u64,
    /// The terminal's master, if one was asked for.
    pub(crate) console: Option<OwnedFd>,
}

impl Line {
    /// Connects; `id` is the container's.
    pub(crate) async fn open(ctx: &Context, pod_uid: &str, container: &str, id: &str) -> Result<Line, PodError> {
        let bundle = ctx.config.dirs.bundle(pod_uid, container).join("config.json");
        let pattern = blocking(move || pattern(bundle)).await?;
        let (tell, ends) = mpsc::unbounded_channel();
        // Whoever waited may be gone.
        let shim = Shim::connect(&ctx.config.dirs.pod_run(pod_uid), Box::new(move |e| drop(tell.send(e)))).await?;
        Ok(Line { shim, id: id.to_owned(), pattern, ends })
    }

    /// Starts a process. `fds` are stdin, stdout, stderr; none with a terminal.
    pub(crate) async fn begin(
        &self,
        command: Vec<String>,
        fds: Option<[BorrowedFd<'_>; 3]>,
        limit: Option<Duration>,
    ) -> Result<Begun, PodError> {
        let process = exec_process(&self.pattern, command, fds.is_none());
        let timeout_ms = limit.map(|l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX));
        let call = Call::Exec { container: self.id.clone(), process: Box::new(process), timeout_ms };
        let fds = fds.as_ref().map_or(&[][..], |f| &f[..]);
        let (reply, mut passed) = self.shim.call_with(call, fds).await?;
        match reply {
            Reply::ExecStarted { exec, .. } => Ok(Begun { exec, console: passed.pop() }),
            other => Err(ShimError::Unexpected(Box::new(other)).into()),
        }
    }

    /// Waits for a process's end.
    pub(crate) async fn wait(&mut self, wanted: u64) -> Result<Exit, ShimError> {
        loop {
            match self.ends.recv().await {
                Some(Some(Event::ExecExited { exec, exit })) if exec == wanted => return Ok(exit),
                Some(Some(_)) => {}
                Some(None) | None => return Err(ShimError::Gone),
            }
        }
    }

    /// Runs a process to its end and keeps the first of its output.
    pub(crate) async fn capture(
        &mut self,
        command: Vec<String>,
        limit: Option<Duration>,
    ) -> Result<Captured, PodError> {
        let null = std::path::Path::new("/dev/null");
        let stdin = std::fs::File::open(null).at("open", null)?;
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK).at("make", null)?;
        // The writing end blocks, as programs expect of their output.
        nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).at("set up", null)?;
        let fds = [stdin.as_fd(), write.as_fd(), write.as_fd()];
        let begun = self.begin(command, Some(fds), limit).await?;
        drop(write);
        let mut pipe = pipe::Receiver::from_owned_fd(read).at("read", null)?;
        let output = first_of(&mut pipe);
        tokio::pin!(output);
        let mut kept = None;
        let exit = loop {
            tokio::select! {
                exit = self.wait(begun.exec) => break exit?,
                bytes = &mut output, if kept.is_none() => kept = Some(bytes),
            }
        };
        let kept = match kept {
            Some(bytes) => bytes,
            None => tokio::time::timeout(Duration::from_millis(LATE_OUTPUT_MS), output).await.unwrap_or_default(),
        };
        Ok(Captured { exit, output: String::from_utf8_lossy(&kept).trim_end().to_owned() })
    }
}

/// A container's own process; all others are made after it. Blocking.
fn pattern(bundle: PathBuf) -> Result<Process, PodError> {
    let bytes = std::fs::read(&bundle).at("read", &bundle)?;
    let spec: Spec = serde_json::from_slice(&bytes).map_err(std::io::Error::other).at("read", &bundle)?;
    Ok(spec.process().clone().unwrap_or_default())
}

/// Reads to the end and keeps the beginning.
async fn first_of(pipe: &mut pipe::Receiver) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0u8; 1024];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
    kept
}

/// Runs one process to its end on a line of its own.
pub(super) async fn capture(
    ctx: &Arc<Context>,
    pod_uid: &str,
    container: &str,
    id: &str,
    command: Vec<String>,
    limit: Option<Duration>,
) -> Result<Captured, PodError> {
    Line::open(ctx, pod_uid, container, id).await?.capture(command, limit).await
}
