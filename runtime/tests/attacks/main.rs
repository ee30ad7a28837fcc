//! The known attacks on container runtimes, each tried as its author would: from an image, from inside a container, or
//! by the timing of a file system that somebody else writes to. docs/security.md is the index of this directory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod identity;
mod paths;
mod program;
mod terminal;
