//! What one `pintle up` comes to: addresses, the link, the two children. Pure, but for reading and writing itself.

use super::Arguments;
use crate::monitor::{Part, Recipe};
use anyhow::{Context as _, Result};
use pintle_net::Cidr;
use pintle_net::link::NodeLink;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Largest packet on the link; both ends are ours, but pods inherit Ethernet's.
const LINK_MTU_BYTES: u32 = 1500;

/// The arguments of an `up`, completed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As given.
    pub args: Arguments,
    /// The node's address, which is also the API server's.
    pub node_ip: IpAddr,
    /// The node's namespace and link; `None` on the host's network.
    pub link: Option<NodeLink>,
}

impl Settings {
    /// Completes the arguments. `own_address` is asked for on the host's network only.
    pub fn new(args: Arguments, own_address: impl FnOnce() -> IpAddr) -> Result<Self> {
        if args.host_network {
            let node_ip = args.node.node_ip.unwrap_or_else(own_address);
            return Ok(Self { args, node_ip, link: None });
        }
        let link = link(&args)?;
        Ok(Self { node_ip: link.node_addr.addr(), args, link: Some(link) })
    }

    /// The URL under which the API server is reached.
    pub fn server_url(&self) -> String {
        let host = self.args.api.advertise_address.unwrap_or(self.node_ip);
        match host {
            IpAddr::V4(ip) => format!("https://{ip}:{}", self.args.api.https_listen_port),
            IpAddr::V6(ip) => format!("https://[{ip}]:{}", self.args.api.https_listen_port),
        }
    }

    /// A file below the run directory.
    pub fn run_file(&self, name: &str) -> PathBuf {
        self.args.dirs.run_dir.join(name)
    }

    /// A file below the log directory.
    pub fn log_file(&self, name: &str) -> PathBuf {
        log_dir(&self.args.dirs.state_dir).join(name)
    }

    /// How to start the server.
    pub fn server(&self) -> Recipe {
        let mut args = vec!["server".to_owned()];
        args.extend(self.args.dirs.to_args());
        args.extend(self.args.cluster.to_args());
        let mut api = self.args.api.clone();
        api.advertise_address.get_or_insert(self.node_ip);
        args.extend(api.to_args());
        self.recipe(Part::Server, args)
    }

    /// How to start the agent. It joins by the server's token, as any other.
    pub fn agent(&self) -> Recipe {
        let mut args = vec!["agent".to_owned(), format!("--server={}", self.server_url())];
        args.push(format!("--token-file={}", self.args.dirs.token().display()));
        args.extend(self.args.dirs.to_args());
        args.extend(self.args.cluster.to_args());
        let mut node = self.args.node.clone();
        node.node_ip = Some(self.node_ip);
        args.extend(node.to_args());
        args.extend(self.args.connect_time.to_args());
        self.recipe(Part::Agent, args)
    }

    fn recipe(&self, part: Part, args: Vec<String>) -> Recipe {
        let name = part.name();
        Recipe {
            part,
            args,
            netns: self.link.as_ref().map(|l| l.netns.clone()),
            log: self.log_file(&format!("{name}.log")),
            pidfile: self.run_file(&format!("{name}.pid")),
            notify: self.run_file(&format!("{name}.notify")),
        }
    }

    /// Remembers the arguments for `down`.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.args)?;
        pintle_client::write_private(&saved(&self.args.dirs.state_dir), text.as_bytes())?;
        Ok(())
    }

    /// The arguments of the last `up`, if there was one.
    pub fn load(state_dir: &Path) -> Result<Option<Arguments>> {
        let path = saved(state_dir);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{} is damaged", path.display()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// Logs of the components.
pub fn log_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("log")
}

/// The lock of a state directory.
pub fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join("lock")
}

fn saved(state_dir: &Path) -> PathBuf {
    state_dir.join("up.json")
}

/// The link of these arguments.
fn link(args: &Arguments) -> Result<NodeLink> {
    let network: Cidr = args.link_cidr.parse().with_context(|| format!("--link-cidr {:?}", args.link_cidr))?;
    let nth = |n: u32| -> Result<Cidr> {
        let IpAddr::V4(first) = network.network().addr() else {
            anyhow::bail!("--link-cidr {network}: only IPv4 can be used for the link");
        };
        anyhow::ensure!(network.prefix() <= 30, "--link-cidr {network} has no room for two addresses");
        let address = std::net::Ipv4Addr::from(u32::from(first) + n);
        format!("{address}/{}", network.prefix()).parse().context("an address of the link")
    };
    let range = |flag: &str, text: &str| text.parse::<Cidr>().with_context(|| format!("--{flag} {text:?}"));
    Ok(NodeLink {
        netns: args.dirs.run_dir.join("node.netns"),
        host_name: args.link_name.clone(),
        host_addr: nth(1)?,
        node_name: "eth0".to_owned(),
        node_addr: nth(2)?,
        mtu: LINK_MTU_BYTES,
        ranges: vec![
            range("cluster-cidr", &args.cluster.cluster_cidr)?,
            range("service-cidr", &args.cluster.service_cidr)?,
        ],
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn settings(given: &[&str]) -> Settings {
        let Command::Up(args) = Cli::parse_from([&["pintle", "up"], given].concat()).command else { unreachable!() };
        Settings::new(args, || "192.0.2.7".parse().unwrap()).unwrap()
    }

    #[test]
    fn by_default_both_children_live_in_the_node_s_namespace_at_the_second_address_of_the_link() {
        let s = settings(&["--state-dir=/s", "--run-dir=/r"]);
        assert_eq!(s.server_url(), "https://10.41.0.2:6443");
        assert_eq!(s.server().netns.unwrap(), Path::new("/r/node.netns"));
        insta::assert_snapshot!(s.agent().args.join("\n"), @r"
        agent
        --server=https://10.41.0.2:6443
        --token-file=/s/server/token
        --state-dir=/s
        --run-dir=/r
        --cluster-cidr=10.42.0.0/16
        --service-cidr=10.43.0.0/16
        --cluster-domain=cluster.local
        --cgroup-root=/pintle
        --pod-logs-dir=/var/log/pods
        --node-ip=10.41.0.2
        --connect-time=off
        ");
        insta::assert_snapshot!(s.server().args.join("\n"), @r"
        server
        --state-dir=/s
        --run-dir=/r
        --cluster-cidr=10.42.0.0/16
        --service-cidr=10.43.0.0/16
        --cluster-domain=cluster.local
        --bind-address=0.0.0.0
        --https-listen-port=6443
        --service-node-port-range=30000-32767
        --advertise-address=10.41.0.2
        ");
    }

    #[test]
    fn on_the_host_s_network_there_is_no_link_and_the_machine_s_own_address_is_used() {
        let s = settings(&["--host-network"]);
        assert!(s.link.is_none() && s.server().netns.is_none());
        assert_eq!(s.server_url(), "https://192.0.2.7:6443");
    }

    #[test]
    fn what_is_given_to_up_reaches_the_monitor_and_the_children_whole() {
        let given = ["--node-name=n", "--tls-san=x", "--connect-time=on", "--link-name=l0", "--link-cidr=10.9.0.0/30"];
        let s = settings(&given);
        let words = s.args.to_args();
        let again = settings(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(serde_json::to_value(&again.args).unwrap(), serde_json::to_value(&s.args).unwrap());
        assert!(s.agent().args.contains(&"--connect-time=on".to_owned()));
        assert!(settings(&["--host-network"]).args.to_args().contains(&"--host-network".to_owned()));
        for recipe in [s.server(), s.agent()] {
            let args = std::iter::once("pintle".to_owned()).chain(recipe.args);
            Cli::try_parse_from(args).unwrap();
        }
    }

    #[test]
    fn arguments_are_remembered_for_down() {
        let dir = tempfile::tempdir().unwrap();
        let state = format!("--state-dir={}", dir.path().display());
        let s = settings(&[&state, "--link-name=other0"]);
        assert!(Settings::load(dir.path()).unwrap().is_none());
        s.save().unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap().unwrap().link_name, "other0");
        // A file from before there was the flag.
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(saved(dir.path())).unwrap()).unwrap();
        assert!(json.as_object_mut().unwrap().remove("connect_time").is_some());
        std::fs::write(saved(dir.path()), json.to_string()).unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap().unwrap().link_name, "other0");
    }
}
