//! New connections to the last of many Services, in turns with direct ones to its first endpoint on a node that has no
//! rules at all.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use clap::ValueEnum;
use pintle_proxy_cases::synthetic::{service, slice};
use pintle_testkit::MountNs;
use serde_json::{Value, json};

use super::lab::Lab;
use super::peers::{self, Peer};
use super::{library, percentile};

/// Whose rules are in the way.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum System {
    /// Ours
    Pintle,
    /// kube-proxy's nftables layout
    Nft,
    /// kube-proxy's iptables layout
    Iptables,
}

impl System {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pintle => "pintle",
            Self::Nft => Peer::Nft.word(),
            Self::Iptables => Peer::Iptables.word(),
        }
    }

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pintle => "pintle",
            Self::Nft => Peer::Nft.name(),
            Self::Iptables => Peer::Iptables.name(),
        }
    }
}

/// Connections of one turn.
const TURN: u32 = 250;

/// Takes the reading.
pub fn measure(system: System, services: u32, endpoints: u32, connections: u32) -> Result<Value> {
    let _mounts = MountNs::private();
    let last = services - 1;
    let bare = Lab::new(last, endpoints)?;
    let ruled = Lab::new(last, endpoints)?;
    // Whoever installed the rules stays until the connections are made.
    let _backend = match system {
        System::Pintle => {
            let mut backend = library::backend()?;
            library::load(&mut backend, services, endpoints)?;
            Some(backend)
        }
        System::Nft => peers::load(Peer::Nft, services, endpoints).map(|_| None)?,
        System::Iptables => peers::load(Peer::Iptables, services, endpoints).map(|_| None)?,
    };
    let vip: IpAddr = service(last).spec.and_then(|s| s.cluster_ip).context("an address")?.parse()?;
    let pods = slice(last, 1, 0).endpoints.into_iter().flatten();
    let pod: IpAddr = pods.flat_map(|e| e.addresses).next().context("an endpoint")?.parse()?;
    let (vip, pod) = (SocketAddr::new(vip, 80), SocketAddr::new(pod, 8080));
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for turn in 0..=connections / TURN {
        bare.enter();
        let without = bare.connect(pod, TURN)?;
        ruled.enter();
        let with = ruled.connect(vip, TURN)?;
        // The first turn warms up.
        if turn > 0 {
            direct.extend(without);
            through.extend(with);
        }
    }
    Ok(json!({
        "p50_us": percentile(&mut through, 0.5),
        "p99_us": percentile(&mut through, 0.99),
        "direct_p50_us": percentile(&mut direct, 0.5),
        "direct_p99_us": percentile(&mut direct, 0.99),
    }))
}
