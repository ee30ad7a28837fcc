//! Services and EndpointSlices in, an nftables ruleset out. Pure: no clock, no socket, no API server.
//!
//! The layout: constant rules, everything in maps. A frontend is one element of a verdict map; its servers are elements
//! of one map that all Services share; chains exist per number of servers, not per Service. So the table's rules do not
//! grow with the cluster, and a change is as large as what changed.

pub mod base;
pub mod config;
pub mod endpoints;
pub mod fragment;
pub mod issue;
pub mod planner;
pub mod service;

pub use config::{Config, Egress, Masquerade, NodePortAddresses};
pub use fragment::Claim;
pub use issue::{Issue, Problem};
pub use planner::{Change, Planner, Update};
pub use service::ServiceName;
