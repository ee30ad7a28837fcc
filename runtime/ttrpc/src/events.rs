//! What a shim tells containerd unasked (api/events/task.proto), over containerd's own ttrpc socket.

use prost::Message;

use crate::task::Mount;
use crate::{Any, Timestamp};

/// The service that takes events (api/services/ttrpc/events/v1).
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// Forward.
#[derive(Clone, PartialEq, Message)]
pub struct ForwardRequest {
    /// The event.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// An event and its circumstances (api/types/event.proto).
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// When.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// containerd's, not the kernel's.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// E.g. `/tasks/exit`.
    #[prost(string, tag = "3")]
    pub topic: String,
    /// One of those below.
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// Stdio as created.
#[derive(Clone, PartialEq, Message)]
pub struct TaskIo {
    /// FIFO, or empty.
    #[prost(string, tag = "1")]
    pub stdin: String,
    /// FIFO or URI, or empty.
    #[prost(string, tag = "2")]
    pub stdout: String,
    /// FIFO or URI, or empty.
    #[prost(string, tag = "3")]
    pub stderr: String,
    /// Whether it has a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// `/tasks/create`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskCreate {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Directory.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// As asked for.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Stdio.
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIo>,
    /// Directory.
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    /// Init.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// `/tasks/start`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskStart {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Init.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// `/tasks/delete`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskDelete {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// It was.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Exit code; 128 + signal.
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    /// The exec; empty: init.
    #[prost(string, tag = "5")]
    pub id: String,
}

/// `/tasks/exit`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskExit {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The exec; the task's own id: init.
    #[prost(string, tag = "2")]
    pub id: String,
    /// It was.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// Exit code; 128 + signal.
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
}

/// `/tasks/oom`, `/tasks/paused`, `/tasks/resumed`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskNews {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `/tasks/checkpointed`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskCheckpointed {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Directory.
    #[prost(string, tag = "2")]
    pub checkpoint: String,
}

/// `/tasks/exec-added`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskExecAdded {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The exec.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// `/tasks/exec-started`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskExecStarted {
    /// The task.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The exec.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its pid.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}
