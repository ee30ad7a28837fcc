//! Routes to other nodes' pod ranges, kept as the Nodes say. For nodes on the same link only: the next hop must be a
//! neighbour. A node that is not is said once; the others' routes are made all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use pintle_client::{Backoff, Cache, Client};
use pintle_net::{routes, sysctl};
use tokio_util::sync::CancellationToken;

use crate::config::ProxyError;
use crate::node;

/// Keeps the routes until cancelled, and leaves them then: pods of other nodes stay reachable over a restart. See
/// [`cleanup`].
///
/// # Errors
/// When this machine cannot forward packets.
pub async fn run(us: String, client: Client, cancel: CancellationToken) -> Result<(), ProxyError> {
    sysctl::enable_forwarding().map_err(ProxyError::Forwarding)?;
    let nodes = Cache::<Node>::builder(&client).trim(trim).start();
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        () = nodes.synced() => {}
    }
    let mut changes = nodes.subscribe();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut said = BTreeSet::new();
    loop {
        while changes.try_next().is_some() {}
        let wanted = node::routes(&us, nodes.snapshot().iter().map(AsRef::as_ref));
        let retry = match routes::sync(wanted).await {
            Ok(outcome) => {
                report(&outcome, &mut said);
                !outcome.failed.is_empty()
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the routing table, trying again");
                true
            }
        };
        if !retry {
            backoff.reset();
        }
        // A refused route is tried again later: the link to that node may come up, and nothing tells us.
        let delay = if retry { backoff.delay() } else { Duration::MAX };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = changes.next() => {}
            () = tokio::time::sleep(delay), if retry => {}
        }
    }
}

/// Removes all our routes to other nodes from the namespace of the calling thread.
///
/// # Errors
/// When the routing table cannot be read, or a route not removed.
pub async fn cleanup() -> Result<(), ProxyError> {
    let outcome = routes::sync(routes::NodeRoutes::new()).await.map_err(ProxyError::Routes)?;
    match outcome.failed.into_iter().next() {
        Some((_, error)) => Err(ProxyError::Routes(error)),
        None => Ok(()),
    }
}

fn report(outcome: &routes::Outcome, said: &mut BTreeSet<String>) {
    for change in &outcome.done {
        tracing::info!(?change, "node route");
    }
    let mut now = BTreeSet::new();
    for (_, error) in &outcome.failed {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}");
        if !said.contains(&text) {
            tracing::warn!(%error, cause, "a node's pods are unreachable from here; is it on the same link?");
        }
        now.insert(text);
    }
    for routes::Taken(range) in &outcome.taken {
        let text = format!("taken {range}");
        if !said.contains(&text) {
            tracing::warn!(%range, "somebody else has a route to a node's pod range; it is left alone");
        }
        now.insert(text);
    }
    *said = now;
}

fn trim(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.conditions = None;
        status.node_info = None;
    }
}
