//! The proxy's ruleset against the real kernel: real connections in namespaces of the test's own, and the real `nft`
//! to list what we installed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod connect_time;
mod extremes;
#[path = "../../plan/tests/story/happening.rs"]
mod happening;
mod iptables;
mod load;
#[path = "../../plan/tests/story/objects.rs"]
mod objects;
mod outage;
mod outlets;
mod replay;
mod rules;
mod running;
mod sctp;
mod soak;
mod star;
mod userspace;
mod vm;
mod world;
