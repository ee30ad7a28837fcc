//! Benchmarks that carry their own peers. Each prints Markdown rows for docs/benchmarks.md.

mod cluster;

use clap::Parser;

/// Measures pintle and its peers
#[derive(Parser, Debug)]
enum Command {
    /// A whole cluster: start, pods, memory, idle CPU
    Cluster(cluster::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Cluster(arguments) => cluster::run(&arguments),
    }
}
