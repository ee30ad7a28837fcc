//! What each call does.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use pintle_shim::{
    Call, ContainerState, ContainerStatus, Failure, FailureKind, Message, Reply, Request, Response, VERSION,
};
use pintle_sys::{fd, tty};

use super::attach::Attachment;
use super::container::{Container, exit_record, pipes};
use super::log_file::{Limits, LogFile};
use super::server::Server;
use crate::clock;
use crate::container::{self, CreateRequest, Force, Whom};
use crate::error::{Doing as _, Error};
use crate::launch;

type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// An error as clients get it.
pub fn failure(error: &Error) -> Failure {
    Failure { kind: error.kind(), message: error.to_string() }
}

fn refuse(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

fn done() -> Answer {
    Ok((Reply::Done, Vec::new()))
}

/// A create call's fields.
struct Create {
    id: String,
    bundle: PathBuf,
    log_path: Option<PathBuf>,
    stdin: bool,
    stdin_once: bool,
    limits: Limits,
}

impl Server {
    /// Does what a client asks and tells it what came of it.
    pub(super) fn answer(&mut self, conn: u64, request: Request) {
        let subscribes = matches!(request.call, Call::Subscribe);
        let (result, fds) = match self.call(conn, request.call) {
            Ok((reply, fds)) => (Ok(reply), fds),
            Err(failure) => (Err(failure), Vec::new()),
        };
        let message = Message::Response(Response { id: request.id, result });
        let Some(to) = self.conns.get_mut(&conn) else { return };
        // Events follow the answer that says from which state on they count.
        to.subscribed |= subscribes;
        if to.send(&message, fds).is_err() {
            self.drop_conn(conn);
        }
    }

    fn call(&mut self, conn: u64, call: Call) -> Answer {
        match call {
            Call::Hello => {
                let pid = std::process::id() as i32;
                Ok((Reply::Hello { version: VERSION, pod_uid: self.config.pod_uid.clone(), pid }, Vec::new()))
            }
            Call::List | Call::Subscribe => Ok((Reply::Containers { containers: self.states() }, Vec::new())),
            Call::Create { container, bundle, log_path, stdin, stdin_once, log_max_bytes, log_max_files } => {
                let limits = Limits { bytes_max: log_max_bytes, files_max: log_max_files };
                self.create(Create { id: container, bundle, log_path, stdin, stdin_once, limits })
            }
            Call::Start { container } => self.start(&container),
            Call::Kill { container, signal, all } => self.kill(&container, signal, all),
            Call::Delete { container } => self.delete(&container),
            Call::Exec { container, process, timeout_ms } => self.start_exec(conn, container, *process, timeout_ms),
            Call::Attach { container, stdin } => self.attach(conn, &container, stdin),
            Call::Resize { container, exec, width, height } => self.resize(&container, exec, width, height),
            Call::Update { container, resources } => self.update(container.as_deref(), &resources),
            Call::Shutdown => self.shutdown(),
        }
    }

    /// The serial number of a container.
    pub(super) fn find(&self, id: &str) -> Result<u64, Failure> {
        let found = self.containers.iter().find(|(_, container)| container.state.id == id);
        found.map(|(serial, _)| *serial).ok_or_else(|| failure(&Error::NoSuchContainer))
    }

    fn create(&mut self, create: Create) -> Answer {
        if self.find(&create.id).is_ok() {
            return Err(failure(&Error::AlreadyExists));
        }
        let container = self.make(create).map_err(|error| failure(&error))?;
        let pid = container.state.pid;
        let serial = self.serial();
        self.containers.insert(serial, container);
        Ok((Reply::Created { pid }, Vec::new()))
    }

    fn make(&self, create: Create) -> crate::error::Result<Container> {
        let log = match &create.log_path {
            Some(path) => Some(LogFile::open(path, create.limits).doing(|| format!("open log {}", path.display()))?),
            None => None,
        };
        let terminal = terminal(&create.bundle)?;
        let pipes = if terminal { None } else { Some(pipes(create.stdin)?) };
        let (theirs, stdin, outputs) = match pipes {
            Some(pipes) => (Some(pipes.theirs), pipes.stdin, pipes.outputs),
            None => (None, None, [None, None]),
        };
        let request = CreateRequest {
            id: create.id.clone(),
            bundle: create.bundle,
            stdio: theirs,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
        };
        let created = container::create(&self.env, request)?;
        let launched = created.launched;
        launched.warnings.iter().for_each(|warning| crate::log::warn_once(warning));
        if let Some(console) = &launched.console {
            fd::set_nonblocking(console).doing(|| "set up the console".to_owned())?;
        }
        Ok(Container {
            state: ContainerState {
                id: create.id,
                pid: launched.pid,
                status: ContainerStatus::Created,
                created_ms: clock::now_ms(),
                started_ms: 0,
                finished_ms: 0,
                exit: None,
            },
            own_pid_ns: container::has_own_pid_namespace(&created.spec),
            oom_kills_before: created.cgroups.oom_kills(),
            cgroups: created.cgroups,
            starting: Some((Box::new(created.plan), launched.channel)),
            start_failed: false,
            console: launched.console,
            outputs,
            stdin,
            stdin_queue: VecDeque::new(),
            stdin_ending: false,
            stdin_once: create.stdin_once,
            log,
            attached: Vec::new(),
        })
    }

    fn start(&mut self, id: &str) -> Answer {
        let serial = self.find(id)?;
        container::start(&self.env, id).map_err(|error| failure(&error))?;
        let Some(container) = self.containers.get_mut(&serial) else { return done() };
        container.state.started_ms = clock::now_ms();
        container.state.status = ContainerStatus::Running;
        // From the fifo to exec are microseconds, or as long as startContainer hooks take.
        let late = container.starting.take().and_then(|(plan, channel)| launch::late_failure(&plan, &channel));
        match late {
            None => done(),
            Some(error) => {
                container.start_failed = true;
                Err(failure(&error))
            }
        }
    }

    fn kill(&mut self, id: &str, signal: i32, all: bool) -> Answer {
        self.find(id)?;
        let whom = if all { Whom::All } else { Whom::Init };
        container::kill(&self.env, id, signal, whom).map_err(|error| failure(&error))?;
        done()
    }

    fn delete(&mut self, id: &str) -> Answer {
        let serial = self.find(id)?;
        let status = self.containers[&serial].state.status;
        if status == ContainerStatus::Running {
            let message = format!("cannot delete container {id} that is not stopped: running");
            return Err(refuse(FailureKind::Conflict, message));
        }
        container::delete(&self.env, id, Force::No).map_err(|error| failure(&error))?;
        self.containers.remove(&serial);
        match std::fs::remove_file(exit_record(&self.config.dir, id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(refuse(FailureKind::System, format!("cannot remove the exit record of {id}: {error}")))
            }
            _ => done(),
        }
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

    fn update(&mut self, id: Option<&str>, resources: &oci_spec::runtime::LinuxResources) -> Answer {
        let updated = match id {
            None => self.pod.apply(resources),
            Some(id) => {
                self.find(id)?;
                container::update(&self.env, id, resources)
            }
        };
        updated.map_err(|error| failure(&error))?;
        done()
    }

    fn shutdown(&mut self) -> Answer {
        if let Some(container) = self.containers.values().next() {
            return Err(refuse(FailureKind::Conflict, format!("container {} is still there", container.state.id)));
        }
        if self.pod.unified().is_some() {
            // We ourselves are in the pod's cgroup: leave it, or it could not be removed.
            let _the_root_always_takes_us =
                crate::cgroup::put(self.env.layout.mounts()[0].mountpoint.join("cgroup.procs").as_path(), b"0");
        } else if let Some(systemd) = self.pod.of("name=systemd") {
            let top = self.env.layout.mounts().iter().find(|mount| systemd.starts_with(&mount.mountpoint));
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
}

/// Whether a bundle's process wants a terminal.
fn terminal(bundle: &std::path::Path) -> crate::error::Result<bool> {
    let spec = container::load_spec(bundle)?;
    Ok(spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false))
}
