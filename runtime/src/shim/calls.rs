//! What each call does.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use pintle_runtime_plan::rdt::Change;
use pintle_shim::request::{self, Ask};
use pintle_shim::{Call, ContainerStatus, Failure, FailureKind, Message, Reply, Response, VERSION};
use pintle_sys::tty;

use super::attach::Attachment;
use super::container::pipes;
use super::jobs::{Half, Kind};
use super::log_file::{Limits, LogFile};
use super::server::Server;
use crate::cgroup::Driver;
use crate::container::{Begins, CreateRequest, Force, Whom};
use crate::error::{Doing as _, Error};
use crate::worker::{self, Worker, failure};

/// What a client gets.
pub type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// Whether a call is answered.
pub enum Outcome {
    /// Now.
    Now(Answer),
    /// By a worker's last words.
    Later,
}

/// A call and whose it is.
pub struct Asked {
    pub conn: u64,
    pub request: u64,
    pub ask: Ask,
    /// An exec's stdin, stdout, stderr, taken when it was asked for: descriptors come in the order of the requests.
    pub stdio: Option<[OwnedFd; 3]>,
}

impl Asked {
    pub fn is_exec(&self) -> bool {
        matches!(self.ask, Ask::Exec { .. })
    }

    /// The container whose jobs it must wait for.
    pub fn queues_for(&self) -> Option<&str> {
        match &self.ask {
            Ask::Exec { container, .. } => Some(container),
            Ask::Update { container, .. } => container.as_deref(),
            Ask::Plain(call) => match call.as_ref() {
                Call::Start { container } | Call::Delete { container } => Some(container),
                // A second creation is refused, not queued; but one that follows a deletion waits for it.
                Call::Create { container, .. } => Some(container),
                _ => None,
            },
        }
    }
}

pub fn refuse(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

pub fn done() -> Answer {
    Ok((Reply::Done, Vec::new()))
}

impl Server {
    /// A frame has come.
    pub(super) fn answer(&mut self, conn: u64, frame: Vec<u8>) {
        let Some((request, ask)) = request::read(frame) else {
            crate::log::warn("a client sent what is no request");
            self.drop_conn(conn);
            return;
        };
        let asked = ask.map_err(|error| failure(&error.into())).and_then(|ask| {
            let stdio = match &ask {
                Ask::Exec { terminal: false, .. } => Some(self.take_stdio(conn)?),
                _ => None,
            };
            Ok(Asked { conn, request, ask, stdio })
        });
        match asked {
            Ok(asked) => self.dispatch(asked),
            Err(failure) => self.respond(conn, request, Err(failure)),
        }
    }

    /// Carries a call out, or has it wait for its turn.
    pub(super) fn dispatch(&mut self, asked: Asked) {
        if self.is_making(&asked) {
            self.respond(asked.conn, asked.request, Err(failure(&Error::AlreadyExists)));
        } else if self.must_wait(&asked) {
            self.waiting.push(asked);
        } else {
            let (conn, request) = (asked.conn, asked.request);
            if let Outcome::Now(answer) = self.call(asked) {
                self.respond(conn, request, answer);
            }
        }
    }

    /// A second creation of what is being created.
    fn is_making(&self, asked: &Asked) -> bool {
        let Ask::Plain(call) = &asked.ask else { return false };
        let Call::Create { container, .. } = call.as_ref() else { return false };
        self.jobs.values().any(|job| matches!(job.kind, Kind::Create(_)) && job.container == *container)
    }

    /// Tells a client what came of its call.
    pub(super) fn respond(&mut self, conn: u64, request: u64, answer: Answer) {
        let (result, fds) = match answer {
            Ok((reply, fds)) => (Ok(reply), fds),
            Err(failure) => (Err(failure), Vec::new()),
        };
        let message = Message::Response(Response { id: request, result });
        // Whoever asked may be gone; what was done stays done.
        if let Some(to) = self.conns.get_mut(&conn)
            && to.send(&message, fds).is_err()
        {
            self.drop_conn(conn);
        }
    }

    fn call(&mut self, asked: Asked) -> Outcome {
        let Asked { conn, request, ask, stdio } = asked;
        let begun = match ask {
            Ask::Plain(call) => match *call {
                Call::Create { .. } | Call::Start { .. } | Call::Delete { .. } => self.work(conn, request, *call),
                call => return Outcome::Now(self.at_once(conn, call)),
            },
            Ask::Exec { container, timeout_ms, frame, .. } => {
                self.start_exec(conn, request, container, timeout_ms, stdio, frame)
            }
            Ask::Update { container, frame } => self.update(conn, request, container, frame),
        };
        begun.unwrap_or_else(|failure| Outcome::Now(Err(failure)))
    }

    fn at_once(&mut self, conn: u64, call: Call) -> Answer {
        match call {
            Call::Hello => {
                let pid = std::process::id() as i32;
                Ok((Reply::Hello { version: VERSION, pod_uid: self.config.pod_uid.clone(), pid }, Vec::new()))
            }
            Call::List => Ok((Reply::Containers { containers: self.states() }, Vec::new())),
            Call::Subscribe => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.subscribed = true;
                }
                Ok((Reply::Containers { containers: self.states() }, Vec::new()))
            }
            Call::Kill { container, signal, all } => self.kill(&container, signal, all),
            Call::Attach { container, stdin } => self.attach(conn, &container, stdin),
            Call::Resize { container, exec, width, height } => self.resize(&container, exec, width, height),
            Call::ReopenLog { container } => self.reopen_log(&container),
            Call::Shutdown => self.shutdown(),
            Call::Create { .. }
            | Call::Start { .. }
            | Call::Delete { .. }
            | Call::Exec { .. }
            | Call::Update { .. } => Err(refuse(FailureKind::Invalid, "this call is a worker's")),
        }
    }

    fn work(&mut self, conn: u64, request: u64, call: Call) -> Result<Outcome, Failure> {
        match call {
            Call::Create { container, .. } if self.find(&container).is_ok() => Err(failure(&Error::AlreadyExists)),
            Call::Create { container, bundle, log_path, stdin, stdin_once, log_max_bytes, log_max_files } => {
                let limits = Limits { bytes_max: log_max_bytes, files_max: log_max_files };
                let create = CreateRequest {
                    id: container,
                    bundle,
                    stdio: None,
                    no_pivot: false,
                    no_new_keyring: false,
                    preserve_fds: 0,
                    driver: Driver::Files,
                    begins: Begins::WhenTold,
                };
                let log = match &log_path {
                    Some(path) => LogFile::open(path, limits)
                        .map(Some)
                        .doing(|| format!("open log {}", path.display()))
                        .map_err(|error| failure(&error))?,
                    None => None,
                };
                self.create(conn, request, create, stdin, stdin_once, log)
            }
            Call::Start { container } => self.start(conn, request, container),
            Call::Delete { container } => self.delete(conn, request, container),
            _ => Err(refuse(FailureKind::Invalid, "this call is no worker's")),
        }
    }

    /// The serial number of a container.
    pub(super) fn find(&self, id: &str) -> Result<u64, Failure> {
        let found = self.containers.iter().find(|(_, container)| container.state.id == id);
        found.map(|(serial, _)| *serial).ok_or_else(|| failure(&Error::NoSuchContainer))
    }

    /// Pipes are made whether or not it wants a terminal: only the worker reads the bundle.
    fn create(
        &mut self,
        conn: u64,
        request: u64,
        mut create: CreateRequest,
        stdin: bool,
        stdin_once: bool,
        log: Option<LogFile>,
    ) -> Result<Outcome, Failure> {
        let id = create.id.clone();
        let pipes = pipes(stdin).map_err(|error| failure(&error))?;
        create.stdio = Some(pipes.theirs);
        let half = Half { stdin: pipes.stdin, outputs: pipes.outputs, stdin_once, log };
        let pid_ns = self.pid_ns.as_ref();
        let worker = Worker::spawn(&self.env, |env, teller| {
            worker::enter_pid_ns(pid_ns)?;
            worker::create(env, teller, create)
        });
        let worker = worker.map_err(|error| failure(&error))?;
        Ok(self.begin(conn, request, id, Kind::Create(Box::new(half)), worker))
    }

    fn start(&mut self, conn: u64, request: u64, id: String) -> Result<Outcome, Failure> {
        let serial = self.find(&id)?;
        let starting = self.containers.get_mut(&serial).and_then(|container| container.starting.take());
        let worker = Worker::spawn(&self.env, |env, teller| worker::start(env, teller, &id, starting));
        let worker = worker.map_err(|error| failure(&error))?;
        Ok(self.begin(conn, request, id, Kind::Start, worker))
    }

    fn delete(&mut self, conn: u64, request: u64, id: String) -> Result<Outcome, Failure> {
        let serial = self.find(&id)?;
        if self.containers[&serial].state.status == ContainerStatus::Running {
            let message = format!("cannot delete container {id} that is not stopped: running");
            return Err(refuse(FailureKind::Conflict, message));
        }
        let worker = Worker::spawn(&self.env, |env, _| worker::delete(env, &id, Force::No));
        let worker = worker.map_err(|error| failure(&error))?;
        Ok(self.begin(conn, request, id, Kind::Delete, worker))
    }

    fn update(&mut self, conn: u64, request: u64, id: Option<String>, frame: Vec<u8>) -> Result<Outcome, Failure> {
        if let Some(id) = &id {
            self.find(id)?;
        }
        let pod = &self.pod;
        let worker = Worker::spawn(&self.env, |env, _| match (request::whole(&frame)?, &id) {
            (Call::Update { resources, .. }, None) => pod.apply(&resources).map(Some),
            (Call::Update { resources, .. }, Some(id)) => {
                crate::container::update(env, id, &resources, Change::default()).map(Some)
            }
            _ => Err(Error::Usage("not an update".to_owned())),
        });
        let worker = worker.map_err(|error| failure(&error))?;
        Ok(self.begin(conn, request, id.unwrap_or_default(), Kind::Update, worker))
    }

    fn kill(&mut self, id: &str, signal: i32, all: bool) -> Answer {
        let ended_a_job = signal == libc::SIGKILL && self.kill_jobs(id);
        let container = match self.find(id) {
            Ok(serial) => &self.containers[&serial],
            Err(_) if ended_a_job => return done(),
            Err(failure) => return Err(failure),
        };
        let whom = if all { Whom::All } else { Whom::Init };
        container.send(signal, whom).map_err(|error| failure(&error))?;
        done()
    }

    fn attach(&mut self, conn: u64, id: &str, with_stdin: bool) -> Answer {
        let serial = self.find(id)?;
        let token = self.serial();
        let missing = || refuse(FailureKind::Invalid, "attach needs descriptors: stdin if asked for, stdout, stderr");
        let from = self.conns.get_mut(&conn).ok_or_else(missing)?;
        let stdin = if with_stdin { Some(from.take_fd().ok_or_else(missing)?) } else { None };
        let stdout = Some(from.take_fd().ok_or_else(missing)?);
        let stderr = Some(from.take_fd().ok_or_else(missing)?);
        let Some(container) = self.containers.get_mut(&serial) else { return Err(failure(&Error::NoSuchContainer)) };
        if container.state.status == ContainerStatus::Stopped {
            return Err(failure(&Error::NotRunning));
        }
        let attachment = Attachment::new(token, stdin, stdout, stderr);
        container.attached.push(attachment.map_err(|errno| refuse(FailureKind::System, errno.to_string()))?);
        done()
    }

    fn resize(&mut self, id: &str, exec: Option<u64>, width: u16, height: u16) -> Answer {
        let console = match exec {
            Some(number) => {
                let exec = self.execs.get(&number);
                exec.ok_or_else(|| refuse(FailureKind::NotFound, format!("no exec {number}")))?.console.as_ref()
            }
            None => self.containers[&self.find(id)?].console.as_ref(),
        };
        let console = console.ok_or_else(|| refuse(FailureKind::Conflict, "it has no terminal"))?;
        tty::set_size(console, width, height).map_err(|errno| refuse(FailureKind::System, errno.to_string()))?;
        done()
    }

    fn reopen_log(&mut self, id: &str) -> Answer {
        let serial = self.find(id)?;
        let log = self.containers.get_mut(&serial).and_then(|container| container.log.as_mut());
        let log = log.ok_or_else(|| refuse(FailureKind::Conflict, format!("container {id} has no log")))?;
        log.reopen().map_err(|error| refuse(FailureKind::System, format!("cannot reopen the log of {id}: {error}")))?;
        done()
    }

    fn shutdown(&mut self) -> Answer {
        if let Some(container) = self.containers.values().next() {
            return Err(refuse(FailureKind::Conflict, format!("container {} is still there", container.state.id)));
        }
        if let Some(job) = self.jobs.values().find(|job| !matches!(job.kind, Kind::Sweep)) {
            return Err(refuse(FailureKind::Conflict, format!("container {} is being worked on", job.container)));
        }
        let mounts = self.env.layout().map_err(|error| worker::failure(&error))?.mounts();
        if self.pod.unified().is_some() {
            // We ourselves are in the pod's cgroup: leave it, or it could not be removed.
            let _the_root_always_takes_us =
                crate::cgroup::put(mounts[0].mountpoint.join("cgroup.procs").as_path(), b"0");
        } else if let Some(systemd) = self.pod.of("name=systemd") {
            let top = mounts.iter().find(|mount| systemd.starts_with(&mount.mountpoint));
            if let Some(top) = top {
                let _the_root_always_takes_us = crate::cgroup::put(&top.mountpoint.join("tasks"), b"0");
            }
        }
        if let Some(init) = self.small_init.take() {
            let _already_dead = pintle_sys::pidfd::send_signal(&init, libc::SIGKILL);
            let _reaped_elsewhere = pintle_sys::pidfd::wait(&init);
        }
        self.pod.kill_all().and_then(|()| self.pod.remove()).map_err(|error| failure(&error))?;
        self.remove_files();
        self.done = true;
        done()
    }

    /// Only what is ours: the directory goes if nobody else keeps something there.
    fn remove_files(&self) {
        let dir = &self.config.dir;
        let _may_hold_records = std::fs::remove_dir_all(dir.join("exits"));
        for file in ["shim.sock", "shim.json", "shim.log"] {
            let _may_be_gone = std::fs::remove_file(dir.join(file));
        }
        let _may_hold_bundles = std::fs::remove_dir(dir);
    }

    /// Descriptors a client has passed.
    fn take_stdio(&mut self, conn: u64) -> Result<[OwnedFd; 3], Failure> {
        let missing =
            || refuse(FailureKind::Invalid, "exec without a terminal needs three descriptors: stdin, stdout, stderr");
        let conn = self.conns.get_mut(&conn).ok_or_else(missing)?;
        let mut fds: VecDeque<OwnedFd> = (0..3).map_while(|_| conn.take_fd()).collect();
        match (fds.pop_front(), fds.pop_front(), fds.pop_front()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok([stdin, stdout, stderr]),
            _ => Err(missing()),
        }
    }
}
