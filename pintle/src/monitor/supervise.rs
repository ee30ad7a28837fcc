//! Drives one child through its life.

use super::policy::{Life, Next};
use super::{News, Recipe};
use crate::notify::{Listener, Message};
use crate::process::{self, Identity, Stopped};
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a child may take to end in order.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the child running until `stop`.
pub async fn run(recipe: Recipe, news: mpsc::UnboundedSender<News>, stop: CancellationToken) -> Result<()> {
    end_stray(&recipe).await?;
    let listener = Listener::bind(&recipe.notify)?;
    let mut life = Life::default();
    while !stop.is_cancelled() {
        let started = Instant::now();
        let command = recipe.command(&listener)?;
        let mut child = Command::from(command).spawn().context("cannot start our own program")?;
        let pid = child.id().context("a child that was just started has a pid")?;
        Identity::of(i32::try_from(pid)?)?.write(&recipe.pidfile)?;
        let ended = watch(&recipe, &mut child, &listener, &mut life, &news, &stop).await?;
        let Some(how) = ended else { break };
        match life.died(started.elapsed()) {
            Next::GiveUp => {
                // Nobody may be listening any more; the log has it too.
                let _ = news.send(News::GaveUp(recipe.part, how));
                stop.cancelled().await;
            }
            Next::Restart(delay) => {
                tracing::warn!(part = recipe.part.name(), how, delay_ms = delay.as_millis(), "died, starting it again");
                tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(delay) => {} }
            }
        }
    }
    std::fs::remove_file(&recipe.pidfile).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })?;
    Ok(())
}

/// Ends a child of a monitor that was killed.
async fn end_stray(recipe: &Recipe) -> Result<()> {
    let Some(stray) = Identity::read(&recipe.pidfile)? else { return Ok(()) };
    let part = recipe.part.name();
    let stopped = tokio::task::spawn_blocking(move || process::stop(&stray, PATIENCE)).await??;
    if stopped != Stopped::WasGone {
        tracing::warn!(part, ?stopped, "ended a process that a killed monitor left");
    }
    Ok(())
}

/// Follows the child until it dies (how it did) or is stopped (`None`).
async fn watch(
    recipe: &Recipe,
    child: &mut Child,
    listener: &Listener,
    life: &mut Life,
    news: &mpsc::UnboundedSender<News>,
    stop: &CancellationToken,
) -> Result<Option<String>> {
    loop {
        tokio::select! {
            status = child.wait() => {
                return Ok(Some(status.context("cannot wait for our own child")?.to_string()));
            }
            said = listener.next() => {
                if said? == Message::Ready {
                    life.ready();
                    // The starter stops listening once the cluster is ready.
                    let _ = news.send(News::Ready(recipe.part));
                }
            }
            () = stop.cancelled() => {
                stop_child(child).await?;
                return Ok(None);
            }
        }
    }
}

async fn stop_child(child: &mut Child) -> Result<()> {
    // `None` means that it is reaped already; until then its pid cannot be another's.
    let Some(pid) = child.id() else { return Ok(()) };
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(e) => return Err(e).with_context(|| format!("cannot signal our own child {pid}")),
    }
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(status) => status.map(drop).context("cannot wait for our own child"),
        Err(_) => {
            tracing::warn!(pid, "did not end within 20 s, killing it");
            child.kill().await.context("cannot kill our own child")
        }
    }
}
