//! The errors of links, addresses, routes and namespaces.

use std::io;
use std::path::{Path, PathBuf};

/// What failed, on what; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused an rtnetlink request.
    #[error("cannot {action}")]
    Netlink {
        /// What was asked, with its arguments: `add route 10.42.1.0/24 via 192.0.2.2`.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file, mount or namespace operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: `bind-mount a network namespace on`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A thread that had to work in another namespace could not be started or died.
    #[error("a worker thread for network namespace work was lost")]
    Thread {
        /// Why, where the system said so.
        source: io::Error,
    },
    /// Pods with IPv6 addresses are not supported yet.
    #[error("address {addr} is IPv6, and pod links are IPv4 only so far")]
    Ipv6 {
        /// The address that was asked for.
        addr: std::net::IpAddr,
    },
    /// All addresses of the range are taken.
    #[error("no free address left in {cidr} ({used} in use)")]
    Exhausted {
        /// The range.
        cidr: pintle_nft::Cidr,
        /// How many addresses are allocated.
        used: usize,
    },
    /// A route we need exists already and belongs to somebody else.
    #[error("a route to {dest} exists already and leads elsewhere")]
    RouteTaken {
        /// The destination in question.
        dest: pintle_nft::Cidr,
    },
}

impl NetError {
    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Netlink { source, .. } | Self::File { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("this needs root (CAP_NET_ADMIN, and CAP_SYS_ADMIN for namespaces)")
            }
            Self::RouteTaken { .. } => Some("choose other address ranges, or remove the other route"),
            Self::Exhausted { .. } => Some("give the node a larger pod range, or remove pods"),
            Self::Netlink { .. } | Self::File { .. } | Self::Thread { .. } | Self::Ipv6 { .. } => None,
        }
    }

    pub(crate) fn netlink(action: impl Into<String>, source: io::Error) -> Self {
        Self::Netlink { action: action.into(), source }
    }

    pub(crate) fn file(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File { action, path: path.to_owned(), source: source.into() }
    }
}
