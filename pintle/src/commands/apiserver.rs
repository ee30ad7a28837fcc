//! `pintle apiserver`: the API server alone.

use crate::daemon;
use crate::failure::Code;
use crate::flags::{self, Api, Cluster, Dirs};
use anyhow::{Context as _, Result};
use clap::Args;
use pintle_control::apiserver::{ApiServerConfig, LEAF_LIFE_S, ServiceRanges};
use std::net::{IpAddr, SocketAddr};

/// Run the API server alone
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    dirs: Dirs,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    api: Api,
}

impl Arguments {
    /// Runs it until SIGTERM.
    pub fn run(self) -> Result<Code> {
        let config = config(&self.dirs, &self.api, &self.cluster)?;
        daemon::run(|stop| async move {
            let handle = pintle_control::apiserver::start(config, stop.clone())
                .await
                .context("the API server does not start")?;
            daemon::ready();
            stop.cancelled().await;
            handle.stopped().await;
            Ok(())
        })?;
        Ok(Code::Done)
    }
}

/// The API server's configuration of these flags.
pub fn config(dirs: &Dirs, api: &Api, cluster: &Cluster) -> Result<ApiServerConfig> {
    let port = api.https_listen_port;
    let listen = SocketAddr::new(api.bind_address, port);
    let advertise = api.advertise_address.unwrap_or_else(|| match api.bind_address {
        any if any.is_unspecified() => flags::own_address(),
        one => one,
    });
    let host = match advertise {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let ranges = ServiceRanges::parse(&cluster.service_cidr, &api.service_node_port_range)?;
    Ok(ApiServerConfig {
        state_dir: dirs.state_dir.clone(),
        listen: vec![listen],
        server_url: format!("https://{host}:{port}"),
        names: api.tls_san.clone(),
        advertise: Some(SocketAddr::new(advertise, port)),
        ranges,
        certificate_life_s: LEAF_LIFE_S,
    })
}
