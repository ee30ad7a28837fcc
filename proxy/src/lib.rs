//! The service proxy of a node: watches Services and EndpointSlices, keeps its nftables table as the planner wants it,
//! and routes to other nodes' pod ranges. The edge part: what the rules are is decided in `pintle-proxy-plan`.
//!
//! ```text
//!             first lists complete                 committed
//!  Waiting ───────────────────────► Full push ──────────────────► Incremental ◄──┐
//!                                     ▲   ▲ refused: later again        │  │     │ a change: its own size
//!                                     │   └─────────────────────────────┘  └─────┘
//!                                     └── somebody else changed our table; our Node changed
//! ```
//!
//! A full push deletes and makes the table in one transaction, so packets see the old rules or the new ones. A proxy
//! that starts pushes in full without reading what is installed: that is faster than comparing, and connections that
//! exist keep their translation. Everything works in the network namespace in which it is started.

pub mod config;
pub mod duration;
mod engine;
mod health;
mod http_server;
pub mod kube_config;
mod limits;
mod metrics;
mod node;
pub mod node_routes;
mod run;
mod servers;

pub use config::{ProxyConfig, ProxyError};
pub use http_server::Hardness;
pub use kube_config::{ConfigError, KubeProxyConfiguration};
pub use run::{cleanup, run};
