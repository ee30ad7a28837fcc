//! What pintle-runc will do, decided before it does anything.
//!
//! Owns: reading and checking config.json, and turning it into an [`InitPlan`] (the parent's and the child's steps),
//! cgroup writes and a seccomp program. Does not own: a single system call. What must be observed first (cgroup
//! hierarchies, kernel features, which paths exist) comes in as [`Host`].

#![expect(missing_docs, reason = "variant fields repeat what their variant says; every item itself is documented")]

mod caller;
pub mod caps;
pub mod cgroup;
mod checks;
pub mod criu;
mod exec;
mod host;
mod init;
mod json_path;
mod lenient;
pub mod lists;
pub mod mount_options;
mod mounts;
mod process;
pub mod rdt;
pub mod rlimits;
pub mod rootless;
pub mod seccomp;
mod slots;
pub mod spec;
pub mod step;
pub mod systemd;

pub use caller::Caller;
pub use checks::Security;
pub use exec::{ExecRequest, plan_exec};
pub use host::{CgroupJoin, Hierarchy, Host};
pub use init::{convert_hooks, overlaps, plan_init};
pub use spec::{ConfigError, parse_process, parse_spec, validate};
pub use step::{InitPlan, Slot, Step};
