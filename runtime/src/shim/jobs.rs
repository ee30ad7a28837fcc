//! Calls that workers carry out: who waits for which, and what becomes of their last words.
//!
//! ```text
//! asked --(container busy)--> waiting --(its job ends)--+
//!   |                                                   v
//!   +--------------------------------------------> job: a worker --last words--> answered
//! ```
//! Create, start, update and delete of one container follow one another; execs run beside each other and beside
//! start. Everything else is answered at once, whatever runs.

use std::os::fd::OwnedFd;

use pintle_shim::{ContainerState, ContainerStatus, Failure, FailureKind, Reply};
use pintle_sys::fd;

use super::calls::{Answer, Asked, Outcome, done, refuse};
use super::container::Container;
use super::execs::{Exec, remove};
use super::log_file::LogFile;
use super::server::Server;
use crate::cgroup::Cgroups;
use crate::clock;
use crate::container::Force;
use crate::worker::{self, Made, News, Worker};

/// A container in the making: the ends of its stdio that stay here, and its log.
#[derive(Debug)]
pub struct Half {
    pub stdin: Option<OwnedFd>,
    pub outputs: [Option<OwnedFd>; 2],
    pub stdin_once: bool,
    pub log: Option<LogFile>,
}

/// What a worker does.
#[derive(Debug)]
pub enum Kind {
    Create(Box<Half>),
    Start,
    Update,
    Delete,
    /// Removes what a failed creation may have left.
    CleanUp,
    Exec {
        number: u64,
        timeout_ms: Option<u64>,
        cgroup: Option<Cgroups>,
    },
    /// Ends everybody in a cgroup.
    Sweep,
}

/// A worker's task, and who waits for its outcome.
#[derive(Debug)]
pub struct Job {
    pub conn: u64,
    pub request: u64,
    pub container: String,
    pub kind: Kind,
    pub worker: Worker,
}

impl Job {
    fn holds_back(&self, container: &str, asked: &Asked) -> bool {
        let exclusive = match self.kind {
            Kind::Create(_) | Kind::Delete | Kind::CleanUp => true,
            Kind::Start | Kind::Update => !asked.is_exec(),
            Kind::Exec { .. } | Kind::Sweep => false,
        };
        exclusive && self.container == container
    }
}

impl Server {
    /// Whether a call must wait for another of the same container.
    pub(super) fn must_wait(&self, asked: &Asked) -> bool {
        let Some(container) = asked.queues_for() else { return false };
        self.jobs.values().any(|job| job.holds_back(container, asked))
    }

    /// A job for whom a client waits.
    pub(super) fn begin(&mut self, conn: u64, request: u64, container: String, kind: Kind, worker: Worker) -> Outcome {
        let serial = self.serial();
        self.jobs.insert(serial, Job { conn, request, container, kind, worker });
        Outcome::Later
    }

    /// A worker says something, or has ended.
    pub(super) fn hear(&mut self, serial: u64) {
        let Some((news, fds)) = self.jobs.get(&serial).and_then(|job| job.worker.hear()) else { return };
        if let News::Running(late) = news {
            self.running(serial, late);
            return;
        }
        let Some(job) = self.jobs.remove(&serial) else { return };
        let Job { conn, request, container, kind, worker } = job;
        // From here on its children are ours.
        drop(worker);
        let mut fds = fds.into_iter();
        match (kind, news) {
            (Kind::Create(half), News::Created(made)) => {
                let answer = self.created(container, *half, made, &mut fds);
                self.respond(conn, request, answer);
            }
            (Kind::Create(_), News::Done(Err(failure))) => {
                self.clean_up(container);
                self.respond(conn, request, Err(failure));
            }
            (Kind::Exec { number, timeout_ms, cgroup }, News::ExecStarted { pid, warnings }) => {
                warnings.iter().for_each(|warning| crate::log::warn_once(warning));
                let exec = Exec::new(pid, conn, timeout_ms, cgroup);
                self.exec_started(number, exec, request, fds.next());
            }
            (Kind::Exec { cgroup, .. }, News::Done(Err(failure))) => {
                remove(cgroup.as_ref());
                self.respond(conn, request, Err(failure));
            }
            (kind, News::Done(result)) => self.ended(conn, request, &container, &kind, result),
            (kind, news) => crate::log::warn(&format!("{kind:?} of {container}: unexpected {news:?}")),
        }
        self.forget_strays();
        self.retry_waiting();
    }

    fn ended(&mut self, conn: u64, request: u64, id: &str, kind: &Kind, result: Result<(), Failure>) {
        match kind {
            Kind::Start => {
                self.start_settled(id);
                self.respond(conn, request, result.map(|()| (Reply::Done, Vec::new())));
            }
            Kind::Delete => {
                let answer = result.and_then(|()| self.deleted(id));
                self.respond(conn, request, answer);
            }
            Kind::CleanUp | Kind::Sweep => {
                if let Err(failure) = result {
                    crate::log::warn(&format!("{kind:?} of {id}: {failure}"));
                }
            }
            Kind::Update | Kind::Create(_) | Kind::Exec { .. } => {
                self.respond(conn, request, result.map(|()| (Reply::Done, Vec::new())));
            }
        }
    }

    fn created(&mut self, id: String, half: Half, made: Made, fds: &mut dyn Iterator<Item = OwnedFd>) -> Answer {
        made.warnings.iter().for_each(|warning| crate::log::warn_once(warning));
        let (channel, console) = (fds.next(), fds.next());
        if let Some(console) = &console {
            fd::set_nonblocking(console).map_err(|errno| refuse(FailureKind::System, errno.to_string()))?;
        }
        let (stdin, outputs) = if console.is_some() { (None, [None, None]) } else { (half.stdin, half.outputs) };
        let container = Container {
            state: ContainerState {
                id,
                pid: made.pid,
                status: ContainerStatus::Created,
                created_ms: clock::now_ms(),
                started_ms: 0,
                finished_ms: 0,
                exit: None,
            },
            own_pid_ns: made.own_pid_ns,
            oom_kills_before: made.oom_kills,
            cgroups: Cgroups::known(made.cgroups),
            starting: channel.map(|channel| (made.late, channel)),
            ended_early: None,
            start_failed: false,
            console,
            outputs,
            stdin,
            stdin_queue: std::collections::VecDeque::new(),
            stdin_ending: false,
            stdin_once: half.stdin_once,
            log: half.log,
            attached: Vec::new(),
        };
        let serial = self.serial();
        self.containers.insert(serial, container);
        if let Some((code, signal)) = self.take_stray(made.pid) {
            self.container_ended(serial, code, signal);
        }
        Ok((Reply::Created { pid: made.pid }, Vec::new()))
    }

    /// Whoever was killed in the middle of a creation may have left a state directory, cgroups, an init.
    fn clean_up(&mut self, id: String) {
        match Worker::spawn(&self.env, |env, _| worker::delete(env, &id, Force::Yes)) {
            Ok(worker) => drop(self.begin(0, 0, id, Kind::CleanUp, worker)),
            Err(error) => crate::log::warn(&format!("clean up {id}: {error}")),
        }
    }

    /// Start has let init go on.
    fn running(&mut self, serial: u64, late: Option<Failure>) {
        let Some(id) = self.jobs.get(&serial).map(|job| job.container.clone()) else { return };
        let Ok(serial) = self.find(&id) else { return };
        let Some(container) = self.containers.get_mut(&serial) else { return };
        container.starting = None;
        container.start_failed = late.is_some();
        if container.state.status == ContainerStatus::Created {
            container.state.started_ms = clock::now_ms();
            container.state.status = ContainerStatus::Running;
        }
        self.start_settled(&id);
    }

    /// An end that was seen while start was under way can be told now.
    fn start_settled(&mut self, id: &str) {
        let Ok(serial) = self.find(id) else { return };
        let early = self.containers.get_mut(&serial).and_then(|container| container.ended_early.take());
        if let Some((code, signal)) = early {
            self.container_ended(serial, code, signal);
        }
    }

    fn deleted(&mut self, id: &str) -> Answer {
        if let Ok(serial) = self.find(id) {
            self.containers.remove(&serial);
        }
        match std::fs::remove_file(super::container::exit_record(&self.config.dir, id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(refuse(FailureKind::System, format!("cannot remove the exit record of {id}: {error}")))
            }
            _ => done(),
        }
    }

    /// Whether a start is under way that has not yet said whether the program runs.
    pub(super) fn is_starting(&self, id: &str) -> bool {
        self.jobs.values().any(|job| matches!(job.kind, Kind::Start) && job.container == id)
            && self.find(id).is_ok_and(|serial| self.containers[&serial].state.started_ms == 0)
    }

    /// SIGKILL ends what is being made, too, and the hook it waits for. Whether there was something.
    pub(super) fn kill_jobs(&mut self, id: &str) -> bool {
        let mut found = false;
        for job in self.jobs.values() {
            if job.container == id && matches!(job.kind, Kind::Create(_) | Kind::Start) {
                job.worker.kill();
                found = true;
            }
        }
        found
    }

    /// The end of a process we do not know is kept while a worker may be about to tell us of it.
    pub(super) fn keep_stray(&mut self, pid: i32, code: i32, signal: i32) {
        if self.jobs.values().any(|job| matches!(job.kind, Kind::Create(_) | Kind::Exec { .. })) {
            self.strays.push((pid, code, signal));
        }
    }

    pub(super) fn take_stray(&mut self, pid: i32) -> Option<(i32, i32)> {
        let at = self.strays.iter().position(|stray| stray.0 == pid)?;
        let (_, code, signal) = self.strays.swap_remove(at);
        Some((code, signal))
    }

    fn forget_strays(&mut self) {
        if self.jobs.is_empty() {
            self.strays = Vec::new();
        }
    }

    fn retry_waiting(&mut self) {
        for asked in std::mem::take(&mut self.waiting) {
            self.dispatch(asked);
        }
    }
}
