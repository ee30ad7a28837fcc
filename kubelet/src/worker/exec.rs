//! One more process in a container: for probes and hooks, output captured; for users, their own descriptors.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::Spec;
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

/// How a captured process ended and what it said.
pub(crate) struct Captured {
    pub(crate) exit: Exit,
    pub(crate) output: String,
}

/// A process under way.
pub(crate) struct Running {
    pub(crate) shim: Shim,
    pub(crate) exec: u64,
    /// The terminal's master, if one was asked for.
    pub(crate) console: Option<OwnedFd>,
    ends: mpsc::UnboundedReceiver<Option<Event>>,
}

impl Running {
    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> Result<Exit, ShimError> {
        loop {
            match self.ends.recv().await {
                Some(Some(Event::ExecExited { exec, exit })) if exec == self.exec => return Ok(exit),
                Some(Some(_)) => {}
                Some(None) | None => return Err(ShimError::Gone),
            }
        }
    }
}

/// Starts a process on a connection of its own. `fds` are stdin, stdout, stderr; none with a terminal.
pub(crate) async fn start(
    ctx: &Context,
    pod_uid: &str,
    container: &str,
    id: &str,
    command: Vec<String>,
    fds: Option<[BorrowedFd<'_>; 3]>,
    limit: Option<Duration>,
) -> Result<Running, PodError> {
    let bundle = ctx.config.dirs.bundle(pod_uid, container).join("config.json");
    let spec = blocking(move || -> Result<Spec, PodError> {
        let bytes = std::fs::read(&bundle).at("read", &bundle)?;
        Ok(serde_json::from_slice(&bytes).map_err(std::io::Error::other).at("read", &bundle)?)
    })
    .await?;
    let process = exec_process(&spec, command, fds.is_none());
    let (tell, ends) = mpsc::unbounded_channel();
    // Whoever waited may be gone.
    let shim = Shim::connect(&ctx.config.dirs.pod_run(pod_uid), Box::new(move |e| drop(tell.send(e)))).await?;
    let timeout_ms = limit.map(|l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX));
    let call = Call::Exec { container: id.to_owned(), process: Box::new(process), timeout_ms };
    let fds = fds.as_ref().map_or(&[][..], |f| &f[..]);
    let (reply, mut passed) = shim.call_with(call, fds).await?;
    match reply {
        Reply::ExecStarted { exec, .. } => Ok(Running { shim, exec, console: passed.pop(), ends }),
        other => Err(ShimError::Unexpected(Box::new(other)).into()),
    }
}

/// Runs a process to its end and keeps the first of its output.
pub(super) async fn capture(
    ctx: &Arc<Context>,
    pod_uid: &str,
    container: &str,
    id: &str,
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
    let mut running = start(ctx, pod_uid, container, id, command, Some(fds), limit).await?;
    drop(write);
    let mut pipe = pipe::Receiver::from_owned_fd(read).at("read", null)?;
    let output = async {
        let mut kept = Vec::new();
        let mut chunk = [0u8; 1024];
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            let room = OUTPUT_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..count.min(room)]);
        }
        kept
    };
    tokio::pin!(output);
    let mut kept = None;
    let exit = loop {
        tokio::select! {
            exit = running.wait() => break exit?,
            bytes = &mut output, if kept.is_none() => kept = Some(bytes),
        }
    };
    // A child of the process may hold the pipe open; what has been said until now is enough.
    let kept = match kept {
        Some(bytes) => bytes,
        None => tokio::time::timeout(Duration::from_millis(50), output).await.unwrap_or_default(),
    };
    Ok(Captured { exit, output: String::from_utf8_lossy(&kept).trim_end().to_owned() })
}
