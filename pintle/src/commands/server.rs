//! `pintle server`: the control plane in one process.

use super::apiserver;
use crate::daemon::{self, Together};
use crate::failure::Code;
use crate::flags::{Api, Cluster, Dirs};
use anyhow::{Context as _, Result};
use clap::Args;
use pintle_client::{Client, Identity, Wire};
use pintle_control::apiserver::Handle;
use pintle_control::controllers;
use tokio_util::sync::CancellationToken;

/// Run the control plane: API server, scheduler and controllers
///
/// Makes keys, the store and the administrator's kubeconfig below the state directory if they are not there. Machines
/// join with `pintle agent` and the token in <state-dir>/server/token, or one from `pintle token create`.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub dirs: Dirs,
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub api: Api,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        daemon::run(|stop| self.serve(stop))?;
        Ok(Code::Done)
    }

    async fn serve(self, stop: CancellationToken) -> Result<()> {
        // The API server goes last: controllers finish their writes first.
        let api_stop = CancellationToken::new();
        let config = apiserver::config(&self.dirs, &self.api, &self.cluster)?;
        let handle = pintle_control::apiserver::start(config, api_stop.clone())
            .await
            .context("the API server does not start")?;
        let mut together = Together::new(stop.clone());
        let controllers = in_process(&handle, "system:kube-controller-manager")?;
        let scheduler = in_process(&handle, "system:kube-scheduler")?;
        let mut settings = controllers::Config::new(self.dirs.server().join("pki"));
        settings.cluster_cidr.clone_from(&self.cluster.cluster_cidr);
        let control = controllers::run_with_scheduler(settings, controllers, scheduler, stop);
        together.add("controllers and scheduler", async { Ok(control.await?) });
        daemon::ready();
        let result = together.finish().await;
        api_stop.cancel();
        handle.stopped().await;
        result
    }
}

/// A client of the API server in this process, as one of the control plane's own users.
fn in_process(handle: &Handle, user: &'static str) -> Result<Client> {
    let handle = handle.clone();
    let dial = Box::new(move || -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Wire>> + Send>> {
        let stream = handle.local_client_stream(user, &[]);
        Box::pin(async { Ok(Wire { io: Box::new(stream), http2: true }) })
    });
    Ok(Client::over(dial, Identity::None, user)?)
}
