//! What only one cluster of a machine may have: its link, its run directory, its cgroups, its pods' logs. Each is an
//! abstract unix socket, whose name is known in exactly the network namespace in which the cluster was started, and which
//! ends with its holder. No file can be left behind.

use super::Settings;
use crate::failure::Failure;
use anyhow::{Context as _, Result};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Names longer than this are replaced by their hash: sun_path has 107 bytes (unix(7)).
const NAME_BYTES_MAX: usize = 80;

/// One thing that is claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// The flag that gives a cluster another one.
    flag: &'static str,
    name: String,
}

impl Thing {
    /// The link to the node; `None` on the host's network.
    pub fn link(settings: &Settings) -> Option<Self> {
        Some(Self { flag: "--link-name", name: settings.link.as_ref()?.host_name.clone() })
    }

    /// What is removed by name, pods with it, when this cluster goes.
    pub fn directories(settings: &Settings) -> Vec<Self> {
        let (dirs, node) = (&settings.args.dirs, &settings.args.node);
        let path = |p: &std::path::Path| p.to_string_lossy().trim_end_matches('/').to_owned();
        vec![
            Self { flag: "--run-dir", name: path(&dirs.run_dir) },
            Self { flag: "--cgroup-root", name: node.cgroup_root.trim_matches('/').to_owned() },
            Self { flag: "--pod-logs-dir", name: path(&node.pod_logs_dir) },
        ]
    }

    /// Claims it; `None` when another cluster has it.
    pub fn try_take(&self) -> Result<Option<Claim>> {
        let failed = || format!("cannot claim {} {}", self.flag, self.name);
        let address = SocketAddr::from_abstract_name(self.address()).with_context(failed)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Some(Claim { _socket: socket })),
            Err(e) if e.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(e) => Err(e).with_context(failed),
        }
    }

    /// Claims it, or says that another cluster has it.
    pub fn take(&self) -> Result<Claim> {
        self.try_take()?.ok_or_else(|| {
            let hint = "stop that cluster, or give this one its own --link-name, --link-cidr, --cluster-cidr, \
                        --service-cidr, --run-dir, --cgroup-root and --pod-logs-dir";
            let what = format!("{} {} is in use by another cluster on this machine", self.flag, self.name);
            Failure::new(what, hint).into()
        })
    }

    fn address(&self) -> String {
        if self.name.len() <= NAME_BYTES_MAX {
            return format!("pintle{}={}", self.flag, self.name);
        }
        let mut hash = DefaultHasher::new();
        self.name.hash(&mut hash);
        format!("pintle{}#{:016x}", self.flag, hash.finish())
    }
}

/// Held as long as the cluster runs.
#[derive(Debug)]
pub struct Claim {
    _socket: UnixListener,
}

impl Claim {
    /// Everything a cluster needs for itself.
    pub fn all(settings: &Settings) -> Result<Vec<Self>> {
        Thing::link(settings).iter().chain(&Thing::directories(settings)).map(Thing::take).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_thing_is_one_cluster_s_until_that_cluster_ends() {
        for name in [format!("t{}", std::process::id()), format!("{:0200}", std::process::id())] {
            let (link, logs) = ("--link-name", "--pod-logs-dir");
            let [thing, other] = [link, logs].map(|flag| Thing { flag, name: name.clone() });
            let first = thing.take().unwrap();
            assert!(thing.try_take().unwrap().is_none());
            let error = thing.take().unwrap_err().to_string();
            assert!(error.starts_with("--link-name") && error.contains("another cluster"), "{error}");
            other.take().unwrap();
            drop(first);
            thing.take().unwrap();
        }
    }
}
