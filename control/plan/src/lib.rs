//! What the control plane decides, as pure functions: kinds, controllers, scheduler, authorization, patches.
//!
//! Owns every decision; does not own clocks, randomness, sockets, files or the store.

pub mod authz;
pub mod controllers;
pub mod kind;
pub mod kinds;
pub mod registry;
pub mod request;
pub mod scheduler;
pub mod service_ranges;
pub mod strategy;
