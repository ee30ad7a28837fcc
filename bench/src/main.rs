//! Benchmarks that carry their own peers. Each prints Markdown rows for docs/benchmarks.md.

mod cluster;
mod proxy;
mod runtime;
mod store;
mod unpack;

use clap::Parser;

/// Measures pintle and its peers
#[derive(Parser, Debug)]
enum Command {
    /// A whole cluster: start, pods, memory, idle CPU
    Cluster(cluster::Arguments),
    /// Containers: times, memory and system calls with runc, crun and pintle-runc, and the floor
    Runtime(runtime::Arguments),
    /// The service proxy at sizes, beside kube-proxy's layouts
    Proxy(proxy::Arguments),
    /// Embedded databases as the control plane's memory: durable puts, lists, opening
    Store(store::Arguments),
    /// Unpacking a layer, against tar
    Unpack(unpack::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Runtime(arguments) => runtime::run(&arguments),
        Command::Proxy(arguments) => proxy::run(&arguments),
        Command::Store(arguments) => store::run(&arguments),
        Command::Unpack(arguments) => unpack::run(&arguments),
    }
}
