//! `pintle proxy plan` and `pintle proxy trace`: what the proxy would do, without doing it.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use pintle_client::Client;
use pintle_nft::Proto;
use pintle_proxy::ProxyConfig;
use pintle_proxy::explain::{Explained, Objects, Question};

use crate::out;

/// What to explain.
#[derive(Subcommand, Debug)]
pub enum Explain {
    /// Print what would be programmed, and change nothing
    ///
    /// Reads Services, EndpointSlices and this node's Node from the API server, or from files. The text is as the mode's
    /// own tool would show or take it (`nft list ruleset`, `iptables-restore`); JSON also lists each Service with where it answers and who serves.
    Plan(Plan),
    /// Say where a packet goes and why
    ///
    /// Walks an imaginary packet, the first of its connection, through what `plan` prints: rules, or in mode userspace
    /// the sockets of the proxy. Nothing is sent.
    Trace(Trace),
}

/// Where objects come from and how the answer looks.
#[derive(Args, Debug)]
struct Common {
    /// Read objects from these files (YAML or JSON, as kubectl prints them) instead of the API server
    #[arg(long, short = 'f', value_name = "FILE")]
    objects: Vec<PathBuf>,
    /// How to print
    #[arg(long, short = 'o', default_value = "text", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub struct Plan {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub struct Trace {
    /// The packet's source address: one of this node's, a pod's, or any other
    source: IpAddr,
    /// Its destination address
    destination: IpAddr,
    /// Its destination port
    port: u16,
    /// Its protocol
    #[arg(long, default_value = "tcp", value_name = "PROTOCOL")]
    protocol: Protocol,
    /// The interface by which it comes in, where pods are told by interfaces
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl From<Protocol> for Proto {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

impl Explain {
    /// Prints the answer.
    pub fn run(&self, config: &ProxyConfig, client: impl FnOnce() -> Result<Client>) -> Result<()> {
        let common = match self {
            Self::Plan(plan) => &plan.common,
            Self::Trace(trace) => &trace.common,
        };
        let explained = Explained::new(config, &objects(common, config, client)?)?;
        let answer = match (self, common.output) {
            (Self::Plan(_), Format::Text) => explained.text(),
            (Self::Plan(_), Format::Json) => format!("{:#}\n", explained.json()),
            (Self::Trace(trace), Format::Text) => explained.trace(&trace.question())?.text(),
            (Self::Trace(trace), Format::Json) => format!("{:#}\n", explained.trace(&trace.question())?.json()),
        };
        out::line(answer.trim_end())
    }
}

impl Trace {
    fn question(&self) -> Question {
        Question {
            source: self.source,
            destination: self.destination,
            port: self.port,
            proto: self.protocol.into(),
            interface: self.interface.clone(),
        }
    }
}

fn objects(common: &Common, config: &ProxyConfig, client: impl FnOnce() -> Result<Client>) -> Result<Objects> {
    if common.objects.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = client()?;
        return Ok(runtime.block_on(Objects::list(&client, &config.node))?);
    }
    let mut objects = Objects::default();
    for path in &common.objects {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        objects.read(&text).with_context(|| format!("cannot use {}", path.display()))?;
    }
    Ok(objects)
}
