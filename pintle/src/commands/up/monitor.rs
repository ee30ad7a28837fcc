//! The monitor's edge: lock, namespace, children, reports.

use super::settings::{Settings, lock_path, log_dir};
use super::{Arguments, Claim, Code};
use crate::failure::Failure;
use crate::flags::{make_private_dir, own_address};
use crate::lock::{self, Attempt, Lock};
use crate::monitor::{self, News, Part};
use crate::process::Identity;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::Write as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Where progress goes: the launcher's pipe, until it is closed.
struct Report(Option<File>);

impl Report {
    /// One line. A launcher that was killed reads no more; the cluster goes on without it.
    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.0
            && writeln!(pipe, "{line}").is_err()
        {
            self.0 = None;
        }
    }
}

/// Is the monitor until SIGTERM.
pub fn run(args: Arguments) -> Result<Code> {
    let mut report = Report(args.report_fd.and_then(pintle_sys::fd::inherit).map(File::from));
    let result = stay(args, &mut report);
    if let Err(error) = &result {
        report.say(&format!("failed {}", crate::failure::render(error).replace('\n', "\x1f")));
    }
    result.map(|()| Code::Done)
}

fn stay(args: Arguments, report: &mut Report) -> Result<()> {
    let settings = Settings::new(args, own_address)?;
    let dirs = &settings.args.dirs;
    make_private_dir(&log_dir(&dirs.state_dir))?;
    std::fs::create_dir_all(&dirs.run_dir).with_context(|| format!("cannot make {}", dirs.run_dir.display()))?;
    let mut lock = take_lock(&settings)?;
    lock.sign(&Identity::own()?)?;
    // Before anything is made or remembered: repairing the link, or ending strays, would take it from another cluster.
    let _claims = Claim::all(&settings)?;
    report.say("begun");
    settings.save()?;
    // Spawned children get SIGTERM when the *thread* that spawned them ends: one thread does it all.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_millis(100))
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        crate::daemon::listen_for_signals(stop.clone())?;
        if let Some(link) = &settings.link {
            pintle_net::link::ensure(link).await.context("cannot link the node to this machine")?;
        }
        let (news, heard) = mpsc::unbounded_channel();
        let running = monitor::run(settings.server(), settings.agent(), news, stop.clone());
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => ended,
            failed = tell(heard, report) => {
                stop.cancel();
                running.await?;
                failed
            }
        }
    });
    drop(lock);
    result
}

fn take_lock(settings: &Settings) -> Result<Lock> {
    if let Some(fd) = settings.args.lock_fd.and_then(pintle_sys::fd::inherit) {
        return Ok(Lock::inherited(fd));
    }
    match lock::try_take(&lock_path(&settings.args.dirs.state_dir))? {
        Attempt::Held(lock) => Ok(lock),
        Attempt::Busy(who) => {
            let who = who.map_or_else(|| "another process".to_owned(), |w| format!("process {}", w.pid));
            let what = format!("{} is in use by {who}", settings.args.dirs.state_dir.display());
            Err(Failure::new(what, "the cluster runs already; `pintle down` stops it").into())
        }
    }
}

/// Passes news on to the launcher and to systemd; returns only when a part gave up.
async fn tell(mut heard: mpsc::UnboundedReceiver<News>, report: &mut Report) -> Result<()> {
    while let Some(news) = heard.recv().await {
        match news {
            News::Ready(Part::Server) => report.say("server"),
            News::Ready(Part::Agent) => {
                report.say("agent");
                report.0 = None;
                crate::daemon::ready();
            }
            News::GaveUp(part, how) => {
                let what = format!("the {} does not start ({how})", part.name());
                return Err(Failure::new(what, format!("its log says why: {}.log", part.name()))
                    .code(Code::NotReady)
                    .into());
            }
        }
    }
    std::future::pending().await
}
