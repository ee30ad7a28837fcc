//! `/healthz` and `/livez`, as load balancers and probes of kube-proxy expect them: 200 while what was asked for gets
//! installed, 503 when something has waited for longer than two minutes. `/healthz` is 503 too when the Node is being
//! deleted, so that load balancers take it out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::ProxyError;

/// How long a change may wait to be installed.
const STALE_AFTER: Duration = Duration::from_secs(120);

/// What the endpoints answer from.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default, Clone)]
struct State {
    /// Since when something has been waiting to be installed.
    waiting_since: Option<Instant>,
    installed_at: Option<Timestamp>,
    leaving: bool,
}

impl Health {
    /// Something is waiting to be installed.
    pub fn queued(&self, now: Instant) {
        self.with(|s| s.waiting_since = s.waiting_since.or(Some(now)));
    }

    /// Everything is installed.
    pub fn installed(&self) {
        self.with(|s| {
            s.waiting_since = None;
            s.installed_at = Some(Timestamp::now());
        });
    }

    /// Whether our Node is being deleted.
    pub fn leaving(&self, leaving: bool) {
        self.with(|s| s.leaving = leaving);
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until cancelled, on a task of its own.
pub async fn serve(addr: SocketAddr, health: Arc<Health>, cancel: CancellationToken) -> Result<(), ProxyError> {
    let listener = TcpListener::bind(addr).await.map_err(|source| ProxyError::Health { addr, source })?;
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                () = cancel.cancelled() => return,
                // Out of descriptors, say: the next connection may do better.
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => { tokio::time::sleep(Duration::from_millis(100)).await; continue }
                },
            };
            let (health, cancel) = (health.clone(), cancel.clone());
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let response = respond(&request, &health.state(), Instant::now());
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::select! {
                    // A peer that went away is no news.
                    _ = connection => {}
                    () = cancel.cancelled() => {}
                }
            });
        }
    });
    Ok(())
}

fn respond(request: &Request<Incoming>, state: &State, now: Instant) -> Response<Full<Bytes>> {
    answer(request.uri().path(), state, now)
}

fn answer(path: &str, state: &State, now: Instant) -> Response<Full<Bytes>> {
    let fresh = state.waiting_since.is_none_or(|since| now.duration_since(since) < STALE_AFTER);
    let healthy = match path {
        "/healthz" => fresh && !state.leaving,
        "/livez" => fresh,
        _ => return response(StatusCode::NOT_FOUND, "{}".to_owned()),
    };
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "lastUpdated": state.installed_at.map(|t| t.to_string()).unwrap_or_default(),
        "currentTime": Timestamp::now().to_string(),
        "nodeEligible": !state.leaving,
    });
    response(status, body.to_string())
}

fn response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_what_waits_and_whether_the_node_leaves() {
        let now = Instant::now() + STALE_AFTER * 2;
        let waiting = |since| State { waiting_since: since, ..State::default() };
        let leaving = State { leaving: true, ..State::default() };
        for (name, path, state, status) in [
            ("nothing waits", "/healthz", State::default(), 200),
            ("something just came", "/healthz", waiting(Some(now)), 200),
            ("something waits too long", "/healthz", waiting(Some(now - STALE_AFTER)), 503),
            ("something waits too long", "/livez", waiting(Some(now - STALE_AFTER)), 503),
            ("the node leaves", "/healthz", leaving.clone(), 503),
            ("the node leaves", "/livez", leaving, 200),
            ("another path", "/", State::default(), 404),
        ] {
            assert_eq!(answer(path, &state, now).status().as_u16(), status, "{name}, {path}");
        }
    }
}
