//! What the proxy answers over HTTP: health on one address; metrics, its configuration, its mode and profiles on another.

use std::sync::Arc;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::config::{ProxyConfig, ProxyError};
use crate::health::{self, Health};
use crate::http_server::{Handler, answer, json, listen, text};
use crate::metrics::Metrics;
use crate::profiling::{self, Profiling};

/// Starts what the configuration asks for, until cancelled.
pub async fn start(
    config: &ProxyConfig,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    cancel: &CancellationToken,
) -> Result<(), ProxyError> {
    for (what, addr, handler) in [
        ("health", config.health, health::handler(health.clone(), metrics.clone())),
        ("metrics", config.metrics, metrics_handler(config, metrics.clone())),
    ] {
        let Some(addr) = addr else { continue };
        listen(addr, config.hardness, what, handler, cancel.clone()).await.map_err(|source| ProxyError::Serve {
            what,
            addr,
            source,
        })?;
    }
    Ok(())
}

fn metrics_handler(config: &ProxyConfig, metrics: Arc<Metrics>) -> Handler {
    let configz = serde_json::json!({ "kubeproxy.config.k8s.io": config.kube });
    let profiling = if config.kube.enable_profiling { Profiling::Offered } else { Profiling::Absent };
    let profile = move |path: &str| (profiling == Profiling::Offered).then(|| profiling::respond(path)).flatten();
    Arc::new(move |path| match path {
        "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render()),
        "/configz" => json(StatusCode::OK, &configz),
        "/proxyMode" => text(StatusCode::OK, metrics.mode()),
        path => profile(path).unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404 page not found\n")),
    })
}
