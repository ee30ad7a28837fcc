//! The kubelet's own API: logs, exec, attach, what runs here. TLS; only the API server and masters get in.
//!
//! Owns: listening, certificates, who may ask, routing. Does not own: pods (`manager`), the protocol of streams
//! (`stream`).

mod auth;
mod exec;
mod forward;
mod log_file;
mod logs;
mod routes;
mod spdy;
mod stream;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::bootstrap;
use crate::context::Context;
use crate::error::{KubeletError, chain};
use crate::manager::Pods;

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Takes a port.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, KubeletError> {
    TcpListener::bind(address).await.map_err(|source| KubeletError::Listen { address, source })
}

/// `/healthz` without TLS, for the machine itself.
pub(crate) async fn health(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answer = service_fn(|request: Request<Incoming>| async move {
            let known = matches!(request.uri().path(), "/healthz" | "/livez" | "/readyz");
            let (code, body) = if known { (StatusCode::OK, "ok") } else { (StatusCode::NOT_FOUND, "not found\n") };
            Ok::<_, Infallible>(text(code, body))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// Serves the kubelet's API; waits for its certificate first and renews it.
pub(crate) async fn serve(listener: TcpListener, ctx: Arc<Context>, pods: Pods) {
    let keys = tls::Keys::default();
    let keeper = keep_certificate(ctx.clone(), keys.clone());
    let acceptor = match tls::acceptor(&ctx.config, keys) {
        Ok(acceptor) => acceptor,
        Err(e) => return tracing::error!(error = chain(&e), "cannot serve the kubelet's API"),
    };
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (acceptor, ctx, pods) = (acceptor.clone(), ctx.clone(), pods.clone());
            tokio::spawn(Box::pin(async move {
                match acceptor.accept(stream).await {
                    Ok(stream) => connection(stream, ctx, pods).await,
                    Err(e) => tracing::debug!(error = chain(&e), "TLS handshake failed"),
                }
            }));
        }
    };
    tokio::join!(keeper, accept);
}

async fn connection(stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, ctx: Arc<Context>, pods: Pods) {
    let allowed = auth::may_ask(stream.get_ref().1.peer_certificates());
    let answer = service_fn(move |request| {
        let (ctx, pods) = (ctx.clone(), pods.clone());
        async move {
            if !allowed {
                let why = "only the API server may ask the kubelet\n";
                return Ok::<_, Infallible>(text(StatusCode::FORBIDDEN, why));
            }
            Ok(Box::pin(routes::answer(request, ctx, pods)).await)
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).with_upgrades().await;
    if let Err(e) = served {
        tracing::debug!(error = chain(&e), "a connection to the kubelet's API failed");
    }
}

async fn keep_certificate(ctx: Arc<Context>, keys: tls::Keys) {
    let mut pair = bootstrap::stored_serving(&ctx.config);
    loop {
        let current = match pair.take() {
            Some(pair) => Ok(pair),
            None => bootstrap::serving(&ctx.config, &ctx.client).await,
        };
        match current {
            Ok(pair) => {
                if let Err(e) = keys.replace(&pair) {
                    tracing::error!(error = chain(&e), "cannot use the serving certificate");
                }
                let Some(at) = bootstrap::renew_at(&pair.cert_pem) else { return };
                bootstrap::sleep_until(at).await;
            }
            Err(e) => {
                tracing::warn!(error = chain(&e), "no serving certificate yet");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

/// A plain answer.
pub(super) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = code;
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, plain);
    answer
}
