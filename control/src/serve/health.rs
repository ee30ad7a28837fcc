//! Health, version and metrics. Owns: their paths and texts.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::json;

use super::Api;
use super::answer::{Answer, json, text};
use super::query::Query;

/// The version of the API that is served (k8s-openapi's).
pub const MAJOR: &str = "1";
/// See [`MAJOR`].
pub const MINOR: &str = "37";

/// Answers if the path is one of these.
pub fn answer(api: &Api, path: &str, query: &Query) -> Option<Answer> {
    match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => Some(health(path, query.flag("verbose"))),
        "/healthz/ping" | "/livez/ping" | "/readyz/ping" => Some(text(StatusCode::OK, "ok")),
        "/version" => Some(version()),
        "/metrics" => Some(metrics(api)),
        _ => None,
    }
}

/// The server answers, and it answers only after the store is open and the first objects exist: that is its health.
fn health(path: &str, verbose: bool) -> Answer {
    if !verbose {
        return text(StatusCode::OK, "ok");
    }
    let name = path.trim_matches('/');
    text(StatusCode::OK, format!("[+]ping ok\n[+]store ok\n[+]bootstrap ok\n{name} check passed\n"))
}

fn version() -> Answer {
    json(
        StatusCode::OK,
        &json!({
            "major": MAJOR, "minor": MINOR,
            "gitVersion": format!("v{MAJOR}.{MINOR}.0+pintle{}", env!("CARGO_PKG_VERSION")),
            "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "rust", "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
        }),
    )
}

/// The architecture under the name Kubernetes uses.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn metrics(api: &Api) -> Answer {
    let mut out = String::new();
    for (name, help, value) in [
        ("pintle_store_revision", "Newest revision of the store.", api.store.revision().0),
        ("pintle_store_compacted_revision", "Oldest revision that can be read.", api.store.compacted().0),
    ] {
        // Writing to a String cannot fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    text(StatusCode::OK, out)
}
