//! Tasks and their processes as the shim holds them.
//!
//! ```text
//! Create/Exec --> created --Start--> running <--Pause/Resume--> paused
//!                    |                  |
//!                    +------ends--------+--> stopped --Delete--> (gone)
//! ```

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use pintle_ttrpc::Timestamp;
use pintle_ttrpc::task::Status;

use super::checkpoint::Images;
use super::io::{Io, Stdio};
use crate::cgroup::{Cgroups, Kills, OomWatch};
use crate::launch::Late;

/// A task: a container.
#[derive(Debug)]
pub struct Task {
    pub id: String,
    pub bundle: PathBuf,
    pub cgroups: Cgroups,
    /// Whether init's death ends everything in it.
    pub own_pid_ns: bool,
    /// What Start takes.
    pub starting: Option<Beginning>,
    pub paused: bool,
    /// The memory killer's strikes, and what tells of the next one.
    pub kills: Kills,
    pub oom_watch: Option<OomWatch>,
}

/// What there is of a task before Start.
#[derive(Debug)]
pub enum Beginning {
    /// Its init waits; the way to it until it becomes the program.
    Init(Late, OwnedFd),
    /// Nothing runs yet.
    Images(Box<Images>),
}

/// One of its processes.
#[derive(Debug)]
pub struct Process {
    pub task: String,
    /// Empty: init.
    pub exec: String,
    /// As seen by us; 0 before it exists.
    pub pid: i32,
    pub started: bool,
    pub stdio: Stdio,
    pub io: Io,
    pub exit: Option<Exit>,
    /// Calls of Wait.
    pub waiting: Vec<Caller>,
    /// An exec's OCI process, as JSON, until it is started.
    pub spec: Vec<u8>,
    /// Its end, seen before Start had said that it runs.
    pub ended_early: Option<i32>,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// Exit code; 128 + signal.
    pub status: u32,
    pub at: Timestamp,
}

/// Whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub conn: u64,
    pub stream: u32,
}

impl Process {
    /// Not yet started.
    pub fn new(task: &str, exec: &str, stdio: Stdio) -> Process {
        Process {
            task: task.to_owned(),
            exec: exec.to_owned(),
            pid: 0,
            started: false,
            stdio,
            io: Io::default(),
            exit: None,
            waiting: Vec::new(),
            spec: Vec::new(),
            ended_early: None,
        }
    }

    pub fn is_init(&self) -> bool {
        self.exec.is_empty()
    }

    pub fn status(&self, paused: bool) -> Status {
        match (self.exit, self.started) {
            (Some(_), _) => Status::Stopped,
            (None, true) if paused => Status::Paused,
            (None, true) => Status::Running,
            (None, false) => Status::Created,
        }
    }
}
