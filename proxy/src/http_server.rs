//! A small HTTP server for answers that are at hand: health, metrics, configuration. Owns listening, connections and
//! their limits; what is answered is the caller's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections served at once by one server; more wait.
const CONNECTIONS_MAX: usize = 100;
/// A peer has this long to send its request.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// Answers the path of a GET or HEAD request.
pub type Handler = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// An answer with a body of this type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// JSON.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer(status, "application/json", body.to_string())
}

/// Text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

/// Serves on a task of its own until cancelled. The listener is closed when the task ends.
pub fn serve(listener: TcpListener, handler: Handler, cancel: CancellationToken) {
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                () = cancel.cancelled() => return,
                // Out of descriptors, say: the next connection may do better.
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => { tokio::time::sleep(Duration::from_millis(100)).await; continue }
                },
            };
            let (handler, cancel) = (handler.clone(), cancel.clone());
            tokio::spawn(async move {
                let _place = place;
                let respond = service_fn(move |request: Request<Incoming>| {
                    let response = match *request.method() {
                        Method::GET | Method::HEAD => handler(request.uri().path()),
                        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n"),
                    };
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS_WITHIN)
                    .serve_connection(TokioIo::new(stream), respond);
                tokio::select! {
                    // A peer that went away is no news.
                    _ = connection => {}
                    () = cancel.cancelled() => {}
                }
            });
        }
    });
}

/// Whether a server that cannot listen is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardness {
    /// It is an error.
    Fail,
    /// It is said, and tried again until it works.
    Retry,
}

/// Listens and serves.
///
/// # Errors
/// With [`Hardness::Fail`], when the address cannot be had.
pub async fn listen(
    addr: SocketAddr,
    hardness: Hardness,
    what: &'static str,
    handler: Handler,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    match TcpListener::bind(addr).await {
        Ok(listener) => serve(listener, handler, cancel),
        Err(error) if hardness == Hardness::Fail => return Err(error),
        Err(error) => {
            tracing::warn!(%error, %addr, "cannot serve {what}, trying again every five seconds");
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(Duration::from_secs(5)) => {}
                    }
                    if let Ok(listener) = TcpListener::bind(addr).await {
                        tracing::info!(%addr, "serving {what}");
                        return serve(listener, handler, cancel);
                    }
                }
            });
        }
    }
    Ok(())
}
