//! The node agent: pods from the API server and from a directory become running containers; their state goes back.
//!
//! Owns: observing (API watches, supervisors' events, files, timers), applying the plans of `kubelet/plan`, reporting
//! statuses, events, logs, exec. Does not own: any decision about a pod's life (the plan crate), containers' processes
//! (each pod's supervisor, `pintle-runc shim`, which outlives this program), rules for Services (the proxy).

mod bootstrap;
mod cgroup;
mod cleanup;
mod config;
mod context;
mod disk;
mod error;
mod files;
mod images;
mod machine;
mod manager;
mod manifests;
mod mirrors;
mod node;
mod objects;
mod record;
mod run;
mod server;
mod shim;
mod tokens;
mod volumes;
mod watch;
mod worker;

pub use cleanup::cleanup;
pub use config::{Dirs, KubeletConfig};
pub use error::KubeletError;
pub use run::run;
