//! `pintle-bench proxy`: the service proxy and its peers at sizes. Every reading is taken by a process of its own in a
//! network namespace of its own, so that memory is one's own and nothing is left behind.
//!
//! Peers are rules as kube-proxy lays them out, given to `nft` and to `iptables-legacy-restore`; what kube-proxy itself
//! spends before it calls them is left out, in the peers' favour.

mod api;
mod connect;
mod kernel_memory;
mod lab;
mod library;
mod peers;
mod process;
mod tables;

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;

use peers::Peer;

/// What to measure.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Numbers of Services
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000,10000")]
    services: Vec<u32>,
    /// Also 50,000 Services, without peers
    #[arg(long)]
    large: bool,
    /// Endpoints of each Service
    #[arg(long, default_value_t = 10)]
    endpoints: u32,
    /// kube-proxy's nftables layout up to 1.35 only up to so many Services: 5,000 take a minute, 10,000 three
    #[arg(long, default_value_t = 1000)]
    nft_up_to: u32,
    /// The one from 1.36 on only up to so many Services: 10,000 take a minute
    #[arg(long, default_value_t = 5000)]
    nft_maps_up_to: u32,
    /// kube-proxy's iptables layout only up to so many Services
    #[arg(long, default_value_t = 10_000)]
    iptables_up_to: u32,
    /// New connections measured for each system
    #[arg(long, default_value_t = 5_000)]
    connections: u32,
    /// Rounds of each load; the best counts for times
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(subcommand)]
    part: Option<Part>,
}

/// One reading; prints JSON. The whole is made of these.
#[derive(Subcommand, Clone, Copy, Debug)]
enum Part {
    /// Planner and kernel, without an API server
    Library { services: u32, endpoints: u32 },
    /// The whole proxy process against an API server of this program's
    Process { services: u32, endpoints: u32 },
    /// The process that `process` measures
    #[command(hide = true)]
    Daemon,
    /// Rules of a peer
    Peer { peer: Peer, services: u32, endpoints: u32 },
    /// New connections by the last Service's address, beside direct ones
    Connect { system: connect::System, services: u32, endpoints: u32, connections: u32 },
}

/// Measures and prints Markdown, or takes one reading.
pub fn run(arguments: &Arguments) -> Result<()> {
    let reading = match arguments.part {
        None => return tables::all(arguments),
        Some(Part::Daemon) => return process::daemon(),
        Some(Part::Library { services, endpoints }) => library::measure(services, endpoints)?,
        Some(Part::Process { services, endpoints }) => process::measure(services, endpoints)?,
        Some(Part::Peer { peer, services, endpoints }) => peers::measure(peer, services, endpoints)?,
        Some(Part::Connect { system, services, endpoints, connections }) => {
            connect::measure(system, services, endpoints, connections)?
        }
    };
    println!("{reading}");
    Ok(())
}

/// The smallest of each figure over some rounds.
fn best(rounds: u32, part: &[&str]) -> Result<Value> {
    let mut best: Option<Value> = None;
    for _ in 0..rounds.max(1) {
        let read = reading(part)?;
        let Some(best) = best.as_mut().and_then(Value::as_object_mut) else {
            best = Some(read);
            continue;
        };
        for (name, value) in best.iter_mut() {
            if read[name.as_str()].as_f64() < value.as_f64() {
                *value = read[name.as_str()].clone();
            }
        }
    }
    best.context("a reading")
}

/// Takes one reading in a process of its own.
fn reading(part: &[&str]) -> Result<Value> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).arg("proxy").args(part).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the reading {part:?} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("the reading {part:?}"))
}

/// A field of /proc/<pid>/status, in MB.
fn memory_mb(pid: &str, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with(field)).context("a field of /proc/<pid>/status")?;
    let kib: f64 = line.split_whitespace().nth(1).context("its value")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// The value below which this share of them lies.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
