//! What a node agent decides: which actions bring one pod from what is observed to what its spec says.
//!
//! Owns: the pod's life cycle, probes' thresholds, back-off, statuses, container → OCI spec, volumes' payloads,
//! admission, node status. Does not own: clocks, files, sockets, processes; every input is an argument.

pub mod admission;
pub mod affinity;
pub mod backoff;
pub mod containers;
pub mod env;
pub mod events;
pub mod files;
pub mod image;
pub mod life;
pub mod logs;
pub mod node;
pub mod observed;
pub mod oci;
pub mod payload;
pub mod probe;
pub mod quantity;
pub mod refusals;
pub mod resources;
pub mod seccomp;
pub mod security;
pub mod status;
pub mod tokens;
pub mod users;
pub mod volumes;

pub use life::{Action, PodPlan, plan};
pub use observed::Observed;
