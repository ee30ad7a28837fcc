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
//! A full push fills a second table in bounded batches, which then takes the first one's place at one stroke: packets
//! see the old rules or the new ones. A proxy that starts pushes in full without reading what is installed: that is
//! faster than comparing, and connections that exist keep their translation. Everything works in the network namespace
//! in which it is started.
//!
//! ```text
//!  mode: which way Services are served here; opens
//!    └► Backend (nft_backend ─► kernel, iptables_backend ─► xtables, userspace_backend ─► forward)
//!         ▲ run: API watches, timers, foreign hands
//!         └► Report ─► outlets: health checks, loopback ports, events, metrics, log
//! ```

mod affinity;
pub mod backend;
pub mod config;
pub mod connect_time;
pub mod duration;
mod events;
pub mod explain;
pub mod forward;
mod grace;
mod health;
mod health_checks;
mod http_server;
pub mod iptables_backend;
pub mod kernel;
pub mod kube_config;
pub mod limits;
mod local_ports;
mod metrics;
pub mod mode;
pub mod nft_backend;
mod node;
pub mod node_routes;
mod outlets;
mod packed;
mod planner_config;
mod profiling;
mod programming;
mod run;
mod servers;
pub mod userspace_backend;
pub mod xtables;

pub use config::{ProxyConfig, ProxyError};
pub use http_server::Hardness;
pub use kube_config::{ConfigError, KubeProxyConfiguration, LogFormat};
pub use run::{cleanup, initialise, run};
