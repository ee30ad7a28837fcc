//! `pintle up`: the launcher, which starts the monitor and waits for a Ready node; and the monitor itself.

mod claims;
mod launch;
mod monitor;
mod new_dir;
mod settings;

use crate::failure::{Code, Failure};
use crate::flags::{Api, Cluster, ConnectTime, Dirs, Node};
use anyhow::Result;
pub use claims::{Claim, Thing};
use clap::Args;
use serde::{Deserialize, Serialize};
pub use settings::{Settings, lock_path, log_dir};

/// Start a cluster on this machine and wait until its node is Ready
///
/// By default the node lives in a network namespace of its own, linked to this machine by one veth pair: nothing of the
/// machine's firewall changes, and the machine reaches the API server, the pods and the Services through that link. A
/// second `pintle up` on a running cluster changes nothing and says how to use it.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    pub dirs: Dirs,
    #[command(flatten)]
    pub cluster: Cluster,
    #[command(flatten)]
    pub api: Api,
    #[command(flatten)]
    pub node: Node,
    #[command(flatten)]
    #[serde(default)]
    pub connect_time: ConnectTime,
    /// Use the machine's own network instead of a namespace
    #[arg(long)]
    pub host_network: bool,
    /// Name of the machine's end of the link to the node
    #[arg(long, default_value = "pintle0", value_name = "NAME")]
    pub link_name: String,
    /// Addresses of the link: the first is the machine's, the second the node's
    #[arg(long, default_value = "10.41.0.0/30", value_name = "CIDR")]
    pub link_cidr: String,
    /// How long to wait for a Ready node, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
    /// Stay in the foreground: be the monitor, for a service manager
    #[arg(long)]
    pub foreground: bool,
    /// Number of an inherited descriptor that holds the lock
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub lock_fd: Option<i32>,
    /// Number of an inherited descriptor to report progress on
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub report_fd: Option<i32>,
}

impl Arguments {
    /// What the monitor must know of them, as arguments again. It names every field, so that none can be forgotten.
    fn to_args(&self) -> Vec<String> {
        let Self {
            dirs,
            cluster,
            api,
            node,
            connect_time,
            host_network,
            link_name,
            link_cidr,
            // The launcher's own, and those it gives the monitor by itself.
            timeout: _,
            foreground: _,
            lock_fd: _,
            report_fd: _,
        } = self;
        let mut all =
            [dirs.to_args(), cluster.to_args(), api.to_args(), node.to_args(), connect_time.to_args()].concat();
        all.push(format!("--link-name={link_name}"));
        all.push(format!("--link-cidr={link_cidr}"));
        all.extend(host_network.then(|| "--host-network".to_owned()));
        all
    }

    /// Runs it.
    pub fn run(self) -> Result<Code> {
        if !nix::unistd::geteuid().is_root() {
            let what = "pintle up needs root: it makes namespaces, mounts, cgroups and network links";
            return Err(Failure::new(what, "sudo pintle up; `pintle check` says what else is needed")
                .code(Code::Unfit)
                .into());
        }
        if self.foreground { monitor::run(self) } else { launch::run(self) }
    }
}
