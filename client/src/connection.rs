//! One multiplexed HTTP/2 connection, dialled when needed and again when it broke; HTTP/1.1 where the server has no
//! HTTP/2.
//!
//! Does not own: which request is safe to repeat (see `request.rs`); it only says when a request never left.

use crate::{Config, Error, Kubeconfig, tls};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, ServerName};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// A dead peer that sends no FIN is noticed after twice this, while any request or watch is open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Limit for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle HTTP/1.1 connections kept.
const HTTP1_IDLE_MAX: usize = 4;
/// A watch event larger than this waits for the reader; small enough that a hundred streams cost little.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connected byte stream and what to speak on it.
pub struct Wire {
    /// The stream.
    pub io: Box<dyn Io>,
    /// HTTP/2 with prior knowledge, else HTTP/1.1.
    pub http2: bool,
}

/// Opens a new stream to the API server.
pub type Dial = dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>> + Send + Sync;

type Body = Full<Bytes>;

/// Where an API server is and the connections to it.
pub(crate) struct Endpoint {
    dial: Box<Dial>,
    /// `https://host:port`, without a path.
    pub(crate) base: String,
    pub(crate) pinned: Arc<OnceLock<CertificateDer<'static>>>,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    http2: Option<http2::SendRequest<Body>>,
    http1: Vec<http1::SendRequest<Body>>,
}

/// The right to send one request.
pub(crate) enum Sender {
    Http2(http2::SendRequest<Body>),
    Http1(http1::SendRequest<Body>),
}

/// A request that failed, and the request itself when it certainly never left.
pub(crate) struct SendFailure {
    pub(crate) source: hyper::Error,
    pub(crate) unsent: Option<Request<Body>>,
}

impl Sender {
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendFailure> {
        let failure = |mut e: hyper::client::conn::TrySendError<Request<Body>>| SendFailure {
            unsent: e.take_message(),
            source: e.into_error(),
        };
        match self {
            Sender::Http2(s) => s.try_send_request(request).await.map_err(failure),
            Sender::Http1(s) => s.try_send_request(request_http1(request)).await.map_err(failure),
        }
    }
}

/// HTTP/1.1 wants the path alone as target and the authority in `Host`.
fn request_http1(mut request: Request<Body>) -> Request<Body> {
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(http::header::HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    request
}

impl Endpoint {
    /// An endpoint over TCP and TLS.
    pub(crate) fn tls(config: &Config) -> Result<Self, Error> {
        let place = Place::of(config)?;
        let base = place.base.clone();
        let tls = tls::client_config(config)?;
        let connector = TlsConnector::from(tls.config);
        let dial = move || -> Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>> {
            Box::pin(dial_tls(place.clone(), connector.clone()))
        };
        Ok(Self::new(Box::new(dial), base, tls.pinned))
    }

    /// As [`Endpoint::tls`], with the certificates that `kubeconfig` holds when a connection is made: whoever renews
    /// them there need not tell us. `config` is what the file holds now.
    pub(crate) fn following(config: &Config, kubeconfig: PathBuf) -> Result<Self, Error> {
        let place = Place::of(config)?;
        let base = place.base.clone();
        let first = TlsConnector::from(tls::client_config(config)?.config);
        let dial = move || -> Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>> {
            let read = Kubeconfig::read(&kubeconfig).and_then(|file| file.config(&kubeconfig));
            let connector = match read.and_then(|config| tls::client_config(&config)) {
                Ok(tls) => TlsConnector::from(tls.config),
                Err(error) => {
                    tracing::warn!(path = %kubeconfig.display(), %error, "going on with what was read at the start");
                    first.clone()
                }
            };
            Box::pin(dial_tls(place.clone(), connector))
        };
        Ok(Self::new(Box::new(dial), base, Arc::default()))
    }

    /// An endpoint over any stream.
    pub(crate) fn custom(dial: Box<Dial>) -> Self {
        Self::new(dial, "https://localhost".to_owned(), Arc::default())
    }

    fn new(dial: Box<Dial>, base: String, pinned: Arc<OnceLock<CertificateDer<'static>>>) -> Self {
        Self { dial, base, pinned, pool: Mutex::default() }
    }

    /// A sender on a live connection; connects if there is none. Concurrent callers wait for one attempt.
    pub(crate) async fn checkout(&self) -> Result<Sender, Error> {
        let mut pool = self.pool.lock().await;
        match &pool.http2 {
            Some(sender) if !sender.is_closed() => return Ok(Sender::Http2(sender.clone())),
            _ => pool.http2 = None,
        }
        while let Some(sender) = pool.http1.pop() {
            if !sender.is_closed() && sender.is_ready() {
                return Ok(Sender::Http1(sender));
            }
        }
        let failed = |source| Error::Connect { server: self.base.clone(), source };
        let wire = tokio::time::timeout(CONNECT_TIMEOUT, (self.dial)())
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within 10 s")))
            .map_err(failed)?;
        if wire.http2 {
            let sender = handshake_http2(wire.io).await.map_err(|e| failed(io::Error::other(e)))?;
            pool.http2 = Some(sender.clone());
            return Ok(Sender::Http2(sender));
        }
        drop(pool);
        let (sender, connection) =
            http1::handshake(TokioIo::new(wire.io)).await.map_err(|e| failed(io::Error::other(e)))?;
        tokio::spawn(drive(connection));
        Ok(Sender::Http1(sender))
    }

    /// Returns a sender after its answer was read to the end; only HTTP/1.1 has something to return.
    pub(crate) async fn checkin(&self, sender: Sender) {
        if let Sender::Http1(mut sender) = sender
            && sender.ready().await.is_ok()
        {
            let mut pool = self.pool.lock().await;
            if pool.http1.len() < HTTP1_IDLE_MAX {
                pool.http1.push(sender);
            }
        }
    }
}

/// Where a server listens, and what its certificate must say.
#[derive(Clone)]
struct Place {
    host: String,
    port: u16,
    name: ServerName<'static>,
    base: String,
}

impl Place {
    fn of(config: &Config) -> Result<Self, Error> {
        let bad = |why: &str| Error::Config { what: format!("server {:?}", config.server), why: why.to_owned() };
        let uri: Uri = config.server.parse().map_err(|_| bad("not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("only https:// is spoken"));
        }
        let authority = uri.authority().ok_or_else(|| bad("no host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| bad("not a host name or address"))?;
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), name, base: format!("https://{authority}") })
    }
}

async fn dial_tls(place: Place, connector: TlsConnector) -> io::Result<Wire> {
    let tcp = TcpStream::connect((place.host.as_str(), place.port)).await?;
    tcp.set_nodelay(true)?;
    let tls = connector.connect(place.name, tcp).await?;
    let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Wire { io: Box::new(tls), http2 })
}

async fn handshake_http2(io: Box<dyn Io>) -> Result<http2::SendRequest<Body>, hyper::Error> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(8 * STREAM_WINDOW_BYTES)
        .handshake(TokioIo::new(io))
        .await?;
    tokio::spawn(drive(connection));
    Ok(sender)
}

/// Runs a connection until it ends; the requests on it see the error themselves. It ends by itself when the last
/// sender and the last answer are dropped.
async fn drive(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(e) = connection.await {
        tracing::debug!(error = %e, "connection to the API server ended");
    }
}
