//! Calls that workers carry out: create, start, delete, pause, resume, update.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use pintle_runtime_plan::rdt::Change;
use pintle_shim::FailureKind;
use pintle_ttrpc::Code;
use pintle_ttrpc::events::{TaskCreate, TaskExecStarted, TaskIo, TaskNews, TaskStart};
use pintle_ttrpc::options::RuncOptions;
use pintle_ttrpc::task::{CreateRequest, PidResponse, ProcessRequest, TaskRequest, UpdateRequest};
use prost::Message as _;

use super::calls::{Asked, Fault, Outcome};
use super::checkpoint::{self, Images};
use super::io::{self, Io, Stdio};
use super::options;
use super::process::{Beginning, Caller, Process, Task};
use super::rootfs;
use super::server::Server;
use crate::cgroup::{Cgroups, Driver, Kills};
use crate::container::{self, Force};
use crate::error::Error;
use crate::exec::ExecRequest;
use crate::worker::{self, Made, News, Worker};

/// What a worker does.
pub enum Kind {
    Create(Box<(CreateRequest, Io)>),
    /// Init or an exec, by serial number.
    Start(u64),
    Delete(u64),
    /// Into this directory.
    Checkpoint(String),
    /// Create with images.
    Prepare(Box<(CreateRequest, Io, Images)>),
    Pause,
    Resume,
    Update,
    /// Removes what a failed creation may have left.
    CleanUp,
}

/// A worker's task, and who waits for its outcome.
pub struct Job {
    pub from: Option<Caller>,
    pub task: String,
    pub kind: Kind,
    pub worker: Worker,
}

fn fault(failure: pintle_shim::Failure) -> Fault {
    let code = match failure.kind {
        FailureKind::NotFound => Code::NotFound,
        FailureKind::Conflict => Code::FailedPrecondition,
        FailureKind::Invalid => Code::InvalidArgument,
        FailureKind::CannotRun | FailureKind::System => Code::Unknown,
    };
    Fault::new(code, failure.message)
}

impl Server {
    /// Whether a call must wait for another of the same task. Those that only look, and Kill, never do.
    pub(super) fn must_wait(&self, asked: &Asked) -> bool {
        let changes = matches!(
            asked.method.as_str(),
            "Create" | "Start" | "Delete" | "Exec" | "Pause" | "Resume" | "Update" | "Checkpoint"
        );
        // Every request begins with the task's id, so this reads it from any of them.
        let id = TaskRequest::decode(asked.payload.as_slice()).map(|request| request.id).unwrap_or_default();
        changes && self.jobs.values().any(|job| job.task == id)
    }

    pub(super) fn begin(&mut self, from: Option<Caller>, task: &str, kind: Kind, worker: Worker) -> Outcome {
        let serial = self.serial();
        self.jobs.insert(serial, Job { from, task: task.to_owned(), kind, worker });
        Outcome::Later
    }

    pub(super) fn create(&mut self, from: Caller, request: CreateRequest) -> Result<Outcome, Fault> {
        let id = request.id.clone();
        if self.tasks.contains_key(&id) {
            return Err(Fault::new(Code::AlreadyExists, format!("task {id} exists already")));
        }
        let options = options::of_create(request.options.as_ref())?;
        if !request.checkpoint.is_empty() {
            return self.prepare(from, request, &options);
        }
        let stdio = stdio(&request);
        let (theirs, io) = io::open(&stdio)?;
        let bundle = PathBuf::from(&request.bundle);
        let mounts = request.rootfs.clone();
        let create = container::CreateRequest {
            id: id.clone(),
            bundle: bundle.clone(),
            stdio: theirs,
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            preserve_fds: 0,
            driver: driver(&options),
            begins: container::Begins::WhenTold,
        };
        let worker = Worker::spawn(&self.env, |env, teller| {
            let made = rootfs::mount_all(&bundle, &mounts).and_then(|()| worker::create(env, teller, create));
            if made.is_err() {
                // The first failure is the one to tell.
                let _left_for_delete = rootfs::unmount(&bundle);
            }
            made
        })?;
        Ok(self.begin(Some(from), &id, Kind::Create(Box::new((request, io))), worker))
    }

    pub(super) fn start(&mut self, from: Caller, request: &ProcessRequest) -> Result<Outcome, Fault> {
        let serial = self.find(&request.id, &request.exec_id)?;
        let process = &self.processes[&serial];
        if process.started || process.exit.is_some() {
            return Err(Fault::new(Code::FailedPrecondition, "cannot start what was started already"));
        }
        let worker = if process.is_init() { self.start_init(&request.id)? } else { self.start_exec(serial)? };
        Ok(self.begin(Some(from), &request.id, Kind::Start(serial), worker))
    }

    fn start_init(&mut self, id: &str) -> Result<Worker, Fault> {
        let starting = self.tasks.get_mut(id).and_then(|task| task.starting.take());
        let bundle = self.task(id)?.bundle.clone();
        Ok(Worker::spawn(&self.env, |env, teller| match starting {
            Some(Beginning::Images(images)) => checkpoint::restore(env, teller, id, &bundle, *images),
            Some(Beginning::Init(late, channel)) => worker::start(env, teller, id, Some((late, channel))),
            None => worker::start(env, teller, id, None),
        })?)
    }

    fn start_exec(&mut self, serial: u64) -> Result<Worker, Fault> {
        let Some(process) = self.processes.get_mut(&serial) else { return Err(Error::NoSuchContainer.into()) };
        let (stdio, io) = io::open(&process.stdio)?;
        process.io = io;
        let (id, spec) = (process.task.clone(), std::mem::take(&mut process.spec));
        let terminal = process.stdio.terminal;
        Ok(Worker::spawn(&self.env, |env, teller| {
            let text = String::from_utf8_lossy(&spec);
            let (mut process, unknown) = pintle_runtime_plan::parse_process(&text)?;
            unknown.iter().for_each(|name| crate::log::warn_once(name));
            process.set_terminal(Some(terminal));
            pintle_runtime_plan::spec::validate_process(&process)?;
            let exec = ExecRequest { id, process, stdio, preserve_fds: 0, ignore_paused: false, join: None };
            worker::run(env, teller, exec)
        })?)
    }

    pub(super) fn delete(&mut self, from: Caller, request: &ProcessRequest) -> Result<Outcome, Fault> {
        let serial = self.find(&request.id, &request.exec_id)?;
        let process = &self.processes[&serial];
        if process.started && process.exit.is_none() {
            return Err(Fault::new(Code::FailedPrecondition, "cannot delete a running process"));
        }
        if !process.is_init() {
            return Ok(Outcome::Now(self.forget(serial)));
        }
        let (id, bundle) = (request.id.clone(), self.task(&request.id)?.bundle.clone());
        let worker = Worker::spawn(&self.env, |env, _| {
            container::delete(env, &id, Force::Yes)?;
            rootfs::unmount(&bundle).map(Some)
        })?;
        Ok(self.begin(Some(from), &request.id, Kind::Delete(serial), worker))
    }

    pub(super) fn freeze(&mut self, from: Caller, request: &TaskRequest, on: bool) -> Result<Outcome, Fault> {
        let cgroups = self.task(&request.id)?.cgroups.clone();
        let worker = Worker::spawn(&self.env, |_, _| if on { cgroups.freeze() } else { cgroups.thaw() }.map(Some))?;
        Ok(self.begin(Some(from), &request.id, if on { Kind::Pause } else { Kind::Resume }, worker))
    }

    pub(super) fn update(&mut self, from: Caller, request: UpdateRequest) -> Result<Outcome, Fault> {
        self.task(&request.id)?;
        let text = request.resources.map(|resources| resources.value).unwrap_or_default();
        let id = request.id.clone();
        let worker = Worker::spawn(&self.env, |env, _| {
            let resources =
                serde_json::from_slice(&text).map_err(|error| Error::Usage(format!("resources: {error}")))?;
            container::update(env, &id, &resources, Change::default()).map(Some)
        })?;
        Ok(self.begin(Some(from), &request.id, Kind::Update, worker))
    }

    /// A worker says something, or has ended.
    pub(super) fn hear(&mut self, serial: u64) {
        let Some((news, fds)) = self.jobs.get(&serial).and_then(|job| job.worker.hear()) else { return };
        if let News::Running(late) = news {
            if let (None, Some(Job { kind: Kind::Start(process), .. })) = (late, self.jobs.get(&serial)) {
                self.running(*process);
            }
            return;
        }
        let Some(Job { from, task, kind, worker }) = self.jobs.remove(&serial) else { return };
        // From here on its children are ours.
        drop(worker);
        let answer = self.settle(&task, kind, news, fds);
        if let Some(from) = from {
            self.respond(from, answer);
        }
        if self.jobs.is_empty() {
            self.strays = Vec::new();
        }
        for asked in std::mem::take(&mut self.waiting) {
            self.dispatch(asked);
        }
    }

    fn settle(&mut self, id: &str, kind: Kind, news: News, fds: Vec<OwnedFd>) -> Result<Vec<u8>, Fault> {
        let mut fds = fds.into_iter();
        match (kind, news) {
            (Kind::Create(asked), News::Created(made)) => self.created(*asked, made, fds.next(), fds.next()),
            (Kind::Create(asked), News::Done(Err(failure))) => {
                self.clean_up(id, PathBuf::from(&asked.0.bundle));
                Err(fault(failure))
            }
            (Kind::Prepare(asked), News::Done(Ok(()))) => {
                let (request, io, images) = *asked;
                Ok(self.prepared(request, io, images))
            }
            (Kind::Prepare(asked), News::Done(Err(failure))) => {
                self.clean_up(id, PathBuf::from(&asked.0.bundle));
                Err(fault(failure))
            }
            (Kind::Checkpoint(path), News::Done(Ok(()))) => Ok(self.checkpointed(id, path)),
            (Kind::Start(serial), News::Restored(made)) => self.restored(serial, made, fds.next()),
            (Kind::Start(serial), News::ExecStarted { pid, warnings }) => {
                warnings.iter().for_each(|warning| crate::log::warn_once(warning));
                self.exec_started(serial, pid, fds.next())
            }
            (Kind::Start(serial), News::Done(result)) => {
                let pid = self.processes.get(&serial).map_or(0, |process| process.pid as u32);
                self.tell_early_end(serial);
                result.map(|()| PidResponse { pid }.encode_to_vec()).map_err(fault)
            }
            (Kind::Delete(serial), News::Done(Ok(()))) => {
                self.tasks.remove(id);
                self.processes.retain(|_, process| process.task != id || process.is_init());
                Ok(self.forget(serial))
            }
            (Kind::Pause, News::Done(Ok(()))) => self.paused(id, true),
            (Kind::Resume, News::Done(Ok(()))) => self.paused(id, false),
            (_, News::Done(result)) => result.map(|()| Vec::new()).map_err(fault),
            (_, news) => Err(Fault::new(Code::Unknown, format!("unexpected words of a worker: {news:?}"))),
        }
    }

    fn created(
        &mut self,
        (request, mut io): (CreateRequest, Io),
        made: Made,
        channel: Option<OwnedFd>,
        console: Option<OwnedFd>,
    ) -> Result<Vec<u8>, Fault> {
        made.warnings.iter().for_each(|warning| crate::log::warn_once(warning));
        if let (Some(terminal), Some(console)) = (&mut io.terminal, console) {
            terminal.connect(console)?;
        }
        let cgroups = Cgroups::known(made.cgroups);
        let kills = Kills::since(made.oom_kills, cgroups.clone());
        let task = Task {
            id: request.id.clone(),
            bundle: PathBuf::from(&request.bundle),
            kills: if made.is_unit { kills.of_unit(self.env.layout()?) } else { kills },
            // Without one it is looked whenever a process ends.
            oom_watch: cgroups.watch_oom().ok(),
            cgroups,
            own_pid_ns: made.own_pid_ns,
            starting: channel.map(|channel| Beginning::Init(made.late, channel)),
            paused: false,
        };
        let serial = self.admit(request, io, task, made.pid);
        self.end_of_stray(serial, made.pid);
        Ok(PidResponse { pid: made.pid as u32 }.encode_to_vec())
    }

    /// A task that was created: its init's serial number.
    pub(super) fn admit(&mut self, request: CreateRequest, io: Io, task: Task, pid: i32) -> u64 {
        let mut process = Process::new(&request.id, "", stdio(&request));
        (process.pid, process.io) = (pid, io);
        let serial = self.serial();
        self.processes.insert(serial, process);
        self.tasks.insert(task.id.clone(), task);
        let event = TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(TaskIo {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint,
            pid: pid as u32,
        };
        self.events.publish("/tasks/create", "TaskCreate", &event);
        serial
    }

    /// Whoever was killed in the middle of a creation may have left state, cgroups, an init, mounts.
    fn clean_up(&mut self, id: &str, bundle: PathBuf) {
        let worker = Worker::spawn(&self.env, |env, _| {
            container::delete(env, id, Force::Yes)?;
            rootfs::unmount(&bundle).map(Some)
        });
        match worker {
            Ok(worker) => drop(self.begin(None, id, Kind::CleanUp, worker)),
            Err(error) => crate::log::warn(&format!("clean up {id}: {error}")),
        }
    }

    /// Init has become the program.
    fn running(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.started = true;
        let event = TaskStart { container_id: process.task.clone(), pid: process.pid as u32 };
        self.events.publish("/tasks/start", "TaskStart", &event);
        self.tell_early_end(serial);
    }

    fn exec_started(&mut self, serial: u64, pid: i32, console: Option<OwnedFd>) -> Result<Vec<u8>, Fault> {
        let Some(process) = self.processes.get_mut(&serial) else { return Ok(Vec::new()) };
        (process.pid, process.started) = (pid, true);
        if let (Some(terminal), Some(console)) = (&mut process.io.terminal, console) {
            terminal.connect(console)?;
        }
        let (container_id, exec_id) = (process.task.clone(), process.exec.clone());
        let event = TaskExecStarted { container_id, exec_id, pid: pid as u32 };
        self.events.publish("/tasks/exec-started", "TaskExecStarted", &event);
        self.end_of_stray(serial, pid);
        Ok(PidResponse { pid: pid as u32 }.encode_to_vec())
    }

    fn paused(&mut self, id: &str, paused: bool) -> Result<Vec<u8>, Fault> {
        if let Some(task) = self.tasks.get_mut(id) {
            task.paused = paused;
        }
        let event = TaskNews { container_id: id.to_owned() };
        let (topic, kind) = if paused { ("/tasks/paused", "TaskPaused") } else { ("/tasks/resumed", "TaskResumed") };
        self.events.publish(topic, kind, &event);
        Ok(Vec::new())
    }
}

pub(super) fn driver(options: &RuncOptions) -> Driver {
    if options.systemd_cgroup { Driver::Systemd } else { Driver::Files }
}

pub(super) fn stdio(request: &CreateRequest) -> Stdio {
    Stdio {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}
