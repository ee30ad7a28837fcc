//! The words a pod's supervisor (`pintle-runc shim`) and its client (the kubelet) exchange.
//!
//! Owns: the shapes and the framing of protocol version 1. Does not own: sockets, processes, files.
//!
//! Transport: a unix stream socket, mode 0600, peer uid 0 checked by `SO_PEERCRED` on both sides.
//! A frame is a little-endian `u32` length followed by that many bytes of JSON, at most [`FRAME_LEN_MAX`].
//! File descriptors travel by `SCM_RIGHTS` with the first byte of the frame that needs them.
//! A client may keep several connections; the shim never waits for any of them.

pub mod request;

use std::path::PathBuf;

use oci_spec::runtime::{LinuxResources, Process};
use serde::{Deserialize, Serialize};

/// The protocol's version, said in [`Reply::Hello`].
pub const VERSION: u32 = 1;
/// The longest frame either side accepts, in bytes.
pub const FRAME_LEN_MAX: u32 = 4 << 20;

/// `shim.json`: all a supervisor needs to know, written by the kubelet before it starts one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShimConfig {
    /// The pod's uid; also the sandbox id.
    pub pod_uid: String,
    /// Where the shim keeps its socket (`shim.sock`), its log (`shim.log`) and exit records (`exits/<container id>.json`).
    pub dir: PathBuf,
    /// `pintle-runc --root`: where container state lives.
    pub runtime_root: PathBuf,
    /// Network namespace to join; `None` stays in the caller's (hostNetwork).
    pub netns: Option<PathBuf>,
    /// Host name for the pod's own UTS namespace; `None` stays in the caller's (hostNetwork).
    pub hostname: Option<String>,
    /// Whether to stay in the caller's IPC namespace (hostIPC).
    pub host_ipc: bool,
    /// One pid namespace for all containers (shareProcessNamespace): the shim holds it open with a small init.
    pub share_pid: bool,
    /// Sysctls of the pod's namespaces, written after joining them: (name with dots, value).
    pub sysctls: Vec<(String, String)>,
    /// The pod's cgroup, relative to every controller's root, e.g. `/kubepods/burstable/pod<uid>`.
    pub pod_cgroup: String,
    /// Limits of the pod's cgroup.
    pub pod_resources: LinuxResources,
}

/// One request; `id` comes back in the response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique on its connection.
    pub id: u64,
    /// What to do.
    pub call: Call,
}

/// What a client can ask for. Containers are named by their OCI id (64 hex digits).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Call {
    /// Who are you. → [`Reply::Hello`]
    Hello,
    /// All containers, dead ones until they are deleted. → [`Reply::Containers`]
    List,
    /// OCI create: namespaces, mounts and cgroup are made, init waits. → [`Reply::Created`]
    Create {
        /// OCI id.
        container: String,
        /// Directory with config.json; its cgroupsPath lies below the pod's cgroup.
        bundle: PathBuf,
        /// CRI log file, made with its parents; `None` drops output.
        log_path: Option<PathBuf>,
        /// Keep a stdin pipe (or the console) open for [`Call::Attach`].
        stdin: bool,
        /// Close stdin when the first attached client closes it.
        stdin_once: bool,
        /// Rotate the log beyond this many bytes; 0 never rotates.
        log_max_bytes: u64,
        /// Keep at most this many log files, the current one included.
        log_max_files: u32,
    },
    /// OCI start. → [`Reply::Done`]
    Start {
        /// OCI id.
        container: String,
    },
    /// Sends a signal to init, or to every process of the container. → [`Reply::Done`]
    Kill {
        /// OCI id.
        container: String,
        /// Signal number.
        signal: i32,
        /// Every process of the container's cgroup.
        all: bool,
    },
    /// Removes a stopped container, its cgroup and its exit record. → [`Reply::Done`]
    Delete {
        /// OCI id.
        container: String,
    },
    /// Runs one more process. Without a terminal three descriptors travel along: stdin, stdout, stderr.
    /// With one (`process.terminal`) the console's master comes back with the reply. → [`Reply::ExecStarted`],
    /// later [`Event::ExecExited`] on this connection.
    Exec {
        /// OCI id.
        container: String,
        /// OCI process.
        process: Box<Process>,
        /// Kill the process and all its children after this long, in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// Copies output to the two passed descriptors (stdout, stderr), and stdin from a third if `stdin`.
    /// Ends when the container ends or the descriptors are closed. → [`Reply::Done`]
    Attach {
        /// OCI id.
        container: String,
        /// A stdin descriptor is passed first.
        stdin: bool,
    },
    /// Sets the terminal's size, of a container or of an exec. → [`Reply::Done`]
    Resize {
        /// OCI id.
        container: String,
        /// The exec, or the container's own terminal.
        exec: Option<u64>,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Changes limits of a container or, without one, of the pod's cgroup. → [`Reply::Done`]
    Update {
        /// OCI id, or the pod.
        container: Option<String>,
        /// New limits; absent fields stay.
        resources: Box<LinuxResources>,
    },
    /// Opens a container's log by its path again, after somebody renamed the file. → [`Reply::Done`]
    ReopenLog {
        /// OCI id.
        container: String,
    },
    /// From now on this connection receives every [`Event`]. → [`Reply::Containers`], the state at that moment.
    Subscribe,
    /// Ends the supervisor when no container is left: removes the pod's cgroup, its files, exits. → [`Reply::Done`]
    Shutdown,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The request's id.
    pub id: u64,
    /// What came of it.
    pub result: Result<Reply, Failure>,
}

/// What came of a [`Call`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// Who answers.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The pod.
        pod_uid: String,
        /// The shim's pid.
        pid: i32,
    },
    /// All containers.
    Containers {
        /// In order of creation.
        containers: Vec<ContainerState>,
    },
    /// Created; init waits.
    Created {
        /// Pid of the container's init, as seen outside.
        pid: i32,
    },
    /// The process runs.
    ExecStarted {
        /// Names it in [`Event::ExecExited`] and [`Call::Resize`].
        exec: u64,
        /// Its pid, as seen outside.
        pid: i32,
    },
}

/// What the shim says unasked, after [`Call::Subscribe`] or [`Call::Exec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A container's init ended; its exit record is on disk.
    Exited {
        /// The container as it is now.
        state: ContainerState,
    },
    /// A process started by [`Call::Exec`] ended.
    ExecExited {
        /// The exec.
        exec: u64,
        /// How.
        exit: Exit,
    },
}

/// What travels from shim to client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Message {
    /// An answer.
    Response(Response),
    /// News.
    Event(Event),
}

/// A container as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// OCI id.
    pub id: String,
    /// Pid of init as seen outside; 0 once it ended.
    pub pid: i32,
    /// Where in its life it is.
    pub status: ContainerStatus,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Milliseconds since the epoch; 0 before start.
    pub started_ms: u64,
    /// Milliseconds since the epoch; 0 before the end.
    pub finished_ms: u64,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerStatus {
    /// Init waits for start.
    Created,
    /// Running.
    Running,
    /// Init ended.
    Stopped,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// The kernel's memory killer struck in this container.
    pub oom_killed: bool,
    /// An exec ran into its time-out.
    pub timed_out: bool,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// For the program.
    pub kind: FailureKind,
    /// For people: what failed, on what, why.
    pub message: String,
}

/// The classes of failure a client acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// No such container or exec.
    NotFound,
    /// It exists already, or is not in a state that allows this.
    Conflict,
    /// The program cannot be executed (not found, not executable): the container's fault.
    CannotRun,
    /// The request makes no sense.
    Invalid,
    /// A system call failed.
    System,
}
