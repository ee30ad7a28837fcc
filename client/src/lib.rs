//! A small Kubernetes client: typed requests over one multiplexed connection, list+watch caches, an event recorder.
//!
//! Owns: kubeconfig files, TLS towards an API server, the HTTP connection and its renewal, paths of typed requests,
//! the replica a watch maintains. Does not own: any decision of a component, the meaning of an object, leader election.
//!
//! ```no_run
//! # async fn f() -> Result<(), pintle_client::Error> {
//! use k8s_openapi::api::core::v1::Pod;
//! let client = pintle_client::Client::from_kubeconfig(std::path::Path::new("/var/lib/pintle/kubeconfig"))?;
//! let pod: Pod = client.get("default", "web-1").await?;
//! let pods = pintle_client::Cache::<Pod>::builder(&client).fields("spec.nodeName=n1").start();
//! pods.synced().await;
//! # Ok(()) }
//! ```

mod backoff;
mod cache;
mod config;
mod connection;
mod error;
mod events;
mod kubeconfig;
mod object;
mod pace;
mod path;
mod request;
mod tls;
mod watch;

pub use backoff::Backoff;
pub use cache::{Builder, Cache, Change, Snapshot, Subscription};
pub use config::{Config, Identity, Trust};
pub use connection::{Dial, Io, Wire};
pub use error::{ApiError, Error};
pub use events::{EventRecorder, Level, reference};
pub use kubeconfig::{Kubeconfig, write_private};
pub use object::{Held, List, Object, ObjectKey, PartialObject, revision_of};
pub use path::{ListParams, collection_path, object_path};
pub use request::{Client, Patch, delete_options};
