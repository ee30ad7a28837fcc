//! Mode `userspace`: connections handed on by this process, for machines without a packet filter. The last choice.

use pintle_net::NetError;
use pintle_nft::Family;
use pintle_nft::trace::{Journey, Machine, Packet};
use pintle_proxy_plan::iptables::Unreadable;
use pintle_proxy_plan::{Config, ServiceMap, userspace};

use super::{Mode, Started};
use crate::backend::{BackendError, Blind, Fault};
use crate::forward::Limits;
use crate::limits;
use crate::userspace_backend::{self, UserspaceBackend};

/// See the module's description.
pub struct Userspace;

impl Mode for Userspace {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn probe(&self, _config: &Config, family: Family) -> Result<(), BackendError> {
        Ok(userspace_backend::probe(family)?)
    }

    fn start(&self, config: &Config, families: &[Family]) -> Result<Started, BackendError> {
        let limits = Limits::alone(limits::raise_open_files());
        let backend = UserspaceBackend::new(config.clone(), families, limits)?;
        Ok(Started { backend: Box::new(backend), watch: Box::new(Blind) })
    }

    fn cleanup(&self, _config: &Config) -> Result<(), BackendError> {
        Ok(userspace_backend::cleanup()?)
    }

    fn render(&self, map: &ServiceMap) -> String {
        userspace::text(map)
    }

    fn journeys(&self, map: &ServiceMap, machine: &Machine, packet: Packet) -> Result<Vec<Journey>, Unreadable> {
        Ok(userspace::trace::journeys(map, machine, packet))
    }

    fn tracks_connections(&self) -> bool {
        false
    }
}

impl Fault for NetError {
    fn is_transient(&self) -> bool {
        let Self::Netlink { source, .. } = self else { return false };
        let errno = source.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        use rustix::io::Errno;
        matches!(errno, Some(Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN | Errno::INTR | Errno::BUSY))
    }

    fn is_denied(&self) -> bool {
        matches!(self, Self::Netlink { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    }

    fn hint(&self) -> Option<&'static str> {
        self.hint()
    }
}
