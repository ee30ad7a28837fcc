//! Work done in a forked child, so that a supervisor never waits for it and never holds the memory it needs: making
//! a container takes milliseconds, hooks and a parsed configuration.
//!
//! Owns: the fork and the words between worker and supervisor. Does not own: what the supervisor does with them.
//!
//! A worker's children (a container's init, an exec's process) become the supervisor's when the worker ends, because
//! the supervisor is the reaper of orphans; their deaths are then its SIGCHLD.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use pintle_shim::{Failure, FailureKind};
use pintle_sys::clone::{self, CloneArgs};
use pintle_sys::{Errno, scm};
use serde::{Deserialize, Serialize};

use crate::container::{self, CreateRequest, Env, Force};
use crate::error::{Doing as _, Error, Result};
use crate::exec::{ExecRequest, exec};
use crate::launch::{self, Late};
use crate::sync::ParentEnd;

/// The longest message, in bytes: paths of a dozen cgroups and a sentence.
const MESSAGE_LEN_MAX: usize = 64 << 10;
/// The longest sentence that travels.
const SENTENCE_LEN_MAX: usize = 16 << 10;

/// What a worker tells. All but [`News::Running`] are its last words.
#[derive(Debug, Serialize, Deserialize)]
pub enum News {
    /// A container waits at its fifo. Descriptors: its channel, then its console if it has one.
    Created(Made),
    /// Start: init has become the program, or failed to.
    Running(Option<Failure>),
    /// A container was made of images and runs. Descriptor: its console if it has one.
    Restored(Remade),
    /// A process runs. Descriptor: its console if it has one.
    ExecStarted { pid: i32, warnings: Vec<String> },
    /// The work is done, or has failed.
    Done(std::result::Result<(), Failure>),
}

/// What a supervisor keeps of a container it had made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// Init as seen outside.
    pub pid: i32,
    /// Directory per hierarchy.
    pub cgroups: BTreeMap<String, PathBuf>,
    /// The memory killer's count so far: cgroups of a restarted container may be old.
    pub oom_kills: u64,
    /// Systemd removes the cgroups with their last process.
    pub is_unit: bool,
    /// Whether init's death ends everything in it.
    pub own_pid_ns: bool,
    /// For the sentence of a late failure.
    pub late: Late,
    /// Refusals the container lives with.
    pub warnings: Vec<String>,
}

/// What a supervisor keeps of a container that was restored.
#[derive(Debug, Serialize, Deserialize)]
pub struct Remade {
    /// Init as seen outside.
    pub pid: i32,
    /// Directory per hierarchy.
    pub cgroups: BTreeMap<String, PathBuf>,
    /// The memory killer's count so far.
    pub oom_kills: u64,
    /// Systemd removes the cgroups with their last process.
    pub is_unit: bool,
    /// Whether init's death ends everything in it.
    pub own_pid_ns: bool,
}

/// A worker under way.
#[derive(Debug)]
pub struct Worker {
    pid: Pid,
    channel: OwnedFd,
}

/// The worker's side.
pub struct Teller<'a>(BorrowedFd<'a>);

/// An error as clients get it.
pub fn failure(error: &Error) -> Failure {
    let mut message = error.to_string();
    message.truncate(message.floor_char_boundary(SENTENCE_LEN_MAX));
    Failure { kind: error.kind(), message }
}

impl Teller<'_> {
    /// Tells; a supervisor that is gone hears nothing.
    pub fn tell(&self, news: &News, fds: &[BorrowedFd<'_>]) {
        let bytes = serde_json::to_vec(news).unwrap_or_default();
        let _nobody_listens = scm::send(self.0, &bytes, fds);
    }
}

impl Worker {
    /// Forks one, in a process group of its own that holds its hooks too. Its last words are `work`'s result unless
    /// `work` has told otherwise.
    pub fn spawn(env: &Env, work: impl FnOnce(&Env, &Teller<'_>) -> Result<Option<()>>) -> Result<Worker> {
        let what = || "fork a worker".to_owned();
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).doing(what)?;
        pintle_sys::fd::set_nonblocking(&ours).doing(what)?;
        let (pid, _pidfd) = clone::clone3(env.proof, CloneArgs::default(), || {
            let _only_for_killing_it_whole = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
            let teller = Teller(theirs.as_fd());
            match work(env, &teller) {
                Ok(None) => {}
                Ok(Some(())) => teller.tell(&News::Done(Ok(())), &[]),
                Err(error) => teller.tell(&News::Done(Err(failure(&error))), &[]),
            }
            clone::exit_now(0)
        })
        .doing(what)?;
        Ok(Worker { pid, channel: ours })
    }

    /// Readable when it tells something, and at its end.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next words: `None` if there are none yet. A worker that ends without last words was killed.
    pub fn hear(&self) -> Option<(News, Vec<OwnedFd>)> {
        let (mut bytes, mut fds) = (vec![0; MESSAGE_LEN_MAX], Vec::new());
        let died = |why: String| {
            let message = format!("the supervisor's worker did not finish: {why}");
            News::Done(Err(Failure { kind: FailureKind::System, message }))
        };
        match scm::receive(&self.channel, &mut bytes, &mut fds) {
            Ok(0) | Err(Errno::ECONNRESET) => Some((died("it was killed".to_owned()), fds)),
            Ok(n) => {
                let news = serde_json::from_slice(&bytes[..n]);
                Some((news.unwrap_or_else(|error| died(error.to_string())), fds))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(errno) => Some((died(errno.to_string()), fds)),
        }
    }

    /// Ends it and the hook it waits for.
    pub fn kill(&self) {
        let _already_gone = nix::sys::signal::killpg(self.pid, nix::sys::signal::Signal::SIGKILL);
    }

    /// Waits for its last words: for a caller that has nothing else to do.
    pub fn finish(self) -> Result<()> {
        let mut fds = [nix::poll::PollFd::new(self.channel.as_fd(), nix::poll::PollFlags::POLLIN)];
        loop {
            match nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => drop(other.doing(|| "wait for a worker".to_owned())?),
            }
            match self.hear() {
                Some((News::Done(Ok(())), _)) => return Ok(()),
                Some((News::Done(Err(failure)), _)) => return Err(Error::WrongState(failure.message)),
                _ => {}
            }
        }
    }
}

/// Children are born in this pid namespace from now on (shareProcessNamespace). For a worker, that has no others.
pub fn enter_pid_ns(pid_ns: Option<&File>) -> Result<()> {
    match pid_ns {
        Some(ns) => {
            nix::sched::setns(ns, CloneFlags::CLONE_NEWPID).doing(|| "enter the pod's pid namespace".to_owned())
        }
        None => Ok(()),
    }
}

/// OCI create.
pub fn create(env: &Env, teller: &Teller<'_>, request: CreateRequest) -> Result<Option<()>> {
    let created = container::create(env, request)?;
    let is_unit = created.is_unit();
    let own_pid_ns = container::has_own_pid_namespace(created.spec());
    let launched = created.launched;
    let made = Made {
        pid: launched.pid,
        oom_kills: created.cgroups.oom_kills(),
        is_unit,
        cgroups: created.cgroups.paths,
        own_pid_ns,
        late: launch::late(&created.plan),
        warnings: launched.warnings,
    };
    let channel = launched.channel.into_fd();
    let fds: Vec<_> = std::iter::once(channel.as_fd()).chain(launched.console.as_ref().map(|c| c.as_fd())).collect();
    teller.tell(&News::Created(made), &fds);
    Ok(None)
}

/// OCI start: first whether the program runs, then the hooks' outcome. Without a channel nothing is known of the
/// program before init ends.
pub fn start(env: &Env, teller: &Teller<'_>, id: &str, until_exec: Option<(Late, OwnedFd)>) -> Result<Option<()>> {
    let stored = container::release(env, id)?;
    // From the fifo to exec are microseconds, or as long as startContainer hooks take.
    let late = until_exec.and_then(|(late, fd)| launch::late_failure(&late, &ParentEnd::from_fd(fd)));
    teller.tell(&News::Running(late.as_ref().map(failure)), &[]);
    match late {
        Some(error) => Err(error),
        None => container::poststart(env, &stored).map(Some),
    }
}

/// One more process.
pub fn run(env: &Env, teller: &Teller<'_>, request: ExecRequest) -> Result<Option<()>> {
    let launched = exec(env, request)?;
    let fds: Vec<_> = launched.console.iter().map(|console| console.as_fd()).collect();
    teller.tell(&News::ExecStarted { pid: launched.pid, warnings: launched.warnings.clone() }, &fds);
    Ok(None)
}

/// OCI delete.
pub fn delete(env: &Env, id: &str, force: Force) -> Result<Option<()>> {
    container::delete(env, id, force).map(Some)
}
