//! One cluster per link: an abstract unix socket, whose name is known in exactly the network namespace in which the
//! link is, and which ends with its holder. No file can be left behind.

use crate::failure::Failure;
use anyhow::{Context as _, Result};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Held as long as the cluster uses the link.
#[derive(Debug)]
pub struct LinkLock {
    _socket: UnixListener,
}

impl LinkLock {
    /// Takes the link `name`; `None` when another cluster has it.
    pub fn try_take(name: &str) -> Result<Option<Self>> {
        let address = SocketAddr::from_abstract_name(format!("pintle-link/{name}"))
            .with_context(|| format!("--link-name {name:?} is too long"))?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Some(Self { _socket: socket })),
            Err(e) if e.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot lock the link {name}")),
        }
    }

    /// Takes the link, or says who may have it.
    pub fn take(name: &str) -> Result<Self> {
        Self::try_take(name)?.ok_or_else(|| {
            let hint = "stop that cluster, or give this one its own --link-name, --link-cidr, --cluster-cidr and \
                        --service-cidr";
            Failure::new(format!("the link {name} is in use by another cluster on this machine"), hint).into()
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_link_is_one_cluster_s_until_that_cluster_ends() {
        let name = format!("t{}", std::process::id());
        let first = LinkLock::take(&name).unwrap();
        assert!(LinkLock::try_take(&name).unwrap().is_none());
        let error = LinkLock::take(&name).unwrap_err().to_string();
        assert!(error.contains("another cluster"), "{error}");
        drop(first);
        LinkLock::take(&name).unwrap();
    }
}
