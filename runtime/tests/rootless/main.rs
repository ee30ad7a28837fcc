//! Containers of an ordinary user, and of somebody who is root in a user namespace alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cgroups;
#[path = "../common/mod.rs"]
mod common;
mod life;
mod mapped;
mod ranges;
mod refusals;
mod user;
