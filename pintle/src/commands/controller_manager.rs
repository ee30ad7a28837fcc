//! `pintle controller-manager`: the controllers alone.

use crate::daemon;
use crate::failure::Code;
use crate::flags::{Cluster, Dirs};
use anyhow::Result;
use clap::Args;
use pintle_client::Client;
use pintle_control::controllers;
use std::path::PathBuf;

/// Run the controllers alone
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    cluster: Cluster,
    /// Whom to speak to, and as whom [default: <state-dir>/server/controller-manager.kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        let path = self.kubeconfig.unwrap_or_else(|| self.dirs.server().join("controller-manager.kubeconfig"));
        let client = Client::from_kubeconfig(&path)?;
        let mut settings = controllers::Config::new(self.dirs.server().join("pki"));
        settings.cluster_cidr = self.cluster.cluster_cidr;
        daemon::run(|stop| async move {
            daemon::ready();
            Ok(controllers::run(settings, client, stop).await?)
        })?;
        Ok(Code::Done)
    }
}
