//! `pintle proxy`: the proxy and the routes to other nodes, alone.

use crate::daemon::{self, Together};
use crate::failure::Code;
use crate::flags::{Cluster, Dirs, Node};
use crate::notify;
use anyhow::{Context as _, Result};
use clap::Args;
use pintle_client::Client;
use pintle_net::Cidr;
use pintle_proxy::{ProxyConfig, node_routes};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Run the proxy of a node, and its routes to other nodes, alone
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    cluster: Cluster,
    /// Name of the node [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Whom to speak to, and as whom [default: <state-dir>/agent/proxy.kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Remove everything the proxy installed, and end
    #[arg(long)]
    cleanup: bool,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        if self.cleanup {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(cleanup())?;
            return Ok(Code::Done);
        }
        let name = match self.node_name {
            Some(name) => name,
            None => Node::host_name()?,
        };
        let path = self.kubeconfig.unwrap_or_else(|| self.dirs.agent().join("proxy.kubeconfig"));
        let client = Client::from_kubeconfig(&path)?;
        let config = config(&self.cluster, &name)?;
        daemon::run(|stop| async move {
            notify::send("READY=1");
            serve(config, name, client, stop).await
        })?;
        Ok(Code::Done)
    }
}

/// The proxy's configuration of these flags.
pub fn config(cluster: &Cluster, node: &str) -> Result<ProxyConfig> {
    let range = |flag: &str, text: &str| text.parse::<Cidr>().with_context(|| format!("--{flag} {text:?}"));
    let pods = range("cluster-cidr", &cluster.cluster_cidr)?;
    let services = range("service-cidr", &cluster.service_cidr)?;
    Ok(ProxyConfig::new(node, vec![pods], vec![services]))
}

/// Runs the proxy and the node routes until `stop`.
pub async fn serve(config: ProxyConfig, node: String, client: Client, stop: CancellationToken) -> Result<()> {
    let mut together = Together::new(stop.clone());
    let routes = node_routes::run(node, client.clone(), stop.clone());
    together.add("node routes", async { Ok(routes.await?) });
    together.add("rules of Services", async { Ok(pintle_proxy::run(config, client, stop).await?) });
    together.finish().await
}

/// Removes rules and routes from the namespace of the caller.
pub async fn cleanup() -> Result<()> {
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).context("cannot remove the Services' rules")?;
    node_routes::cleanup().await.context("cannot remove the routes to other nodes")
}
