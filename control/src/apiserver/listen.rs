//! Connections: TCP, TLS, HTTP. Owns: accepting and ending them. Does not own: what is asked over them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pintle_control_plan::authz::User;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::ApiServerError;
use crate::auth::Peer;
use crate::pki::{Live, Pki, subject_of};
use crate::serve::{self, Api};

/// A client that connects and then says nothing is not waited for.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A component's caches share one connection, so it carries one stream per watched kind and every request besides.
const STREAMS_MAX: u32 = 1000;
/// After an error of accept(2) such as "too many open files", which would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ApiServerError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.map_err(|source| ApiServerError::Listen { address: *address, source })?);
    }
    Ok(listeners)
}

/// TLS with our certificate; client certificates of our authority are welcome, not demanded (tokens come without).
pub(super) fn tls(keys: &Pki, live: Live) -> Result<TlsAcceptor, ApiServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(keys.authority.certificate_der()).map_err(ApiServerError::Tls)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(ApiServerError::Trust)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ApiServerError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(live));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until the server stops.
pub(super) async fn accept(api: Arc<Api>, listener: TcpListener, tls: TlsAcceptor, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = api.cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => drop(tasks.spawn(secure(api.clone(), stream, from, tls.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn secure(api: Arc<Api>, stream: TcpStream, from: SocketAddr, tls: TlsAcceptor) {
    // Small answers must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "cannot set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%from, "TLS handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let user = certificate.and_then(subject_of).map(|(name, groups)| User::authenticated(name, groups));
    connection(api, Arc::new(Peer { user }), stream).await;
}

/// Serves one connection until either side ends it.
pub(super) async fn connection<I>(api: Arc<Api>, peer: Arc<Peer>, io: I)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = {
        let api = api.clone();
        service_fn(move |request| {
            let (api, peer) = (api.clone(), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(serve::answer_to(api, peer, request).await) }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = api.cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Watches end by themselves; who still reads a list gets a moment.
            match tokio::time::timeout(Duration::from_secs(2), connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
