//! One file per kind: defaults, rules, columns.
//!
//! Owns: nothing itself. To add a kind: one file here, one line in [`crate::registry::KINDS`]; the registry's tests then
//! demand the rest.

pub mod certificate_signing_request;
mod common;
pub mod config_map;
pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
pub mod events_event;
pub mod job;
pub mod lease;
pub mod namespace;
pub mod node;
pub mod pod;
mod podspec;
pub mod priority_class;
pub mod replica_set;
pub mod secret;
pub mod service;
pub mod service_account;
