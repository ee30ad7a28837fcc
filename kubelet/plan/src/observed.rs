//! What is known about one pod on this node, in a form the planner can compare with its spec.
//!
//! Owns: the shapes. Does not own: how they come to be known (the edge), what follows from them (`life`, `status`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;

/// Everything known about one pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// The node refuses to run it.
    pub rejected: Option<Rejection>,
    /// When the kubelet first saw it.
    pub started_at: Option<Timestamp>,
    /// Since when it is to end; `None` if it is not.
    pub terminating_since: Option<Timestamp>,
    /// Network namespace, addresses, supervisor.
    pub sandbox: Stage<Vec<String>>,
    /// Its volumes.
    pub volumes: Stage<()>,
    /// Its containers by name; a container without an entry is untouched.
    pub containers: BTreeMap<String, ContainerObs>,
}

/// Why a node refuses a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// For the program, e.g. `OutOfcpu`.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// How far one part of a pod's set-up is.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Stage<T> {
    /// Not begun.
    #[default]
    Absent,
    /// The edge is at it.
    Busy,
    /// There.
    Ready(T),
    /// It failed and is tried again.
    Failed {
        /// What to show.
        message: String,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// Torn down for good.
    Removed,
}

impl<T> Stage<T> {
    /// The result, if it is there.
    pub fn ready(&self) -> Option<&T> {
        match self {
            Stage::Ready(value) => Some(value),
            Stage::Absent | Stage::Busy | Stage::Failed { .. } | Stage::Removed => None,
        }
    }
}

/// Everything known about one container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerObs {
    /// Whether its image is at hand.
    pub image: Stage<()>,
    /// How the last look for its image failed.
    pub image_failure: Option<Failure>,
    /// The newest attempt at running it.
    pub attempt: Option<Attempt>,
    /// The attempt before.
    pub previous: Option<Attempt>,
    /// How often it was started again.
    pub restarts: u32,
    /// Why the last start failed before there was a container.
    pub start_failure: Option<Failure>,
    /// Crash-loop back-off.
    pub crash: Backoff,
    /// What the edge is doing with it.
    pub busy: Option<Busy>,
    /// What its probes say.
    pub probes: ProbeView,
}

/// A failure that is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// E.g. `ErrImagePull`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// How long to wait before the next try.
    pub backoff: Backoff,
}

/// What the edge is doing with a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Busy {
    /// Making and starting it, up to the end of its postStart hook.
    Starting,
    /// Ending it.
    Stopping {
        /// When SIGKILL follows.
        deadline: Timestamp,
    },
}

/// One attempt at running a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// OCI id.
    pub id: String,
    /// From 0; names the log file.
    pub number: u32,
    /// The image as resolved: `name@digest`.
    pub image_id: String,
    /// Who it runs as: uid, gid, groups.
    pub user: (u32, u32, Vec<u32>),
    /// How it fares.
    pub state: AttemptState,
}

/// How an attempt fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptState {
    /// Running.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Over.
    Exited(Exited),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Start, if it got that far.
    pub started_at: Option<Timestamp>,
    /// End.
    pub finished_at: Timestamp,
    /// Exit code; 128 + signal for a signal.
    pub code: i32,
    /// The signal, or 0.
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// Termination message.
    pub message: String,
}

/// What the probes of a running container say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeView {
    /// The startup probe succeeded, or there is none and postStart is over.
    pub started: bool,
    /// The readiness probe's last word, or started if there is none.
    pub ready: bool,
    /// A liveness or startup probe gave up on it.
    pub unhealthy: Option<Unhealthy>,
}

/// Which probe gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhealthy {
    /// `liveness` or `startup`.
    pub probe: &'static str,
    /// Seconds to end the container, if the probe says so itself.
    pub grace_s: Option<i64>,
}

impl ContainerObs {
    /// The exit of the newest attempt, if it is over.
    pub fn exited(&self) -> Option<&Exited> {
        match self.attempt.as_ref().map(|a| &a.state) {
            Some(AttemptState::Exited(exited)) => Some(exited),
            Some(AttemptState::Running { .. }) | None => None,
        }
    }

    /// Whether the newest attempt runs.
    pub fn running(&self) -> bool {
        matches!(self.attempt, Some(Attempt { state: AttemptState::Running { .. }, .. }))
    }

    /// Whether it runs and its start-up is over.
    pub fn started(&self) -> bool {
        self.running() && self.probes.started && self.busy != Some(Busy::Starting)
    }
}

impl Observed {
    /// A container's entry, or an untouched one.
    pub fn container(&self, name: &str) -> &ContainerObs {
        static UNTOUCHED: std::sync::OnceLock<ContainerObs> = std::sync::OnceLock::new();
        self.containers.get(name).unwrap_or_else(|| UNTOUCHED.get_or_init(ContainerObs::default))
    }
}
