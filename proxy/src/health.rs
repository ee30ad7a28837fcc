//! `/healthz`, `/livez` and `/readyz`, as load balancers and probes of kube-proxy expect them: 200 while what was asked
//! for gets installed, 503 when something has waited for longer than two minutes. `/healthz` is 503 too when the Node
//! is being deleted, so that load balancers take it out. `/readyz` is 503 until everything was installed once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;

use crate::http_server::{Answer, Handler, json, text};
use crate::metrics::Metrics;

/// How long a change may wait to be installed.
const STALE_AFTER: Duration = Duration::from_secs(120);

/// What the endpoints answer from.
#[derive(Debug)]
pub struct Health {
    mode: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    /// Since when something has been waiting to be installed.
    waiting_since: Option<Instant>,
    installed_at: Option<Timestamp>,
    leaving: bool,
}

impl Health {
    /// Of a proxy in a mode that waits for nothing yet.
    pub fn new(mode: &'static str) -> Self {
        Self { mode, state: Mutex::default() }
    }

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

    /// Whether load balancers may send here at all.
    pub fn is_healthy(&self) -> bool {
        self.state().is_fresh(Instant::now())
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    fn is_fresh(&self, now: Instant) -> bool {
        self.waiting_since.is_none_or(|since| now.duration_since(since) < STALE_AFTER)
    }
}

/// The answers of the health address.
pub fn handler(health: Arc<Health>, metrics: Arc<Metrics>) -> Handler {
    Arc::new(move |path| {
        let response = respond(path, health.mode, &health.state(), Instant::now());
        let status = response.status().as_u16();
        match path {
            "/healthz" => metrics.answered("healthz", status),
            "/livez" => metrics.answered("livez", status),
            _ => {}
        }
        response
    })
}

fn respond(path: &str, mode: &str, state: &State, now: Instant) -> Answer {
    let fresh = state.is_fresh(now);
    let healthy = match path {
        "/healthz" => fresh && !state.leaving,
        "/livez" => fresh,
        "/readyz" => fresh && state.installed_at.is_some(),
        _ => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "lastUpdated": state.installed_at.map(|t| t.to_string()).unwrap_or_default(),
        "currentTime": Timestamp::now().to_string(),
        "nodeEligible": !state.leaving,
        "mode": mode,
    });
    json(status, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_what_waits_and_whether_the_node_leaves() {
        let now = Instant::now() + STALE_AFTER * 2;
        let waiting = |since| State { waiting_since: since, ..State::default() };
        let leaving = State { leaving: true, ..State::default() };
        let installed = State { installed_at: Some(Timestamp::UNIX_EPOCH), ..State::default() };
        for (name, path, state, status) in [
            ("nothing waits", "/healthz", State::default(), 200),
            ("something just came", "/healthz", waiting(Some(now)), 200),
            ("something waits too long", "/healthz", waiting(Some(now - STALE_AFTER)), 503),
            ("something waits too long", "/livez", waiting(Some(now - STALE_AFTER)), 503),
            ("the node leaves", "/healthz", leaving.clone(), 503),
            ("the node leaves", "/livez", leaving, 200),
            ("nothing was installed yet", "/readyz", State::default(), 503),
            ("everything was installed", "/readyz", installed, 200),
            ("another path", "/", State::default(), 404),
        ] {
            assert_eq!(respond(path, "nftables", &state, now).status().as_u16(), status, "{name}, {path}");
        }
    }
}
