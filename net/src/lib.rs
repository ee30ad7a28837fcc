//! Hands for the network: links, addresses, routes and namespaces over rtnetlink, addresses allocated on disk, and
//! rulesets sent over nfnetlink. No program is ever called, and nothing here knows Kubernetes.
//!
//! Everything works in the network namespace of the calling thread ("host" below), which for a node inside its own
//! namespace is that namespace.

pub mod device;
pub mod error;
pub mod hosts;
pub mod ipam;
pub mod link;
pub mod netns;
pub mod nfnetlink;
pub mod pod;
pub mod routes;
mod rt;
pub mod sysctl;

pub use error::NetError;
pub use pintle_nft::{Cidr, CidrError, Family};

/// The protocol number our routes carry, so that they can be told from everybody else's. Not listed in iproute2's
/// `rt_protos`; 112 is ASCII `p`.
pub const ROUTE_PROTOCOL: u8 = 112;
