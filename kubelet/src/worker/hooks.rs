//! Lifecycle hooks: a command, a GET, a pause.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use pintle_kubelet_plan::containers::uid;
use pintle_kubelet_plan::probe::{Check, http_check};

use super::{exec, http};
use crate::context::Context;
use crate::error::PodError;

/// How long an HTTP hook may take without a limit of its own.
const HTTP_S_MAX: u64 = 30;

/// The container a hook or a probe is about.
pub(super) struct Target {
    pub(super) ctx: Arc<Context>,
    pub(super) pod_uid: String,
    pub(super) container: Container,
    pub(super) id: String,
    pub(super) ip: Option<String>,
}

impl Target {
    pub(super) fn of(ctx: &Arc<Context>, pod: &Pod, container: &Container, id: &str, ips: &[String]) -> Target {
        Target {
            ctx: ctx.clone(),
            pod_uid: uid(pod).to_owned(),
            container: container.clone(),
            id: id.to_owned(),
            ip: ctx.facts_of(pod, ips).pod_ips.first().cloned(),
        }
    }
}

/// Runs a hook to its end, or kills it after `limit`.
pub(super) async fn run(target: &Target, hook: &LifecycleHandler, limit: Option<Duration>) -> Result<(), PodError> {
    if let Some(action) = &hook.exec {
        let command = action.command.clone().unwrap_or_default();
        let outcome =
            exec::capture(&target.ctx, &target.pod_uid, &target.container.name, &target.id, command, limit).await?;
        return match outcome.exit.code {
            0 => Ok(()),
            _ if outcome.exit.timed_out => Err(PodError::Hook("the command did not end in time".to_owned())),
            code => Err(PodError::Hook(format!("the command exited with {code}: {}", outcome.output))),
        };
    }
    if let Some(action) = &hook.http_get {
        let Check::Http { https, host, port, path, headers } = http_check(action, &target.container) else {
            return Err(PodError::Hook("the container has no such port".to_owned()));
        };
        let host = host.or_else(|| target.ip.clone()).unwrap_or_default();
        let request = http::Request { https, host, port, path, headers, agent: "kube-lifecycle/1.37" };
        let limit = limit.unwrap_or(Duration::from_secs(HTTP_S_MAX));
        return http::get(&request, limit).await.map(drop).map_err(PodError::Hook);
    }
    if let Some(action) = &hook.sleep {
        let pause = Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0));
        tokio::time::sleep(limit.map_or(pause, |l| l.min(pause))).await;
        return Ok(());
    }
    let what = if hook.tcp_socket.is_some() { "tcpSocket" } else { "a hook without a handler" };
    Err(PodError::Hook(format!("{what} is not supported: use exec, httpGet or sleep")))
}
