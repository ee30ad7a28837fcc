//! `pintle-runc shim`: the supervisor of one pod.
//!
//! Owns: the pod's namespaces and cgroup, its containers as their parent, their stdio, logs, exit records, execs.
//! Does not own: deciding anything about the pod; the kubelet does, and may die and come back at any time.
//!
//! One thread, one loop. It waits for nobody: clients have bounded queues, logs go to files, what its children do
//! arrives as SIGCHLD and readable pipes, and whatever takes time or memory (making a container, hooks, execs,
//! deletion) is a forked worker's. So it stays small: see docs/adr/0007-small-supervisor.md.

mod attach;
mod calls;
mod conn;
mod container;
mod execs;
mod jobs;
mod log_file;
mod server;
mod start;

pub use start::{detach, run};
