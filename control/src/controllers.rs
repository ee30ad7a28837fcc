//! The one driver behind every controller and the scheduler.
//!
//! ```text
//!  caches ─► feed ─► Snapshot ─► keys ─► Queue ─► (answer) ─► plan ─► apply ─► holds
//!                                          ▲                                     │
//!                                          └──── until the caches show it ◄──────┘
//! ```
//!
//! Owns caches, the queue, back-off and requests. Does not own a decision: those are in `control/plan/src/controllers`
//! and `control/plan/src/scheduler`. One task owns the snapshot and the queue, so nothing is locked; requests run in
//! tasks of their own.

mod answer;
mod apply;
mod discovery;
mod driver;
mod feed;
mod queue;

use std::path::PathBuf;

use pintle_client::Client;
use pintle_control_plan::controllers::{self as plan, CONTROLLERS, Controller};
use tokio_util::sync::CancellationToken;

use crate::pki::{Authority, PkiError};

/// What controllers must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses of pods, `10.42.0.0/16`; every node gets a /24 of it.
    pub cluster_cidr: String,
    /// Directory with `ca.crt` and `ca.key`: published to namespaces, and used to sign certificate requests.
    pub pki_dir: PathBuf,
    /// How long a node may be silent before its Ready condition becomes Unknown.
    pub node_grace_s: i64,
}

impl Config {
    /// The defaults of ARCHITECTURE.md.
    pub fn new(pki_dir: PathBuf) -> Config {
        Config { cluster_cidr: "10.42.0.0/16".to_owned(), pki_dir, node_grace_s: 40 }
    }
}

/// Why controllers cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority cannot be loaded.
    #[error("controllers cannot load the cluster's authority from {directory}")]
    Authority {
        /// Where it was looked for.
        directory: PathBuf,
        /// Why.
        #[source]
        source: PkiError,
    },
}

/// Runs every controller until cancelled. Requests that are under way are finished first.
///
/// # Errors
/// [`Error`], before anything is started.
pub async fn run(config: Config, client: Client, cancel: CancellationToken) -> Result<(), Error> {
    let loops = CONTROLLERS.iter().map(|c| (*c, client.clone())).collect();
    start(&config, &client, loops, cancel).await
}

/// Runs every controller and the scheduler over one set of caches, each under its own identity. Reads with the
/// controllers' client.
///
/// # Errors
/// [`Error`], before anything is started.
pub async fn run_with_scheduler(
    config: Config,
    client: Client,
    scheduler: Client,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let mut loops: Vec<(&'static dyn Controller, Client)> = CONTROLLERS.iter().map(|c| (*c, client.clone())).collect();
    loops.push((pintle_control_plan::scheduler::SCHEDULER, scheduler));
    start(&config, &client, loops, cancel).await
}

async fn start(
    config: &Config,
    client: &Client,
    loops: Vec<(&'static dyn Controller, Client)>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let authority = Authority::load(&config.pki_dir)
        .map_err(|source| Error::Authority { directory: config.pki_dir.clone(), source })?;
    let settings = plan::Config {
        cluster_cidr: config.cluster_cidr.clone(),
        node_grace_s: config.node_grace_s,
        ca_pem: authority.certificate_pem().to_owned(),
        ..plan::Config::default()
    };
    driver::run(driver::Setup { loops, settings, authority: Some(authority), everything: true }, client, cancel).await;
    Ok(())
}

/// Runs these loops alone, over the caches they watch and no others.
pub(crate) async fn run_only(
    loops: Vec<(&'static dyn Controller, Client)>,
    client: &Client,
    cancel: CancellationToken,
) {
    let settings = plan::Config::default();
    driver::run(driver::Setup { loops, settings, authority: None, everything: false }, client, cancel).await;
}
