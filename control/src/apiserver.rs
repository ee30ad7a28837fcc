//! The API server as a whole: opens the store, loads the keys, makes the first objects, listens.
//!
//! Owns: the order of starting and stopping. Does not own: any request (`serve`), connections (`listen`).

mod bootstrap;
mod listen;
mod renewal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use pintle_control_plan::authz::User;
pub use pintle_control_plan::service_ranges::ServiceRanges;
use pintle_store::{DiskStore, Store};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Authenticator, Peer};
pub use crate::pki::LEAF_LIFE_S;
use crate::pki::{self, JoinToken, Live, Pki, PkiConfig, PkiError};
use crate::serve::Api;

/// How much an in-process connection buffers per direction.
const DUPLEX_BYTES: usize = 64 << 10;

/// How to run.
#[derive(Debug, Clone)]
pub struct ApiServerConfig {
    /// `/var/lib/pintle`.
    pub state_dir: PathBuf,
    /// Where to listen; TLS only.
    pub listen: Vec<SocketAddr>,
    /// The URL written into kubeconfigs.
    pub server_url: String,
    /// Names and addresses for the serving certificate, besides those that are listened on.
    pub names: Vec<String>,
    /// The address published as the endpoint of Service `kubernetes`; None publishes none.
    pub advertise: Option<SocketAddr>,
    /// Where Services' addresses and node ports come from.
    pub ranges: ServiceRanges,
    /// Life of the API server's own certificates, [`LEAF_LIFE_S`] by default; renewed when a third of it is left.
    pub certificate_life_s: u64,
}

/// Why the API server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// Keys and certificates.
    #[error("cannot prepare the cluster's certificates")]
    Pki(#[from] PkiError),
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] pintle_store::OpenError),
    /// TLS.
    #[error("cannot set up TLS with the API server's certificate")]
    Tls(#[source] rustls::Error),
    /// The client certificates' verifier.
    #[error("cannot trust the cluster's authority")]
    Trust(#[source] rustls::server::VerifierBuilderError),
    /// A port in use, usually.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The first objects.
    #[error("cannot create {object} at start: {message}")]
    Bootstrap {
        /// `namespaces/default`.
        object: String,
        /// The refusal.
        message: String,
    },
    /// The ranges were changed under Services that are there.
    #[error("{count} of the stored Services' addresses and ports lie outside {ranges}: {list}")]
    Ranges {
        /// The ranges asked for.
        ranges: ServiceRanges,
        /// How many.
        count: usize,
        /// The first of them.
        list: String,
    },
}

impl ApiServerError {
    /// What to do about it, if that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ApiServerError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some("another program listens there; stop it or choose another address")
            }
            ApiServerError::Store(pintle_store::OpenError::InUse { .. }) => {
                Some("another pintle server uses this state directory; stop it or choose another --state-dir")
            }
            ApiServerError::Store(error) if error.is_damaged() => Some(
                "put back a copy of the file from a backup, or move it away: the server then starts with an empty \
                 cluster, whose nodes have to join again",
            ),
            ApiServerError::Ranges { .. } => Some(
                "start with the --service-cidr and --service-node-port-range they were made with, or delete them there \
                 first; the address of default/kubernetes cannot change, so another --service-cidr needs another state \
                 directory",
            ),
            _ => None,
        }
    }
}

/// A server that is started.
#[derive(Clone)]
pub struct Handle {
    api: Arc<Api>,
    tasks: TaskTracker,
    /// Where it listens; a port 0 of the configuration is resolved here.
    pub addresses: Vec<SocketAddr>,
    /// What joining machines need.
    pub join_token: JoinToken,
    /// The authority's certificate, PEM.
    pub ca_pem: String,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Handle {
    /// A connection to the server within the process, without TLS, as `user` with `groups` (`system:authenticated` is
    /// added). Speaks HTTP/1.1 or HTTP/2 with prior knowledge.
    pub fn local_client_stream(&self, user: &str, groups: &[&str]) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let user = User::authenticated(user, groups.iter().map(|group| (*group).to_owned()));
        let peer = Arc::new(Peer { user: Some(user) });
        self.tasks.spawn(listen::connection(self.api.clone(), peer, ours));
        theirs
    }

    /// Waits until every connection is over, after the token given to [`start`] was cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts serving; returns once the server is ready: listening, with its store open and its first objects there.
/// Cancelling ends watches and connections; then wait for [`Handle::stopped`].
///
/// # Errors
/// [`ApiServerError`].
pub async fn start(config: ApiServerConfig, cancel: CancellationToken) -> Result<Handle, ApiServerError> {
    // Ports first: a second server must fail before it touches anything of the first.
    let listeners = listen::bind(&config.listen).await?;
    let store = Arc::new(DiskStore::open(&config.state_dir.join("server").join("db"))?);
    serve_over(store, listeners, config, cancel).await
}

/// [`start`] over another store, e.g. one in memory.
///
/// # Errors
/// [`ApiServerError`].
pub async fn start_over(
    store: Arc<dyn Store>,
    config: ApiServerConfig,
    cancel: CancellationToken,
) -> Result<Handle, ApiServerError> {
    let listeners = listen::bind(&config.listen).await?;
    serve_over(store, listeners, config, cancel).await
}

async fn serve_over(
    store: Arc<dyn Store>,
    listeners: Vec<TcpListener>,
    config: ApiServerConfig,
    cancel: CancellationToken,
) -> Result<Handle, ApiServerError> {
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let pki_config = pki_config(&config, &addresses);
    let now_s = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let keys = pki::ensure(&pki_config, now_s)?;
    let random = |bytes: &mut [u8]| rand::Rng::fill(&mut rand::rng(), bytes);
    let join_token = pki::ensure_join_token(&pki_config, &keys.authority, random)?;
    let live = Live::new(&keys)?;
    let tls = listen::tls(&keys, live.clone())?;
    let ca_pem = keys.authority.certificate_pem().to_owned();
    let api = Arc::new(api(store, keys, live, config.ranges.clone(), cancel));
    bootstrap::ensure(&api, &config, &join_token).await?;
    let tasks = TaskTracker::new();
    for listener in listeners {
        let accept = listen::accept(api.clone(), listener, tls.clone(), tasks.clone());
        tasks.spawn(accept);
    }
    tasks.spawn(renewal::run(api.clone(), pki_config));
    tracing::info!(?addresses, "API server is ready");
    Ok(Handle { api, tasks, addresses, join_token, ca_pem })
}

/// Runs until cancelled: [`start`], tell `ready`, [`Handle::stopped`].
///
/// # Errors
/// [`ApiServerError`] if it does not start.
pub async fn run(
    config: ApiServerConfig,
    cancel: CancellationToken,
    ready: tokio::sync::oneshot::Sender<Handle>,
) -> Result<(), ApiServerError> {
    let handle = start(config, cancel.clone()).await?;
    // Nobody may be interested in the handle.
    let _ = ready.send(handle.clone());
    cancel.cancelled().await;
    handle.stopped().await;
    Ok(())
}

fn pki_config(config: &ApiServerConfig, addresses: &[SocketAddr]) -> PkiConfig {
    let mut names = config.names.clone();
    names.extend(addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    names.push(config.ranges.kubernetes().to_string());
    names.extend(config.advertise.map(|address| address.ip().to_string()));
    let (state_dir, server_url) = (config.state_dir.clone(), config.server_url.clone());
    PkiConfig { state_dir, names, server_url, life_s: config.certificate_life_s }
}

fn api(store: Arc<dyn Store>, keys: Pki, live: Live, ranges: ServiceRanges, cancel: CancellationToken) -> Api {
    Api {
        store,
        auth: Authenticator::new(keys.tokens.verifier().clone()),
        turns: Mutex::new(()),
        clock: Timestamp::now,
        ranges,
        cancel,
        keys,
        live,
    }
}
