//! All readings, one after the other, as the rows of docs/benchmarks.md.

use anyhow::Result;
use serde_json::Value;

use super::connect::System;
use super::peers::Peer;
use super::process::READINGS;
use super::{Arguments, best};

/// Mode userspace listens for every Service: more than these want more files than a process may have open by default.
const USERSPACE_UP_TO: u32 = 1000;

impl Arguments {
    /// Up to how many Services a peer is measured.
    fn up_to(&self, peer: Peer) -> u32 {
        match peer {
            Peer::Nft => self.nft_up_to,
            Peer::NftMaps => self.nft_maps_up_to,
            Peer::Iptables => self.iptables_up_to,
        }
    }
}

/// Takes all readings and prints them.
pub fn all(arguments: &Arguments) -> Result<()> {
    let mut sizes = arguments.services.clone();
    sizes.extend(arguments.large.then_some(50_000));
    println!("{} endpoints for each Service; times in ms, best of {}\n", arguments.endpoints, arguments.rounds);
    loads(arguments, &sizes)?;
    whole_process(arguments, &sizes)?;
    connections(arguments)
}

fn loads(arguments: &Arguments, sizes: &[u32]) -> Result<()> {
    println!(
        "| Services | system | full load | longest transaction | loaded again | add Service | change endpoint | 200 added settle | peak MB | kernel MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for services in sizes {
        let row = |name: &str, r: &Value| {
            println!(
                "| {services} | {name} | {:.1} | {} | {:.1} | {:.2} | {:.2} | {} | {:.1} | {:.1} |",
                number(r, "load_ms"),
                r["longest_ms"].as_f64().map_or_else(|| "all of it".to_owned(), |n| format!("{n:.1}")),
                number(r, "again_ms"),
                number(r, "add_ms"),
                number(r, "change_ms"),
                r["settle_ms"].as_f64().map_or_else(String::new, |n| format!("{n:.1}")),
                number(r, "peak_mb"),
                number(r, "kernel_mb"),
            );
        };
        let size = services.to_string();
        let endpoints = arguments.endpoints.to_string();
        row("pintle", &best(arguments.rounds, &["library", &size, &endpoints])?);
        for peer in [Peer::Nft, Peer::NftMaps, Peer::Iptables] {
            if *services <= arguments.up_to(peer) {
                row(peer.name(), &best(1, &["peer", peer.word(), &size, &endpoints])?);
            }
        }
    }
    Ok(())
}

fn whole_process(arguments: &Arguments, sizes: &[u32]) -> Result<()> {
    println!(
        "\n| Services | process start to ready, ms | restart over its rules, ms | from event to committed, µs p50 / p99: an endpoint instead of another | one endpoint more | new Service | new load balancer, policy Local | resident / peak MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for services in sizes {
        let r = best(1, &["process", &services.to_string(), &arguments.endpoints.to_string()])?;
        let took = |name: &&str| {
            let took = &r["committed"][*name];
            format!("{:.0} / {:.0}", number(took, "p50_us"), number(took, "p99_us"))
        };
        println!(
            "| {services} | {:.0} | {:.0} | {} | {:.1} / {:.1} |",
            number(&r, "ready_ms"),
            number(&r, "restart_ms"),
            READINGS.iter().map(took).collect::<Vec<_>>().join(" | "),
            number(&r, "resident_mb"),
            number(&r, "peak_mb")
        );
    }
    Ok(())
}

fn connections(arguments: &Arguments) -> Result<()> {
    println!(
        "\n| new connections | Services | p50 µs | p99 µs | a second | direct, same run: p50 | p99 | a second | quietest turn, to direct µs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let largest = arguments.services.iter().copied().max().unwrap_or(1000);
    for system in System::ALL {
        let services = largest.min(match (system, system.peer()) {
            (System::Userspace, _) => USERSPACE_UP_TO,
            (_, Some(peer)) => arguments.up_to(peer),
            (_, None) => largest,
        });
        let (size, endpoints) = (services.to_string(), arguments.endpoints.to_string());
        let r = best(1, &["connect", system.word(), &size, &endpoints, &arguments.connections.to_string()])?;
        println!(
            "| {} | {services} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.0} | {:.1} to {:.1}: {:+.0} % |",
            system.name(),
            number(&r, "p50_us"),
            number(&r, "p99_us"),
            number(&r, "per_second"),
            number(&r, "direct_p50_us"),
            number(&r, "direct_p99_us"),
            number(&r, "direct_per_second"),
            number(&r, "quiet_us"),
            number(&r, "direct_quiet_us"),
            100.0 * (number(&r, "quiet_us") / number(&r, "direct_quiet_us") - 1.0)
        );
    }
    Ok(())
}

fn number(reading: &Value, name: &str) -> f64 {
    reading[name].as_f64().unwrap_or(f64::NAN)
}
