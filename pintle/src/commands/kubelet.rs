//! `pintle kubelet`: the kubelet alone.

use crate::check::space::find_runtime;
use crate::daemon;
use crate::failure::{Code, Failure};
use crate::flags::{self, Cluster, Dirs, Node};
use anyhow::{Context as _, Result};
use clap::Args;
use k8s_openapi::api::core::v1::Taint;
use pintle_kubelet::KubeletConfig;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Run the kubelet alone
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    node: Node,
    /// Whom to speak to, and as whom [default: <state-dir>/agent/kubelet.kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Token and authority with which to ask for a certificate when there is none yet
    #[arg(long, value_name = "FILE")]
    bootstrap_kubeconfig: Option<PathBuf>,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        let name = self.node.name()?;
        let node_ip = self.node.node_ip.unwrap_or_else(flags::own_address);
        let mut config = config(&self.dirs, &self.cluster, &self.node, &name, node_ip)?;
        if let Some(path) = self.kubeconfig {
            config.kubeconfig = path;
        }
        config.bootstrap_kubeconfig = self.bootstrap_kubeconfig.or(config.bootstrap_kubeconfig);
        daemon::run(|stop| async move {
            daemon::ready();
            Ok(pintle_kubelet::run(config, stop).await?)
        })?;
        Ok(Code::Done)
    }
}

/// The kubelet's configuration of these flags.
pub fn config(dirs: &Dirs, cluster: &Cluster, node: &Node, name: &str, node_ip: IpAddr) -> Result<KubeletConfig> {
    let runtime = match &node.runtime {
        Some(path) => path.clone(),
        None => find_runtime().context(Failure::new(
            "pintle-runc is neither next to pintle nor in PATH",
            "install it (`make install`), or name it with --runtime",
        ))?,
    };
    let mut config = KubeletConfig::new(name, node_ip, kubelet_dirs(dirs, node), &runtime);
    config.cluster_domain.clone_from(&cluster.cluster_domain);
    config.labels = labels(&node.node_labels)?;
    config.taints = node.register_with_taints.iter().map(|t| taint(t)).collect::<Result<_>>()?;
    if node.pod_manifest_path.is_some() {
        config.manifests.clone_from(&node.pod_manifest_path);
    }
    Ok(config)
}

/// Removes what the kubelet of these flags made: pods, mounts, cgroups, network namespaces, logs.
pub async fn cleanup(dirs: &Dirs, node: &Node) -> Result<()> {
    pintle_kubelet::cleanup(&kubelet_dirs(dirs, node)).await.context("cannot remove all pods")
}

fn kubelet_dirs(dirs: &Dirs, node: &Node) -> pintle_kubelet::Dirs {
    pintle_kubelet::Dirs {
        state: dirs.state_dir.clone(),
        run: dirs.run_dir.clone(),
        pod_logs: node.pod_logs_dir.clone(),
        cgroup_root: node.cgroup_root.clone(),
    }
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').with_context(|| format!("--node-labels {text:?} is not KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Result<Taint> {
    let malformed = || format!("--register-with-taints {text:?} is not KEY=VALUE:EFFECT");
    let (rest, effect) = text.rsplit_once(':').with_context(malformed)?;
    anyhow::ensure!(["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect), "{}", malformed());
    let (key, value) = rest.split_once('=').map_or((rest, None), |(k, v)| (k, Some(v.to_owned())));
    anyhow::ensure!(!key.is_empty(), "{}", malformed());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn taints_are_read_with_and_without_a_value() {
        let told = |t: &str| taint(t).map(|t| format!("{} {:?} {}", t.key, t.value, t.effect));
        assert_eq!(told("a=b:NoSchedule").unwrap(), "a Some(\"b\") NoSchedule");
        assert_eq!(told("x.io/a:NoExecute").unwrap(), "x.io/a None NoExecute");
        for bad in ["", "a", "a=b", "a:Sometimes", "=b:NoSchedule"] {
            assert!(told(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_label_without_a_value_is_refused() {
        assert!(labels(&["a".to_owned()]).is_err());
        assert_eq!(labels(&["a=".to_owned()]).unwrap()["a"], "");
    }
}
