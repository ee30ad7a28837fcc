//! The task service, versions 2 and 3 (containerd, api/runtime/task/v2/shim.proto): the same messages under two names.

use prost::Message;

use crate::{Any, Timestamp};

/// Its name up to containerd 1.7.
pub const SERVICE_V2: &str = "containerd.task.v2.Task";
/// Its name since containerd 2.0.
pub const SERVICE_V3: &str = "containerd.task.v3.Task";

/// One mount of a root file system, in order (api/types/mount.proto).
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// E.g. `overlay`, `bind`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// What.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Below the root; usually empty.
    #[prost(string, tag = "3")]
    pub target: String,
    /// As mount(8) has them.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// Create: namespaces, mounts, cgroups; init waits.
#[derive(Clone, PartialEq, Message)]
pub struct CreateRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Directory with config.json.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// To be mounted on `<bundle>/rootfs`.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Whether it has a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// FIFO, or empty.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// FIFO or URI, or empty.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// FIFO or URI, or empty.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// Directory to restore from.
    #[prost(string, tag = "8")]
    pub checkpoint: String,
    /// Directory.
    #[prost(string, tag = "9")]
    pub parent_checkpoint: String,
    /// The runtime's own.
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// Answer to Create and Start.
#[derive(Clone, PartialEq, Message)]
pub struct PidResponse {
    /// As seen by the shim.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// State, Start, Delete and Wait: a task or one of its processes.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its processes; empty: init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// Pids, Pause, Resume, Stats, Connect: a task.
#[derive(Clone, PartialEq, Message)]
pub struct TaskRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Answer to Delete, and what the `delete` action prints.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteResponse {
    /// It was.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// Exit code; 128 + signal.
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// Exec: one more process, not yet started.
#[derive(Clone, PartialEq, Message)]
pub struct ExecRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Whether it has a terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// FIFO, or empty.
    #[prost(string, tag = "4")]
    pub stdin: String,
    /// FIFO or URI, or empty.
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// FIFO or URI, or empty.
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// The OCI process, as JSON.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// ResizePty.
#[derive(Clone, PartialEq, Message)]
pub struct ResizeRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its processes; empty: init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Columns.
    #[prost(uint32, tag = "3")]
    pub width: u32,
    /// Rows.
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// Answer to State.
#[derive(Clone, PartialEq, Message)]
pub struct StateResponse {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Directory.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// As seen by the shim.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// One of [`Status`].
    #[prost(int32, tag = "4")]
    pub status: i32,
    /// As created.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// As created.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// As created.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// As created.
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    /// Once it has ended.
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    /// Once it has ended.
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
    /// Empty: init.
    #[prost(string, tag = "11")]
    pub exec_id: String,
}

/// Kill.
#[derive(Clone, PartialEq, Message)]
pub struct KillRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its processes; empty: init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Number.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// Everybody in the task.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// CloseIO.
#[derive(Clone, PartialEq, Message)]
pub struct CloseIoRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// One of its processes; empty: init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Close stdin.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// Checkpoint.
#[derive(Clone, PartialEq, Message)]
pub struct CheckpointRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Directory for the images.
    #[prost(string, tag = "2")]
    pub path: String,
    /// The runtime's own.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
}

/// A process of a task.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessInfo {
    /// As seen by the shim.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// More.
    #[prost(message, optional, tag = "2")]
    pub info: Option<Any>,
}

/// Answer to Pids.
#[derive(Clone, PartialEq, Message)]
pub struct PidsResponse {
    /// In order of pid.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<ProcessInfo>,
}

/// Update.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// OCI resources, as JSON.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
}

/// Answer to Wait, once it has ended.
#[derive(Clone, PartialEq, Message)]
pub struct WaitResponse {
    /// Exit code; 128 + signal.
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// Answer to Stats.
#[derive(Clone, PartialEq, Message)]
pub struct StatsResponse {
    /// Metrics of cgroup v1 or v2.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// Answer to Connect.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectResponse {
    /// The shim.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// Init.
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
    /// The shim's.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// Shutdown.
#[derive(Clone, PartialEq, Message)]
pub struct ShutdownRequest {
    /// The task.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whatever still runs.
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// Where in its life a process is (api/types/task/task.proto).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits for Start.
    Created = 1,
    /// It runs.
    Running = 2,
    /// It has ended.
    Stopped = 3,
    /// It is frozen.
    Paused = 4,
}
