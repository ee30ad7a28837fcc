//! The task service: what each method does.

use nix::unistd::Pid;
use pintle_sys::{pidfd, tty};
use pintle_ttrpc::events::{TaskDelete, TaskExecAdded};
use pintle_ttrpc::task::{
    CloseIoRequest, ConnectResponse, CreateRequest, DeleteResponse, ExecRequest, KillRequest, PidsResponse,
    ProcessInfo, ProcessRequest, ResizeRequest, SERVICE_V2, SERVICE_V3, ShutdownRequest, StateResponse, StatsResponse,
    TaskRequest, UpdateRequest, WaitResponse,
};
use pintle_ttrpc::{Code, Frame, REQUEST, Request, Status};
use prost::Message;

use super::io::Stdio;
use super::process::{Caller, Process, Task};
use super::server::Server;
use super::stats;
use crate::container::Whom;
use crate::error::{Doing as _, Error};

/// Why a call failed.
#[derive(Debug)]
pub struct Fault {
    pub code: Code,
    pub message: String,
}

/// What a caller gets: the method's message.
pub type Answer = Result<Vec<u8>, Fault>;

/// Whether a call is answered.
pub enum Outcome {
    Now(Vec<u8>),
    /// By a worker's last words, or a process's end.
    Later,
}

/// A call and whose it is.
pub struct Asked {
    pub from: Caller,
    pub method: String,
    pub payload: Vec<u8>,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into() }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let code = match &error {
            Error::NoSuchContainer | Error::NotRunning => Code::NotFound,
            Error::AlreadyExists => Code::AlreadyExists,
            Error::WrongState(_) | Error::NotPaused => Code::FailedPrecondition,
            Error::InvalidId | Error::Config(_) | Error::Usage(_) | Error::Resources(_) => Code::InvalidArgument,
            _ => Code::Unknown,
        };
        Fault::new(code, error.to_string())
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        Status { code: fault.code as i32, message: fault.message }
    }
}

fn read<M: Message + Default>(payload: &[u8]) -> Result<M, Fault> {
    M::decode(payload).map_err(|error| Fault::new(Code::InvalidArgument, format!("malformed request: {error}")))
}

fn done() -> Result<Outcome, Fault> {
    Ok(Outcome::Now(Vec::new()))
}

impl Server {
    /// A frame has come.
    pub(super) fn asked(&mut self, conn: u64, frame: Frame) {
        let from = Caller { conn, stream: frame.stream };
        if frame.kind != REQUEST {
            return;
        }
        match read::<Request>(&frame.data) {
            Ok(request) if request.service == SERVICE_V2 || request.service == SERVICE_V3 => {
                self.dispatch(Asked { from, method: request.method, payload: request.payload });
            }
            Ok(request) => {
                let message = format!("service {} is not served here", request.service);
                self.respond(from, Err(Fault::new(Code::Unimplemented, message)));
            }
            Err(fault) => self.respond(from, Err(fault)),
        }
    }

    /// Carries a call out, or has it wait for its turn.
    pub(super) fn dispatch(&mut self, asked: Asked) {
        if self.must_wait(&asked) {
            self.waiting.push(asked);
            return;
        }
        match self.call(&asked) {
            Ok(Outcome::Later) => {}
            Ok(Outcome::Now(payload)) => self.respond(asked.from, Ok(payload)),
            Err(fault) => self.respond(asked.from, Err(fault)),
        }
    }

    fn call(&mut self, asked: &Asked) -> Result<Outcome, Fault> {
        let (from, payload) = (asked.from, asked.payload.as_slice());
        match asked.method.as_str() {
            "Create" => self.create(from, read::<CreateRequest>(payload)?),
            "Start" => self.start(from, &read(payload)?),
            "Delete" => self.delete(from, &read(payload)?),
            "Exec" => self.add_exec(read(payload)?),
            "State" => self.state(&read(payload)?),
            "Wait" => self.wait_for(from, &read(payload)?),
            "Kill" => self.kill(&read(payload)?),
            "Pids" => self.pids(&read(payload)?),
            "Pause" => self.freeze(from, &read(payload)?, true),
            "Resume" => self.freeze(from, &read(payload)?, false),
            "ResizePty" => self.resize(&read(payload)?),
            "CloseIO" => self.close_io(&read(payload)?),
            "Update" => self.update(from, read::<UpdateRequest>(payload)?),
            "Stats" => self.stats(&read(payload)?),
            "Connect" => self.connect(&read(payload)?),
            "Shutdown" => self.shutdown(&read(payload)?),
            "Checkpoint" => self.checkpoint(from, read(payload)?),
            other => Err(Fault::new(Code::Unimplemented, format!("method {other} is not served here"))),
        }
    }

    /// The serial number of a process.
    pub(super) fn find(&self, task: &str, exec: &str) -> Result<u64, Fault> {
        let found = self.processes.iter().find(|(_, one)| one.task == task && one.exec == exec);
        found.map(|(serial, _)| *serial).ok_or_else(|| {
            let what = if exec.is_empty() { format!("task {task}") } else { format!("process {exec} of task {task}") };
            Fault::new(Code::NotFound, format!("{what} does not exist"))
        })
    }

    pub(super) fn task(&self, id: &str) -> Result<&Task, Fault> {
        self.tasks.get(id).ok_or_else(|| Fault::new(Code::NotFound, format!("task {id} does not exist")))
    }

    fn add_exec(&mut self, request: ExecRequest) -> Result<Outcome, Fault> {
        self.task(&request.id)?;
        if self.find(&request.id, &request.exec_id).is_ok() {
            return Err(Fault::new(Code::AlreadyExists, format!("process {} exists already", request.exec_id)));
        }
        let stdio =
            Stdio { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, terminal: request.terminal };
        let mut process = Process::new(&request.id, &request.exec_id, stdio);
        process.spec = request.spec.map(|spec| spec.value).unwrap_or_default();
        let serial = self.serial();
        self.processes.insert(serial, process);
        let event = TaskExecAdded { container_id: request.id, exec_id: request.exec_id };
        self.events.publish("/tasks/exec-added", "TaskExecAdded", &event);
        done()
    }

    fn state(&mut self, request: &ProcessRequest) -> Result<Outcome, Fault> {
        let process = &self.processes[&self.find(&request.id, &request.exec_id)?];
        let task = self.task(&request.id)?;
        let response = StateResponse {
            id: request.id.clone(),
            bundle: task.bundle.to_string_lossy().into_owned(),
            pid: process.pid as u32,
            status: process.status(task.paused) as i32,
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(|exit| exit.at),
            exec_id: process.exec.clone(),
        };
        Ok(Outcome::Now(response.encode_to_vec()))
    }

    fn wait_for(&mut self, from: Caller, request: &ProcessRequest) -> Result<Outcome, Fault> {
        let serial = self.find(&request.id, &request.exec_id)?;
        let Some(process) = self.processes.get_mut(&serial) else { return done() };
        match process.exit {
            Some(exit) => {
                let response = WaitResponse { exit_status: exit.status, exited_at: Some(exit.at) };
                Ok(Outcome::Now(response.encode_to_vec()))
            }
            None => {
                process.waiting.push(from);
                Ok(Outcome::Later)
            }
        }
    }

    fn kill(&mut self, request: &KillRequest) -> Result<Outcome, Fault> {
        let process = &self.processes[&self.find(&request.id, &request.exec_id)?];
        let task = self.task(&request.id)?;
        let gone = || Fault::new(Code::NotFound, "process already finished");
        let pid = process.pid;
        if process.exit.is_some() {
            return Err(gone());
        }
        let open = || match pid {
            0 => Err(Error::NotRunning),
            pid => pidfd::open(Pid::from_raw(pid)).doing(|| format!("open process {pid}")),
        };
        let signal = request.signal as i32;
        if process.is_init() {
            let whom = if request.all { Whom::All } else { Whom::Init };
            crate::container::send(&task.cgroups, task.own_pid_ns, open, signal, whom)?;
            if signal == libc::SIGKILL && task.cgroups.is_frozen() {
                task.cgroups.thaw()?;
            }
        } else {
            pidfd::send_signal(open()?, signal).doing(|| format!("send signal {signal} to {}", request.exec_id))?;
        }
        done()
    }

    fn pids(&mut self, request: &TaskRequest) -> Result<Outcome, Fault> {
        let pids = self.task(&request.id)?.cgroups.pids()?;
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid: pid as u32, info: None }).collect();
        Ok(Outcome::Now(PidsResponse { processes }.encode_to_vec()))
    }

    fn resize(&mut self, request: &ResizeRequest) -> Result<Outcome, Fault> {
        let process = &self.processes[&self.find(&request.id, &request.exec_id)?];
        let master = process.io.terminal.as_ref().and_then(|terminal| terminal.master.as_ref());
        // containerd's clients resize as soon as they have a task, perhaps before its terminal is there or after.
        if let Some(master) = master {
            let size = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
            tty::set_size(master, size(request.width), size(request.height))
                .doing(|| "resize the terminal".to_owned())?;
        } else if !process.stdio.terminal {
            return Err(Fault::new(Code::FailedPrecondition, "the process has no terminal"));
        }
        done()
    }

    fn close_io(&mut self, request: &CloseIoRequest) -> Result<Outcome, Fault> {
        let serial = self.find(&request.id, &request.exec_id)?;
        if let Some(process) = self.processes.get_mut(&serial).filter(|_| request.stdin) {
            process.io.close_stdin();
        }
        done()
    }

    fn stats(&mut self, request: &TaskRequest) -> Result<Outcome, Fault> {
        let stats = Some(stats::read(&self.task(&request.id)?.cgroups));
        Ok(Outcome::Now(StatsResponse { stats }.encode_to_vec()))
    }

    /// Also how a containerd that was restarted asks whether we are alive: it may ask for a task that is not ours.
    fn connect(&mut self, request: &TaskRequest) -> Result<Outcome, Fault> {
        let task_pid = self.find(&request.id, "").map_or(0, |serial| self.processes[&serial].pid as u32);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Outcome::Now(ConnectResponse { shim_pid: std::process::id(), task_pid, version }.encode_to_vec()))
    }

    /// Every deleted task is followed by this; only the last one's counts.
    fn shutdown(&mut self, request: &ShutdownRequest) -> Result<Outcome, Fault> {
        if request.now || (self.tasks.is_empty() && self.jobs.is_empty()) {
            self.leave();
        }
        done()
    }

    /// A process that has ended is forgotten; the answer says how it ended.
    pub(super) fn forget(&mut self, serial: u64) -> Vec<u8> {
        let Some(process) = self.processes.remove(&serial) else { return Vec::new() };
        let exit_status = process.exit.map_or(0, |exit| exit.status);
        let exited_at = process.exit.map(|exit| exit.at);
        // containerd's own shim tells of a task's deletion, not of an exec's.
        if process.is_init() {
            let (container_id, pid, id) = (process.task, process.pid as u32, process.exec);
            let event = TaskDelete { container_id, pid, exit_status, exited_at, id };
            self.events.publish("/tasks/delete", "TaskDelete", &event);
        }
        DeleteResponse { pid: process.pid as u32, exit_status, exited_at }.encode_to_vec()
    }
}
