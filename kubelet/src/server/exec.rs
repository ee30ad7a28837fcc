//! `/exec` and `/attach`: a process's streams over one WebSocket.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use pintle_kubelet_plan::containers::{find, name, uid};
use pintle_shim::Call;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::routes::Found;
use super::stream::{self, RESIZE, Received, STDERR, STDIN, STDOUT, Sink, Source};
use super::{Body, text};
use crate::context::Context;
use crate::error::{At as _, FileError, PodError, chain};
use crate::shim::Shim;
use crate::worker::exec::Line;

/// What a client wants of a container.
struct Wish {
    ctx: Arc<Context>,
    pod_uid: String,
    container: String,
    id: String,
    /// `None` attaches to the container's own process.
    command: Option<Vec<String>>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Starts a process, or attaches to the container's own, and joins its streams to the client's.
pub(super) fn answer(request: Request<Incoming>, ctx: Arc<Context>, found: Found, attach: bool) -> Response<Body> {
    let Some(container) = found.container.filter(|c| c.running) else {
        let pod = name(&found.view.pod);
        let why = format!("container {} of pod {pod} is not running\n", found.name);
        return text(StatusCode::BAD_REQUEST, why);
    };
    let pairs = stream::query(request.uri());
    let on = |names: [&str; 2]| pairs.iter().any(|(k, v)| names.contains(&k.as_str()) && (v == "1" || v == "true"));
    let command: Vec<String> = pairs.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect();
    if command.is_empty() && !attach {
        return text(StatusCode::BAD_REQUEST, "no command given\n");
    }
    let own_tty = find(&found.view.pod, &found.name).is_some_and(|(_, c)| c.tty.unwrap_or(false));
    let wish = Wish {
        ctx,
        pod_uid: uid(&found.view.pod).to_owned(),
        container: found.name,
        id: container.id,
        command: (!attach).then_some(command),
        stdin: on(["stdin", "input"]),
        stdout: on(["stdout", "output"]),
        stderr: on(["stderr", "error"]),
        tty: if attach { own_tty } else { on(["tty", "tty"]) },
    };
    stream::upgrade(request, &stream::PROTOCOLS, move |sink, source| join(wish, sink, source))
}

async fn join(wish: Wish, sink: Sink, source: Source) {
    let mut client = Client { sink, side: Side::Silent(source) };
    let status = match Box::pin(run(&wish, &mut client)).await {
        Ok(code) => stream::exit_status(code),
        Err(e) => {
            let what = if wish.command.is_some() { "executing command in" } else { "attaching to" };
            stream::failure(&format!("error {what} container {}: {}", wish.container, chain(&e)))
        }
    };
    let Client { sink, side } = client;
    match side {
        Side::Silent(source) => stream::finish(sink, stream::drain(source), &status).await,
        Side::Taken(task) => stream::finish(sink, async { task.await.ok() }, &status).await,
        Side::Gone => {}
    }
}

/// Whom we talk to.
struct Client {
    sink: Sink,
    side: Side,
}

/// The half it talks on.
enum Side {
    /// Nobody listens yet.
    Silent(Source),
    /// A task takes what comes, until the client leaves.
    Taken(tokio::task::JoinHandle<Source>),
    Gone,
}

/// Our ends of a process's streams.
#[derive(Default)]
struct Ours {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

async fn run(wish: &Wish, client: &mut Client) -> Result<i32, PodError> {
    match &wish.command {
        Some(command) => {
            let mut line = Line::open(&wish.ctx, &wish.pod_uid, &wish.container, &wish.id).await?;
            let (end, exec) = if wish.tty {
                let mut begun = line.begin(command.clone(), None, None).await?;
                let ours = begun.console.take().map_or_else(|| Ok(Ours::default()), |master| both_ways(&master))?;
                let target = Some((line.shim.clone(), Some(begun.exec)));
                (pump(wish, ours, client, target).await, begun.exec)
            } else {
                let (ours, theirs) = pipes()?;
                let fds = [theirs[0].as_fd(), theirs[1].as_fd(), theirs[2].as_fd()];
                let begun = line.begin(command.clone(), Some(fds), None).await?;
                drop(theirs);
                (pump(wish, ours, client, None).await, begun.exec)
            };
            match end {
                End::Output => Ok(line.wait(exec).await?.code),
                // A process whose client has left is nobody's business any more.
                End::Client => Ok(0),
            }
        }
        None => {
            let (ours, theirs) = pipes()?;
            let shim = Shim::connect(&wish.ctx.config.dirs.pod_run(&wish.pod_uid), Box::new(|_| ())).await?;
            let all = [theirs[0].as_fd(), theirs[1].as_fd(), theirs[2].as_fd()];
            let fds = if wish.stdin { &all[..] } else { &all[1..] };
            shim.call_with(Call::Attach { container: wish.id.clone(), stdin: wish.stdin }, fds).await?;
            drop(theirs);
            pump(wish, ours, client, Some((shim, None))).await;
            Ok(0)
        }
    }
}

/// Why bytes are carried no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Output,
    Client,
}

/// Carries bytes both ways until the process's output ends or the client leaves.
async fn pump(wish: &Wish, ours: Ours, client: &mut Client, terminal: Option<(Shim, Option<u64>)>) -> End {
    let (out, mut outputs) = mpsc::channel::<(u8, Vec<u8>)>(4);
    let Ours { stdin, stdout, stderr } = ours;
    let outgoing = [(STDOUT, stdout, wish.stdout), (STDERR, stderr, wish.stderr)];
    for (channel, pipe, wanted) in outgoing {
        if let Some(pipe) = pipe {
            tokio::spawn(read(channel, pipe, wanted, out.clone()));
        }
    }
    drop(out);
    let Side::Silent(source) = std::mem::replace(&mut client.side, Side::Gone) else { return End::Client };
    let mut incoming = tokio::spawn(Box::pin(take(source, stdin.filter(|_| wish.stdin), wish.id.clone(), terminal)));
    loop {
        tokio::select! {
            chunk = outputs.recv() => match chunk {
                Some((channel, bytes)) => if !stream::send(&mut client.sink, channel, &bytes).await {
                    incoming.abort();
                    return End::Client;
                },
                None => break,
            },
            // The client is gone: what the process still says has no reader.
            _ = &mut incoming => return End::Client,
        }
    }
    client.side = Side::Taken(incoming);
    End::Output
}

async fn read(channel: u8, mut pipe: pipe::Receiver, wanted: bool, out: mpsc::Sender<(u8, Vec<u8>)>) {
    let mut chunk = vec![0; 16 << 10];
    // A terminal's end is told as EIO.
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        if wanted && out.send((channel, chunk[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Takes what the client sends until it leaves.
async fn take(
    mut source: Source,
    mut stdin: Option<pipe::Sender>,
    id: String,
    terminal: Option<(Shim, Option<u64>)>,
) -> Source {
    while let Some(received) = stream::receive(&mut source).await {
        match received {
            Received::Data(STDIN, bytes) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Received::Data(RESIZE, bytes) => {
                if let (Some((shim, exec)), Some((width, height))) = (&terminal, stream::size(&bytes)) {
                    let call = Call::Resize { container: id.clone(), exec: *exec, width, height };
                    if let Err(e) = shim.call(call).await {
                        tracing::debug!(error = chain(&e), "cannot resize a terminal");
                    }
                }
            }
            Received::Closed(STDIN) => stdin = None,
            Received::Data(..) | Received::Closed(_) => {}
        }
    }
    source
}

/// Three pipes: our ends do not block, theirs do.
fn pipes() -> Result<(Ours, [OwnedFd; 3]), FileError> {
    let at = std::path::Path::new("pipe");
    let make = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).at("make", at);
    let ((in_read, in_write), (out_read, out_write), (err_read, err_write)) = (make()?, make()?, make()?);
    for fd in [&in_write, &out_read, &err_read] {
        pintle_sys::fd::set_nonblocking(fd).at("set up", at)?;
    }
    let ours = Ours {
        stdin: Some(pipe::Sender::from_owned_fd(in_write).at("register", at)?),
        stdout: Some(pipe::Receiver::from_owned_fd(out_read).at("register", at)?),
        stderr: Some(pipe::Receiver::from_owned_fd(err_read).at("register", at)?),
    };
    Ok((ours, [in_read, out_write, err_write]))
}

/// A terminal's master carries both directions. tokio's pipes refuse terminals when checked, hence `unchecked`.
fn both_ways(master: &OwnedFd) -> Result<Ours, FileError> {
    let at = std::path::Path::new("terminal");
    pintle_sys::fd::set_nonblocking(master).at("set up", at)?;
    let (read, write) = (
        pintle_sys::fd::duplicate(master).at("duplicate", at)?,
        pintle_sys::fd::duplicate(master).at("duplicate", at)?,
    );
    Ok(Ours {
        stdin: Some(pipe::Sender::from_owned_fd_unchecked(write).at("register", at)?),
        stdout: Some(pipe::Receiver::from_owned_fd_unchecked(read).at("register", at)?),
        stderr: None,
    })
}
