//! The frame every long-running subcommand shares: a small runtime, signals, and telling whoever started us.

use crate::notify;
use anyhow::{Context as _, Result};
use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Threads that run tasks. Everything heavy goes to blocking threads, which end when idle.
const WORKERS: usize = 2;
/// Blocking threads at most: each unpacks or mounts one thing at a time.
const BLOCKING_MAX: usize = 32;
/// A blocking thread that has had nothing to do for this long gives its stack back.
const BLOCKING_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs `work` on a fresh runtime until it ends. SIGTERM and SIGINT cancel the token, upon which `work` should end in
/// order; a second signal ends the process at once.
pub fn run<F>(work: impl FnOnce(CancellationToken) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    pintle_sys::process::limit_heap_arenas();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        listen_for_signals(stop.clone())?;
        work(stop).await
    });
    notify::send("STOPPING=1");
    // Whatever is still running on a blocking thread is one short system call: not worth waiting for.
    runtime.shutdown_background();
    result
}

/// A daemon that has been ready for this long has done what is done once.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(3);

/// Tells whoever started us that we serve, and a little later gives back the memory that only starting needed. Within a
/// runtime.
pub fn ready() {
    notify::send("READY=1");
    tokio::spawn(async {
        tokio::time::sleep(SETTLED).await;
        // Reads /proc: a file like any other. A panic there would have been printed, and costs nothing but memory.
        let _ = tokio::task::spawn_blocking(pintle_sys::memory::release_code_and_heap).await;
    });
}

/// Cancels the token at the first SIGTERM or SIGINT; ends the process at the second.
pub fn listen_for_signals(stop: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                // 128 + SIGTERM, as a shell would report it.
                std::process::exit(143);
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    Ok(())
}

/// Runs tasks side by side until `stop`; the first one to fail cancels the others. A task that ends without being asked
/// to is a failure too.
pub struct Together {
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<(&'static str, Result<()>)>,
}

impl Together {
    /// No tasks yet.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: tokio::task::JoinSet::new() }
    }

    /// Adds a task.
    pub fn add(&mut self, name: &'static str, task: impl Future<Output = Result<()>> + Send + 'static) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Waits for all; the first failure is the result.
    pub async fn finish(mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let result = match ended {
                Ok((name, Ok(()))) if !self.stop.is_cancelled() => {
                    Err(anyhow::anyhow!("the {name} ended without being asked to"))
                }
                Ok((_, Ok(()))) => Ok(()),
                Ok((name, Err(e))) => Err(e).with_context(|| format!("the {name} failed")),
                Err(e) => Err(e).context("a component panicked"),
            };
            if let Err(error) = result
                && first.is_ok()
            {
                first = Err(error);
                self.stop.cancel();
            }
        }
        first
    }
}
