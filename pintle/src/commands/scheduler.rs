//! `pintle scheduler`: the scheduler alone.

use crate::daemon;
use crate::failure::Code;
use crate::flags::Dirs;
use anyhow::Result;
use clap::Args;
use pintle_client::Client;
use std::path::PathBuf;

/// Run the scheduler alone
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    /// Whom to speak to, and as whom [default: <state-dir>/server/scheduler.kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        let path = self.kubeconfig.unwrap_or_else(|| self.dirs.server().join("scheduler.kubeconfig"));
        let client = Client::from_kubeconfig(&path)?;
        daemon::run(|stop| async move {
            daemon::ready();
            pintle_control::scheduler::run(pintle_control::scheduler::Config::default(), client, stop).await;
            Ok(())
        })?;
        Ok(Code::Done)
    }
}
