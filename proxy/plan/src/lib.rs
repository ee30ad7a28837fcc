//! Services and EndpointSlices in, rules out. Pure: no clock, no socket, no API server.
//!
//! ```text
//! API objects ─► ServiceMap (who answers where, by whom; knows no packet filter)
//!                    ├─► nftables ─► Ruleset, Transaction        the default backend
//!                    ├─► userspace ─► addresses, listeners           where there is no packet filter
//!                    ├─► connect: maps and programs for sockets as they connect   besides the backend
//!                    ├─► outputs: health checks, loopback ports, flows to forget
//!                    ├─► iptables ─► Script for iptables-restore     where the kernel has no nf_tables
//!                    └─► any other `Backend`
//! ```
//!
//! The nftables layout: constant rules, everything in maps. A frontend is one element of a verdict map; its servers are
//! elements of one map that all Services share; chains exist per number of servers, not per Service. So the table's
//! rules do not grow with the cluster, and a change is as large as what changed. Where there are many Services, those that
//! change are in a second table for a while ([`small`]).

pub mod backend;
pub mod base;
mod blame;
mod claims;
pub mod config;
pub mod connect;
pub mod endpoints;
pub mod fragment;
pub mod iptables;
pub mod issue;
pub mod map;
pub mod nftables;
pub mod outputs;
pub mod planner;
pub mod planners;
pub mod recall;
pub mod service;
pub mod small;
pub mod userspace;

pub use backend::Backend;
pub use config::{Config, DetectLocal, Egress, Invalid, Loopback, Masquerade, NodePortAddresses};
pub use issue::{Issue, Problem};
pub use map::{Change, ServiceMap};
pub use outputs::{Counts, HealthCheck, LoopbackPort};
pub use planner::{Planner, Slot, Update};
pub use planners::Planners;
pub use service::{Claim, ServiceName};
