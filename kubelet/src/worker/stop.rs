//! Ending one container: preStop, stop signal, patience, SIGKILL. Its exit is told by the supervisor, not from here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use nix::sys::signal::Signal;
use pintle_shim::Call;
use tokio_util::sync::CancellationToken;

use super::hooks;
use crate::context::Context;
use crate::error::chain;
use crate::shim::Shim;

/// What is left for the stop signal after a preStop hook that used up the whole grace.
const AFTER_HOOK_S: u64 = 2;

/// What is to be ended.
pub(super) struct Order {
    pub(super) ctx: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    pub(super) id: String,
    /// The image's stop signal; empty is SIGTERM.
    pub(super) signal: String,
    pub(super) deadline: Timestamp,
    /// Whether the preStop hook is still to run.
    pub(super) hook: bool,
    pub(super) shim: Shim,
    pub(super) ips: Vec<String>,
    pub(super) exited: CancellationToken,
}

/// Ends the container; returns when it has ended.
pub(super) async fn run(order: Order) {
    let deadline = order.deadline;
    let hook = order.container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()).filter(|_| order.hook);
    let mut least = Duration::ZERO;
    if let Some(hook) = hook {
        let target = hooks::Target::of(&order.ctx, &order.pod, &order.container, &order.id, &order.ips);
        let outcome = tokio::select! {
            outcome = hooks::run(&target, hook, Some(until(deadline))) => outcome,
            () = order.exited.cancelled() => return,
        };
        if let Err(e) = outcome {
            let message = format!("PreStopHook failed: {}", chain(&e));
            order.ctx.event(&order.pod, Some(&order.container), "FailedPreStopHook", message);
        }
        least = Duration::from_secs(AFTER_HOOK_S);
    }
    send(&order, stop_signal(&order.container, &order.signal), false).await;
    let patience = until(deadline).max(least);
    if tokio::time::timeout(patience, order.exited.cancelled()).await.is_ok() {
        return;
    }
    send(&order, Signal::SIGKILL as i32, true).await;
    order.exited.cancelled().await;
}

async fn send(order: &Order, signal: i32, all: bool) {
    let call = Call::Kill { container: order.id.clone(), signal, all };
    if let Err(e) = order.shim.call(call).await {
        // It may just have ended; if not, the supervisor is gone and the pod's task learns that too.
        tracing::debug!(container = order.id, error = chain(&e), "cannot signal a container");
    }
}

fn until(deadline: Timestamp) -> Duration {
    Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default()
}

fn stop_signal(container: &Container, of_image: &str) -> i32 {
    let own = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let word = own.unwrap_or(of_image).trim();
    let number = word.parse::<i32>().ok();
    let name = if word.starts_with("SIG") { word.to_owned() } else { format!("SIG{word}") };
    number.or_else(|| name.parse::<Signal>().ok().map(|s| s as i32)).unwrap_or(Signal::SIGTERM as i32)
}
