//! `pintle-runc shim`: the supervisor of one pod.
//!
//! Owns: the pod's namespaces and cgroup, its containers as their parent, their stdio, logs, exit records, execs.
//! Does not own: deciding anything about the pod; the kubelet does, and may die and come back at any time.
//!
//! One thread, one epoll loop. It waits for nobody: clients have bounded queues, logs go to files, and what its
//! children do arrives as SIGCHLD and readable pipes.

mod attach;
mod calls;
mod conn;
mod container;
mod execs;
mod log_file;
mod server;
mod start;

pub use start::run;
