//! The launcher: checks, starts the monitor detached, waits for its reports, says how to use the cluster.

use super::new_dir::NewDir;
use super::settings::{Settings, lock_path, log_dir};
use super::{Arguments, Code};
use crate::check;
use crate::failure::Failure;
use crate::flags::{make_private_dir, own_address};
use crate::lock::{self, Attempt, Lock};
use crate::monitor::open_log;
use crate::out;
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pintle_client::{Cache, Client};
use pintle_sys::process::CommandExt as _;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Lines of a log shown when a start fails.
const TAIL_LINES: usize = 12;

/// Starts the cluster, or finds it running.
pub fn run(args: Arguments) -> Result<Code> {
    let settings = Settings::new(args, own_address)?;
    let dirs = &settings.args.dirs;
    let state = &dirs.state_dir;
    // After a crash there are pods, which a start that fails must not cost; on a fresh machine nothing may stay.
    let fresh = !dirs.run_dir.exists();
    let new_dir = NewDir::note(state);
    make_private_dir(&log_dir(state))?;
    match lock::try_take(&lock_path(state))? {
        Attempt::Busy(_) => already_running(&settings),
        Attempt::Held(lock) => {
            let context = check::Context { dirs: dirs.clone(), host_network: settings.args.host_network };
            if let Some((what, hint)) = check::first_missing(&context) {
                new_dir.take_back(&[&lock_path(state)], &[&log_dir(state)])?;
                let failure = Failure::new(what, format!("{hint}\n`pintle check` lists everything")).code(Code::Unfit);
                return Err(anyhow::Error::new(failure).context("this machine cannot run a cluster"));
            }
            let mut seen = Seen::default();
            let started = start(&settings, lock, &mut seen);
            if started.is_err() && (fresh || !seen.begun) {
                take_back(&settings, &new_dir, &seen)?;
            }
            started
        }
    }
}

/// Removes what a start left that failed before it made anything, or on a machine that was fresh.
fn take_back(settings: &Settings, new_dir: &NewDir, seen: &Seen) -> Result<()> {
    let state = &settings.args.dirs.state_dir;
    if seen.begun {
        crate::commands::down::undo(settings).context("cannot remove what was half started")?;
        return Ok(());
    }
    // Nothing was made but directories. What a cluster has by its flags may be another's, which was why it failed.
    match std::fs::remove_dir(&settings.args.dirs.run_dir) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(e).with_context(|| format!("cannot remove {}", settings.args.dirs.run_dir.display()))?;
        }
        _ => {}
    }
    new_dir.take_back(&[&lock_path(state), &settings.log_file("monitor.log")], &[&log_dir(state)])
}

fn already_running(settings: &Settings) -> Result<Code> {
    out::note(format!("a cluster runs here already ({})", settings.args.dirs.state_dir.display()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limit = Duration::from_secs(settings.args.timeout);
    let ready = runtime.block_on(async { tokio::time::timeout(limit, wait_ready(settings)).await });
    match ready {
        Ok(Ok(node)) => {
            out::note(format!("  node {node} is Ready"));
            how_to_use(settings)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let what = format!("it has no Ready node within {} s", settings.args.timeout);
            let hint = format!(
                "look into {}, or start over: `pintle down && pintle up`",
                log_dir(&settings.args.dirs.state_dir).display()
            );
            Err(Failure::new(what, hint).code(Code::NotReady).into())
        }
    }
}

/// Waits for a Ready node of a cluster that may still be starting; its name.
async fn wait_ready(settings: &Settings) -> Result<String> {
    let path = settings.args.dirs.kubeconfig();
    let client = Client::from_kubeconfig(&path).context("the cluster has no administrator's kubeconfig yet")?;
    let nodes = Cache::<Node>::start(&client);
    let mut changes = nodes.subscribe();
    loop {
        if let Some(node) = nodes.list().iter().find(|n| is_ready(n)) {
            return Ok(node.metadata.name.clone().unwrap_or_default());
        }
        changes.next().await;
    }
}

/// Whether a node's Ready condition is True.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// How far the monitor said it came.
#[derive(Debug, Default)]
struct Seen {
    /// It has what it needs for itself, and makes things.
    begun: bool,
    /// The server is ready.
    server: bool,
}

fn start(settings: &Settings, lock: Lock, seen: &mut Seen) -> Result<Code> {
    let begun = Instant::now();
    let (read, write) = nix::unistd::pipe().context("cannot make a pipe")?;
    out::note(format!("starting a cluster in {}", settings.args.dirs.state_dir.display()));
    spawn_monitor(settings, &lock, write)?;
    // From here on the monitor holds the lock alone.
    drop(lock);
    pintle_sys::fd::set_nonblocking(&read).context("cannot use a pipe")?;
    let limit = begun + Duration::from_secs(settings.args.timeout);
    let mut lines = BufReader::new(std::fs::File::from(read));
    loop {
        match next_line(&mut lines, limit)? {
            Some(Line::Text(text)) if text == "begun" => seen.begun = true,
            Some(Line::Text(text)) if text == "server" => {
                seen.server = true;
                out::note(format!("  API server {} ({})", settings.server_url(), seconds(begun)));
            }
            Some(Line::Text(text)) if text == "agent" => {
                out::note(format!("  node Ready ({})", seconds(begun)));
                return how_to_use(settings);
            }
            Some(Line::Text(text)) => {
                let told = text.strip_prefix("failed ").unwrap_or(&text).replace('\x1f', "\n");
                return Err(did_not_start(settings, seen, told.trim_start_matches("error: ").trim()));
            }
            Some(Line::End) => return Err(did_not_start(settings, seen, "the monitor died")),
            None => {
                let what = format!("no Ready node within {} s; the cluster goes on trying", settings.args.timeout);
                return Err(did_not_start(settings, seen, &what));
            }
        }
    }
}

fn spawn_monitor(settings: &Settings, lock: &Lock, report: OwnedFd) -> Result<()> {
    let log = open_log(&settings.log_file("monitor.log"))?;
    let lock = lock.share()?;
    let mut command = Command::new(std::env::current_exe().context("cannot find our own program")?);
    command
        .args(["up", "--foreground"])
        .arg(format!("--lock-fd={}", pintle_sys::process::number_of(&lock)))
        .arg(format!("--report-fd={}", pintle_sys::process::number_of(&report)))
        .args(settings.args.to_args())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot duplicate the log's descriptor")?)
        .stderr(log)
        .pass_fd(lock)
        .pass_fd(report)
        .new_session();
    // Not waited for: it outlives us, and init reaps it.
    let _monitor = command.spawn().context("cannot start the monitor")?;
    Ok(())
}

enum Line {
    Text(String),
    End,
}

/// The next whole line of the monitor's reports; `None` when the time is up.
fn next_line(lines: &mut BufReader<std::fs::File>, limit: Instant) -> Result<Option<Line>> {
    let mut text = String::new();
    loop {
        match lines.read_line(&mut text) {
            Ok(0) if text.is_empty() => return Ok(Some(Line::End)),
            Ok(_) => return Ok(Some(Line::Text(text.trim_end().to_owned()))),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).context("cannot read the monitor's report"),
        }
        let left_ms = limit.saturating_duration_since(Instant::now()).as_millis();
        if left_ms == 0 {
            return Ok(None);
        }
        let mut fds = [PollFd::new(lines.get_ref().as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(u16::try_from(left_ms).unwrap_or(u16::MAX))) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e).context("poll on the monitor's report"),
        }
    }
}

/// What the launcher says when the cluster does not get ready. `what` may be a whole rendered error of the monitor, whose
/// own hint is then worth more than ours.
fn did_not_start(settings: &Settings, seen: &Seen, what: &str) -> anyhow::Error {
    let log = settings.log_file(if seen.server { "agent.log" } else { "server.log" });
    // There is none yet when the monitor itself could not begin.
    if log.exists() {
        out::note(format!("--- the end of {}\n{}\n---", log.display(), tail(&log)));
    }
    let (what, hint) = match what.split_once("\n  hint: ") {
        Some((what, hint)) => (what, hint.to_owned()),
        None => (what, format!("the whole log: {}\n`pintle down` removes what was started", log.display())),
    };
    let what = what.replace("\n  cause: ", ": ");
    anyhow::Error::new(Failure::new(what, hint).code(Code::NotReady)).context("the cluster did not get ready")
}

fn tail(path: &Path) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        }
        Err(e) => format!("(cannot be read: {e})"),
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}

/// People read standard error; the one line a shell may `eval` is on standard output.
fn how_to_use(settings: &Settings) -> Result<Code> {
    out::note("use it:");
    out::line(format!("export KUBECONFIG={}", settings.args.dirs.kubeconfig().display()))?;
    out::note("kubectl get nodes\nstop it: pintle down");
    Ok(Code::Done)
}
