//! Rules as kube-proxy lays them out, made as text and given to the programs it gives them to. Ours in wording: what is
//! reproduced is which tables, chains, sets and rules there are, and in which order a packet meets them.

mod iptables;
mod nft;
mod nft_maps;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use nix::sys::resource::{UsageWho, getrusage};
use pintle_proxy_cases::synthetic::{service, slice};
use pintle_testkit::Netns;
use serde_json::{Value, json};

use super::kernel_memory::KernelMemory;

/// A peer.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Peer {
    /// kube-proxy's nftables layout up to 1.35
    Nft,
    /// The one from 1.36 on
    NftMaps,
    /// Its iptables layout
    Iptables,
}

/// A layout of rules, as text for a program.
trait Layout {
    /// The program, with its arguments.
    fn program(&self) -> &'static [&'static str];

    /// Everything.
    fn all(&self, all: &[Serving]) -> String;

    /// Everything, over what is there.
    fn again(&self, all: &[Serving]) -> String;

    /// The last Service is new.
    fn add(&self, all: &[Serving]) -> String;

    /// One endpoint of a Service is another; `gone` was there before.
    fn change(&self, all: &[Serving], at: usize, gone: &str) -> String;
}

impl Peer {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::NftMaps => "nft-maps",
            Self::Iptables => "iptables",
        }
    }

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "kube-proxy's nftables layout up to 1.35, nft",
            Self::NftMaps => "kube-proxy's nftables layout from 1.36, nft",
            Self::Iptables => "kube-proxy's iptables layout, iptables-legacy-restore",
        }
    }

    fn layout(self) -> &'static dyn Layout {
        match self {
            Self::Nft => &nft::Table(nft::PerEndpoint),
            Self::NftMaps => &nft::Table(nft_maps::PerService),
            Self::Iptables => &iptables::Iptables,
        }
    }
}

/// What of a Service the rules need.
struct Serving {
    name: String,
    ip: String,
    endpoints: Vec<String>,
}

fn serving(n: u32, endpoints: u32, from: u32) -> Serving {
    let ip = service(n).spec.and_then(|s| s.cluster_ip).unwrap_or_default();
    let endpoints = slice(n, endpoints, from).endpoints.into_iter().flatten().flat_map(|e| e.addresses).collect();
    Serving { name: format!("{n:08X}"), ip, endpoints }
}

/// Installs so many Services in the calling thread's namespace; milliseconds.
pub fn load(peer: Peer, services: u32, endpoints: u32) -> Result<f64> {
    let all: Vec<Serving> = (0..services).map(|n| serving(n, endpoints, 0)).collect();
    give(peer, &peer.layout().all(&all))
}

/// Takes the reading.
pub fn measure(peer: Peer, services: u32, endpoints: u32) -> Result<Value> {
    let _netns = Netns::fresh();
    let layout = peer.layout();
    let mut all: Vec<Serving> = (0..services).map(|n| serving(n, endpoints, 0)).collect();
    let kernel = KernelMemory::own()?;
    let before_mb = kernel.mb()?;
    let load_ms = give(peer, &layout.all(&all))?;
    let kernel_mb = kernel.mb()? - before_mb;
    // ru_maxrss is in KiB on Linux.
    let peak_mb = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as f64 * 1024.0 / 1e6;
    let again_ms = give(peer, &layout.again(&all))?;
    all.push(serving(services, endpoints, 0));
    let add_ms = give(peer, &layout.add(&all))?;
    let at = all.len() / 2;
    let gone = all[at].endpoints[0].clone();
    all[at] = serving(u32::try_from(at)?, endpoints, 1);
    let change_ms = give(peer, &layout.change(&all, at, &gone))?;
    Ok(json!({
        "load_ms": load_ms, "again_ms": again_ms, "add_ms": add_ms, "change_ms": change_ms, "peak_mb": peak_mb,
        "kernel_mb": kernel_mb,
    }))
}

fn give(peer: Peer, text: &str) -> Result<f64> {
    let begin = Instant::now();
    run(peer.layout().program(), text)?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Runs a program that reads rules.
pub fn run(program: &[&str], text: &str) -> Result<()> {
    let (program, arguments) = program.split_first().context("a program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    child.stdin.take().context("piped above")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
