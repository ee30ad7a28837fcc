//! New connections to the last of many Services, in turns with direct ones to its first endpoint on a node that has no
//! rules at all.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use pintle_proxy::backend::Backend;
use pintle_proxy::connect_time::{Options, Wanted, beside};
use pintle_proxy_cases::synthetic::{service, slice};
use pintle_proxy_plan::Change;
use pintle_testkit::{Cgroup, MountNs};
use serde_json::{Value, json};

use super::lab::{Lab, Until};
use super::peers::{self, Peer};
use super::{library, percentile};

/// Whose rules are in the way.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum System {
    /// Nobody's: connection tracking, which a rule that asks for states switches on, and no translation
    Tracking,
    /// One rule, which translates one address
    OneRule,
    /// Ours
    Pintle,
    /// Ours, and the Service came a moment ago
    Fresh,
    /// Ours, with connect time beside it
    ConnectTime,
    /// kube-proxy's nftables layout up to 1.35
    Nft,
    /// The one from 1.36 on
    NftMaps,
    /// kube-proxy's iptables layout
    Iptables,
    /// No rules: our mode userspace
    Userspace,
}

impl System {
    /// All of them, the floors first.
    pub const ALL: [Self; 9] = [
        Self::Tracking,
        Self::OneRule,
        Self::Pintle,
        Self::Fresh,
        Self::ConnectTime,
        Self::Nft,
        Self::NftMaps,
        Self::Iptables,
        Self::Userspace,
    ];

    /// Whose layout of rules it is, if it is a peer's.
    pub fn peer(self) -> Option<Peer> {
        match self {
            Self::Tracking | Self::OneRule | Self::Pintle | Self::Fresh | Self::ConnectTime | Self::Userspace => None,
            Self::Nft => Some(Peer::Nft),
            Self::NftMaps => Some(Peer::NftMaps),
            Self::Iptables => Some(Peer::Iptables),
        }
    }

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tracking => "tracking",
            Self::OneRule => "one-rule",
            Self::Pintle => "pintle",
            Self::Fresh => "fresh",
            Self::ConnectTime => "connect-time",
            Self::Nft => Peer::Nft.word(),
            Self::NftMaps => Peer::NftMaps.word(),
            Self::Iptables => Peer::Iptables.word(),
            Self::Userspace => "userspace",
        }
    }

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracking => "floor: connection tracking, nothing translated",
            Self::OneRule => "floor: one rule that translates",
            Self::Pintle => "pintle",
            Self::Fresh => "pintle, to a Service not yet settled",
            Self::ConnectTime => "pintle at connect time",
            Self::Nft => Peer::Nft.name(),
            Self::NftMaps => Peer::NftMaps.name(),
            Self::Iptables => Peer::Iptables.name(),
            Self::Userspace => "pintle, mode userspace, until the server's first byte",
        }
    }

    /// A forwarder takes a connection before a server has: it is timed until that one speaks.
    fn until(self) -> Until {
        if matches!(self, Self::Userspace) { Until::Answered } else { Until::Connected }
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
    let vip: IpAddr = service(last).spec.and_then(|s| s.cluster_ip).context("an address")?.parse()?;
    let pods = slice(last, 1, 0).endpoints.into_iter().flatten();
    let pod: IpAddr = pods.flat_map(|e| e.addresses).next().context("an endpoint")?.parse()?;
    let (vip, pod) = (SocketAddr::new(vip, 80), SocketAddr::new(pod, 8080));
    // As many threads as the product has, in the namespace of the node with rules.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _within = runtime.enter();
    // Whoever installed the rules stays until the connections are made, and the cgroup as long as what is attached to it.
    let cgroup = Cgroup::enter();
    let _backend: Option<Box<dyn Backend>> = match system {
        System::Tracking => floor("ct state new accept").map(|()| None)?,
        System::OneRule => floor(&format!("ip daddr {} tcp dport 80 dnat to {pod}", vip.ip())).map(|()| None)?,
        System::Pintle | System::ConnectTime => {
            let wanted = if matches!(system, System::ConnectTime) { Wanted::On } else { Wanted::Off };
            let options = Options { wanted, cgroup: Some(cgroup.dir().to_owned()), pods: Vec::new() };
            let mut backend = beside(Box::new(library::backend()?), &options, true)?;
            library::load(backend.as_mut(), services, endpoints)?;
            Some(backend)
        }
        System::Fresh => {
            let mut backend = library::backend()?;
            library::load(&mut backend, last, endpoints)?;
            library::one(&mut backend, &[Change::Service(&service(last)), Change::Slice(&slice(last, endpoints, 0))])?;
            Some(Box::new(backend) as Box<dyn Backend>)
        }
        System::Userspace => {
            let mut backend = library::userspace_backend()?;
            library::load(&mut backend, services, endpoints)?;
            Some(Box::new(backend) as Box<dyn Backend>)
        }
        System::Nft => peers::load(Peer::Nft, services, endpoints).map(|_| None)?,
        System::NftMaps => peers::load(Peer::NftMaps, services, endpoints).map(|_| None)?,
        System::Iptables => peers::load(Peer::Iptables, services, endpoints).map(|_| None)?,
    };
    let to = if matches!(system, System::Tracking) { pod } else { vip };
    let (mut through, mut direct) = (Turns::default(), Turns::default());
    for turn in 0..=connections / TURN {
        for (lab, to, turns) in [(&bare, pod, &mut direct), (&ruled, to, &mut through)] {
            lab.enter();
            let begin = Instant::now();
            let mut took = lab.connect(to, TURN, system.until())?;
            // The first turn warms up.
            if turn > 0 {
                turns.per_second.push(f64::from(TURN) / begin.elapsed().as_secs_f64());
                turns.medians_us.push(percentile(&mut took, 0.5));
                turns.took_us.extend(took);
            }
        }
    }
    Ok(json!({
        "p50_us": percentile(&mut through.took_us, 0.5),
        "p99_us": percentile(&mut through.took_us, 0.99),
        "quiet_us": percentile(&mut through.medians_us, 0.0),
        "per_second": percentile(&mut through.per_second, 0.5),
        "direct_p50_us": percentile(&mut direct.took_us, 0.5),
        "direct_p99_us": percentile(&mut direct.took_us, 0.99),
        "direct_quiet_us": percentile(&mut direct.medians_us, 0.0),
        "direct_per_second": percentile(&mut direct.per_second, 0.5),
    }))
}

/// What was measured.
#[derive(Default)]
struct Turns {
    took_us: Vec<f64>,
    /// Of each turn; the lowest is that of a machine that did nothing else.
    medians_us: Vec<f64>,
    /// Of each turn, one connection after the other, resets and sockets counted.
    per_second: Vec<f64>,
}

/// The least that can be in the way.
fn floor(rule: &str) -> Result<()> {
    let table =
        format!("table ip floor {{\n chain c {{\n type nat hook prerouting priority dstnat;\n {rule}\n }}\n}}\n");
    peers::run(&["nft", "-f", "-"], &table)
}
