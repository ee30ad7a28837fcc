//! The scheduler as a process of its own: the driver of `controllers` with one loop.
//!
//! Does not own a decision: filters, scores and the order of pods are in `control/plan/src/scheduler`.

use pintle_client::Client;
use tokio_util::sync::CancellationToken;

/// Settings of the scheduler; none yet that an administrator would change.
#[derive(Debug, Clone, Default)]
pub struct Config {}

/// Runs the scheduler until cancelled. Bindings that are under way are finished first.
pub async fn run(_config: Config, client: Client, cancel: CancellationToken) {
    let loops = vec![(pintle_control_plan::scheduler::SCHEDULER, client.clone())];
    crate::controllers::run_only(loops, &client, cancel).await;
}
