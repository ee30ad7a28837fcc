//! The monitor of `pintle up`: makes the node's namespace, keeps `server` and `agent` running in it, stops them in
//! order.
//!
//! ```text
//!             spawn            READY=1
//!   Waiting ────────► Starting ────────► Running
//!      ▲  the delay      │                  │
//!      └─────────────────┴──── it died ─────┘        SIGTERM, in any state: stop the child, end
//! ```
//!
//! The policy (how long to wait, when to give up) is in `policy.rs`. Pods are not the monitor's business: they survive
//! it and its children.

mod policy;
mod supervise;

use crate::notify::Listener;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One of the two children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// API server, scheduler, controllers.
    Server,
    /// Kubelet, proxy, routes.
    Agent,
}

impl Part {
    /// The subcommand, and the stem of its files.
    pub fn name(self) -> &'static str {
        match self {
            Part::Server => "server",
            Part::Agent => "agent",
        }
    }
}

/// How to start a child.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which.
    pub part: Part,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The namespace it lives in; `None` is the caller's.
    pub netns: Option<PathBuf>,
    /// Where its log goes.
    pub log: PathBuf,
    /// Where its identity is written.
    pub pidfile: PathBuf,
    /// Where it tells us that it is ready.
    pub notify: PathBuf,
}

/// What the monitor tells its starter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A part became ready, for the first or a further time.
    Ready(Part),
    /// A part died before it was ever ready, and will not be tried again.
    GaveUp(Part, String),
}

/// Keeps both parts running until `stop`; the agent starts when the server has been ready once, and stops first.
pub async fn run(
    server: Recipe,
    agent: Recipe,
    news: mpsc::UnboundedSender<News>,
    stop: CancellationToken,
) -> Result<()> {
    let server_stop = CancellationToken::new();
    let agent_stop = stop.child_token();
    let (server_news, mut from_server) = mpsc::unbounded_channel();
    let server_task = tokio::spawn(supervise::run(server, server_news, server_stop.clone()));
    let mut agent_task = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(said) = from_server.recv() => {
                if agent_task.is_none() && said == News::Ready(Part::Server) {
                    agent_task = Some(tokio::spawn(supervise::run(agent.clone(), news.clone(), agent_stop.clone())));
                }
                // The starter may have stopped listening: it does so once the cluster is ready.
                let _ = news.send(said);
            }
        }
    }
    if let Some(task) = agent_task {
        task.await.context("the agent's supervisor panicked")??;
    }
    server_stop.cancel();
    server_task.await.context("the server's supervisor panicked")?
}

impl Recipe {
    /// The command, ready to spawn.
    fn command(&self, listener: &Listener) -> Result<std::process::Command> {
        use pintle_sys::process::CommandExt as _;
        let program = std::env::current_exe().context("cannot find our own program")?;
        let log = open_log(&self.log)?;
        let mut command = std::process::Command::new(program);
        command
            .args(&self.args)
            .env("NOTIFY_SOCKET", listener.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot duplicate the log's descriptor")?)
            .stderr(log)
            .death_signal(nix::sys::signal::Signal::SIGTERM)
            .new_process_group();
        if let Some(netns) = &self.netns {
            let namespace =
                pintle_sys::netns::open(netns).with_context(|| format!("cannot open {}", netns.display()))?;
            command.in_netns(namespace);
        }
        Ok(command)
    }
}

/// A log larger than this is moved aside when its writer starts.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Opens a log for appending, keeping one older file.
pub fn open_log(path: &Path) -> Result<std::fs::File> {
    if std::fs::metadata(path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
        let older = path.with_extension("log.1");
        std::fs::rename(path, &older).with_context(|| format!("cannot move {} aside", path.display()))?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open the log {}", path.display()))
}
