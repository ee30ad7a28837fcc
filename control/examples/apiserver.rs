//! The API server alone, for trying clients against it: `apiserver STATE-DIR ADDRESS`.

use std::net::SocketAddr;

use pintle_control::apiserver::{ApiServerConfig, LEAF_LIFE_S, ServiceRanges, start};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, state_dir, address] = arguments.as_slice() else { return Err("usage: apiserver STATE-DIR ADDRESS".into()) };
    let address: SocketAddr = address.parse()?;
    let config = ApiServerConfig {
        state_dir: state_dir.into(),
        listen: vec![address],
        server_url: format!("https://{address}"),
        names: Vec::new(),
        advertise: Some(address),
        ranges: ServiceRanges::default(),
        certificate_life_s: LEAF_LIFE_S,
    };
    let cancel = CancellationToken::new();
    let handle = start(config, cancel.clone()).await?;
    println!("ready {} {}", handle.addresses[0], handle.join_token);
    tokio::signal::ctrl_c().await?;
    cancel.cancel();
    handle.stopped().await;
    Ok(())
}
