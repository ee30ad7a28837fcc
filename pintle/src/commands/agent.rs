//! `pintle agent`: this machine as a node.

use super::{kubelet, proxy};
use crate::daemon::{self, Together};
use crate::failure::{Code, Failure};
use crate::flags::{Cluster, ConnectTime, Dirs, Node, make_private_dir, source_address};
use crate::join::Joining;
use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as NodeObject;
use pintle_client::{Cache, Client};
use pintle_control::pki::JoinToken;
use pintle_proxy::ProxyConfig;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a question may delay the node.
const BEGIN_LIMIT: Duration = Duration::from_secs(1);

/// Join this machine to a cluster and run its node: kubelet, proxy and routes
///
/// The first time, a token proves that the machine may join and names the cluster's authority; the node then gets
/// certificates of its own, and needs the token no more.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The API server, https://host:port
    #[arg(long, env = "PINTLE_SERVER", value_name = "URL")]
    server: String,
    /// The join token
    #[arg(long, env = "PINTLE_TOKEN", value_name = "TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that holds the join token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    connect_time: ConnectTime,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        let token = self.token()?;
        daemon::run(|stop| self.serve(token, stop))?;
        Ok(Code::Done)
    }

    fn token(&self) -> Result<Option<JoinToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read the token {}", path.display()))?
            }
            (None, None) => return Ok(None),
        };
        let token = text.trim().parse::<JoinToken>().context(Failure::new(
            "the join token is malformed",
            "copy it whole: `cat /var/lib/pintle/server/token` or `pintle token create` on the server",
        ))?;
        Ok(Some(token))
    }

    async fn serve(self, token: Option<JoinToken>, stop: CancellationToken) -> Result<()> {
        let name = self.node.name()?;
        let node_ip = self.node_ip()?;
        make_private_dir(&self.dirs.agent())?;
        let joining = Joining::new(&self.dirs, &self.server, token, name.clone());
        let node = match joining.node(&stop).await {
            Err(_) if stop.is_cancelled() => return Ok(()),
            other => other?,
        };
        let since = begin(&node.client, &name).await;
        let mut together = Together::new(stop.clone());
        let kubelet = kubelet::config(&self.dirs, &self.cluster, &self.node, &name, node_ip)?;
        let (pod_lives, client) = (pintle_kubelet::run(kubelet, stop.clone()), node.client);
        together.add("kubelet", async { Ok(pod_lives.await?) });
        let rules = proxy::config(&self.cluster, &name, &self.connect_time, &self.node.cgroup_root)?;
        together.add("network", network(joining, rules, name.clone(), client.clone(), stop.clone()));
        together.add("announcement", announce(client, name, since, stop));
        together.finish().await
    }

    fn node_ip(&self) -> Result<IpAddr> {
        if let Some(ip) = self.node.node_ip {
            return Ok(ip);
        }
        let authority = self.server.strip_prefix("https://").unwrap_or(&self.server).trim_end_matches('/');
        let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:443") };
        let server = with_port.to_socket_addrs().with_context(|| format!("cannot resolve {authority}"))?.next();
        let server = server.with_context(|| format!("{authority} has no address"))?;
        source_address(server).with_context(|| format!("no route to {server}"))
    }
}

/// The proxy and the routes to other nodes, under the proxy's identity.
async fn network(
    joining: Joining,
    config: ProxyConfig,
    name: String,
    node: Client,
    stop: CancellationToken,
) -> Result<()> {
    let proxy = match joining.proxy(&node, &stop).await {
        Err(_) if stop.is_cancelled() => return Ok(()),
        other => other?,
    };
    let client = proxy.client.clone();
    let mut together = Together::new(stop.clone());
    together.add("proxy", proxy::serve(config, Some(name), client, stop.clone()));
    together.add("renewal of the proxy's certificate", proxy.keep_renewed(joining, stop));
    together.finish().await
}

/// From when on the node's Ready condition is news of ours. Times of the API are whole seconds: when the agent before us
/// told of itself in this very second, nothing would set its word apart from ours, so the second is let pass. An API
/// server that cannot be asked must not keep a node from its pods.
async fn begin(client: &Client, name: &str) -> Timestamp {
    let node = tokio::time::timeout(BEGIN_LIMIT, client.get::<NodeObject>("", name)).await;
    let told = node.ok().and_then(Result::ok).and_then(|node| ready_since(&node));
    let now = Timestamp::now();
    if told.is_some_and(|told| told.as_second() == now.as_second()) {
        let rest_ms = 1000 - now.as_millisecond().rem_euclid(1000);
        tokio::time::sleep(Duration::from_millis(rest_ms.unsigned_abs())).await;
    }
    Timestamp::now()
}

/// Says READY=1 once the API says that our node is Ready, and that since we began: an old condition may still stand.
async fn announce(client: Client, name: String, since: Timestamp, stop: CancellationToken) -> Result<()> {
    {
        let nodes = Cache::<NodeObject>::builder(&client).fields(&format!("metadata.name={name}")).start();
        let mut changes = nodes.subscribe();
        while !nodes.list().iter().any(|n| is_ready_since(n, since)) {
            tokio::select! { () = stop.cancelled() => return Ok(()), _ = changes.next() => {} }
        }
    }
    tracing::info!(node = name, "Ready");
    daemon::ready();
    stop.cancelled().await;
    Ok(())
}

fn is_ready_since(node: &NodeObject, since: Timestamp) -> bool {
    ready_since(node).is_some_and(|told| told.as_second() >= since.as_second())
}

/// When the node last said that it is Ready; `None` if it is not.
fn ready_since(node: &NodeObject) -> Option<Timestamp> {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.last_heartbeat_time.as_ref().map(|t| t.0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn node(status: &str, heartbeat: &str) -> NodeObject {
        let ready = serde_json::json!({"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat});
        let pressure = serde_json::json!({"type": "DiskPressure", "status": "True", "lastHeartbeatTime": heartbeat});
        serde_json::from_value(serde_json::json!({"metadata": {}, "status": {"conditions": [pressure, ready]}}))
            .unwrap()
    }

    #[test]
    fn only_what_the_node_said_since_it_began_counts() {
        let since: Timestamp = "2026-01-01T00:00:10.7Z".parse().unwrap();
        assert!(!is_ready_since(&node("True", "2026-01-01T00:00:09Z"), since));
        assert!(!is_ready_since(&node("False", "2026-01-01T00:00:11Z"), since));
        assert!(is_ready_since(&node("True", "2026-01-01T00:00:10Z"), since), "as coarse as the API's times");
    }
}
