//! `pintle proxy`: the proxy of a node alone, a drop-in for kube-proxy.

mod connect_time;
mod explain;
mod flags;

use crate::daemon::{self, Together};
use crate::failure::Code;
use crate::flags::{Cluster, ConnectTime, Dirs, Node};
use crate::logging::{Format, Settings, USUAL};
use anyhow::{Context as _, Result};
use clap::Args;
use connect_time::ConnectTimeFlags;
use flags::KubeFlags;
use pintle_client::Client;
use pintle_net::Cidr;
use pintle_proxy::connect_time::Options;
use pintle_proxy::{KubeProxyConfiguration, LogFormat, ProxyConfig, node_routes};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Run the proxy of a node alone, in place of kube-proxy: its flags, its configuration file, its metrics
///
/// Works with any API server. Without --config and --cluster-cidr no pod can be told from others, as with kube-proxy.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    kube: KubeFlags,
    /// Addresses of pods, of the whole cluster
    #[arg(long, value_name = "CIDR", global = true)]
    cluster_cidr: Option<String>,
    /// Addresses of Services: those that nobody has are dropped instead of routed
    #[arg(long, value_delimiter = ',', value_name = "CIDR", global = true)]
    service_cidr: Vec<String>,
    /// Whom to speak to, and as whom [default: the file's, else <state-dir>/agent/proxy.kubeconfig]
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Also keep routes to the pod ranges of other nodes, which must be on the same link
    #[arg(long)]
    node_routes: bool,
    /// Give packets of pods that leave the cluster this node's address
    #[arg(long)]
    egress_masquerade: bool,
    /// The API server, https://host:port, instead of the one that the kubeconfig names
    #[arg(long, value_name = "URL", global = true)]
    master: Option<String>,
    #[command(flatten)]
    connect_time: ConnectTimeFlags,
    /// Do what needs all of root's rights, and end: afterwards CAP_NET_ADMIN is enough
    #[arg(long)]
    init_only: bool,
    /// Remove everything the proxy installed, in whatever mode, and end
    #[arg(long)]
    cleanup: bool,
    #[command(subcommand)]
    explain: Option<explain::Explain>,
}

impl Arguments {
    /// How it logs: as the flags say, or else its configuration.
    pub fn logging(&self, verbosity: Option<u32>) -> Settings {
        // What is wrong with a configuration is said once it is used.
        let Ok(kube) = self.kube.configuration() else {
            return Settings { verbosity: verbosity.unwrap_or(USUAL), format: Format::Text };
        };
        let format = match kube.logging.format(&kube.feature_gates) {
            Ok(LogFormat::Json) => Format::Json,
            Ok(LogFormat::Text) | Err(_) => Format::Text,
        };
        // Zero is what files have that say nothing of it.
        let from_file = Some(kube.logging.verbosity).filter(|v| *v > 0);
        Settings { verbosity: verbosity.or(from_file).unwrap_or(USUAL), format }
    }

    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        if self.cleanup {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(cleanup())?;
            return Ok(Code::Done);
        }
        let mut kube = self.kube.configuration()?;
        if let Some(ranges) = &self.cluster_cidr {
            kube.cluster_cidr.clone_from(ranges);
        }
        if let Some(path) = &self.kube.write_config_to {
            let text = serde_yaml_ng::to_string(&kube)?;
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
            return Ok(Code::Done);
        }
        let name = match kube.hostname_override.as_str() {
            "" => Node::host_name()?,
            name => name.trim().to_lowercase(),
        };
        let kubeconfig = self.kubeconfig(&kube);
        let mut config = ProxyConfig::from_kube(&name, cidrs("service-cidr", &self.service_cidr)?, kube)?;
        if self.egress_masquerade {
            config = config.with_egress_masquerade();
        }
        config.connect_time = self.connect_time.options();
        let connection = config.kube.client_connection.clone();
        let client = || -> Result<Client> {
            let client = Client::from_kubeconfig_at(&kubeconfig, self.master.as_deref())?;
            // Less than nothing was refused before.
            Ok(client.paced(connection.qps, u32::try_from(connection.burst).unwrap_or(1)))
        };
        if let Some(explain) = &self.explain {
            explain.run(&config, client)?;
            return Ok(Code::Done);
        }
        if self.init_only {
            pintle_proxy::initialise(&config)?;
            return Ok(Code::Done);
        }
        let client = client()?;
        let routes = self.node_routes.then_some(name);
        daemon::run(|stop| async move {
            daemon::ready();
            serve(config, routes, client, stop).await
        })?;
        Ok(Code::Done)
    }

    fn kubeconfig(&self, kube: &KubeProxyConfiguration) -> PathBuf {
        match (&self.kubeconfig, kube.client_connection.kubeconfig.as_str()) {
            (Some(path), _) => path.clone(),
            (None, "") => self.dirs.agent().join("proxy.kubeconfig"),
            (None, path) => path.into(),
        }
    }
}

fn cidrs(flag: &str, texts: &[String]) -> Result<Vec<Cidr>> {
    texts.iter().map(|text| text.parse::<Cidr>().with_context(|| format!("--{flag} {text:?}"))).collect()
}

/// The proxy's configuration of a node made by pintle, whose kubelet makes its pods' cgroups below `cgroup_root`.
pub fn config(cluster: &Cluster, node: &str, when: &ConnectTime, cgroup_root: &str) -> Result<ProxyConfig> {
    let list = |text: &str| text.split(',').map(|t| t.trim().to_owned()).collect::<Vec<_>>();
    let pods = cidrs("cluster-cidr", &list(&cluster.cluster_cidr))?;
    let services = cidrs("service-cidr", &list(&cluster.service_cidr))?;
    let mut config = ProxyConfig::new(node, pods, services);
    let pods = PathBuf::from(cgroup_root.trim_matches('/')).join("kubepods");
    config.connect_time = Options { wanted: when.wanted(), cgroup: None, pods: vec![pods] };
    Ok(config)
}

/// Runs the proxy, and the node routes of the node with this name, until `stop`.
pub async fn serve(
    config: ProxyConfig,
    routes_of: Option<String>,
    client: Client,
    stop: CancellationToken,
) -> Result<()> {
    let mut together = Together::new(stop.clone());
    if let Some(node) = routes_of {
        let routes = node_routes::run(node, client.clone(), stop.clone());
        together.add("node routes", async { Ok(routes.await?) });
    }
    together.add("rules of Services", async { Ok(pintle_proxy::run(config, client, stop).await?) });
    together.finish().await
}

/// Removes rules and routes from the namespace of the caller.
pub async fn cleanup() -> Result<()> {
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).context("cannot remove the Services' rules")?;
    node_routes::cleanup().await.context("cannot remove the routes to other nodes")
}
