//! Links, addresses, routes and namespaces against the real kernel, each test in network and mount namespaces of its
//! own, so that nothing can stay behind on the machine.
#![expect(clippy::unwrap_used, reason = "tests")]

mod hosts;
mod links;
mod sandbox;
