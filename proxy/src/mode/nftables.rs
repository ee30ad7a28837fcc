//! Mode `nftables`: a table of our own, by raw netlink. The first choice.

use pintle_net::nfnetlink::monitor::{Monitor, Noticed};
use pintle_net::nfnetlink::{Nft, NftError};
use pintle_nft::trace::{self, Journey, Machine, Packet};
use pintle_nft::{Family, diff, text};
use pintle_proxy_plan::iptables::Unreadable;
use pintle_proxy_plan::{Config, ServiceMap, nftables};

use super::{Mode, Started};
use crate::backend::{BackendError, Fault, Wait, Watch};
use crate::kernel::Netlink;
use crate::nft_backend::{self, NftBackend};

/// See the module's description.
pub struct Nftables;

impl Mode for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn probe(&self, config: &Config, family: Family) -> Result<(), BackendError> {
        Ok(nft_backend::probe(&mut Netlink::open()?, config, family)?)
    }

    fn start(&self, config: &Config, families: &[Family]) -> Result<Started, BackendError> {
        let kernel = Netlink::open()?;
        let monitor = Monitor::open(NftBackend::<Netlink>::tables(config))?;
        let watch = Box::new(TableWatch { own_port: kernel.port(), monitor });
        Ok(Started { backend: Box::new(NftBackend::new(config.clone(), families, kernel)), watch })
    }

    fn cleanup(&self, config: &Config) -> Result<(), BackendError> {
        // Not by its rules but by their names: a kernel without nf_tables has none.
        let tables = NftBackend::<Netlink>::tables(config);
        match Nft::open().and_then(|mut nft| nft.commit(&diff::remove(&tables))) {
            Err(error) if error.is_unsupported() => Ok(()),
            done => Ok(done?),
        }
    }

    fn render(&self, map: &ServiceMap) -> String {
        text::ruleset(&nftables::ruleset(map))
    }

    fn journeys(&self, map: &ServiceMap, machine: &Machine, packet: Packet) -> Result<Vec<Journey>, Unreadable> {
        Ok(trace::journeys(&nftables::ruleset(map), machine, packet))
    }
}

impl Fault for NftError {
    fn is_transient(&self) -> bool {
        self.is_transient()
    }

    fn is_denied(&self) -> bool {
        self.is_denied()
    }

    fn hint(&self) -> Option<&'static str> {
        self.hint()
    }
}

/// The kernel tells of every change of a table, and by which socket.
struct TableWatch {
    monitor: Monitor,
    /// That of the backend's own changes.
    own_port: u32,
}

impl Watch for TableWatch {
    fn noticed(&mut self) -> Wait<'_, Result<String, BackendError>> {
        Box::pin(async {
            Ok(match self.monitor.wait(self.own_port).await? {
                Noticed::Foreign => "our nftables table".to_owned(),
                Noticed::Lost => "perhaps our nftables table: notifications were lost".to_owned(),
            })
        })
    }

    fn forget(&mut self) -> Wait<'_, ()> {
        Box::pin(self.monitor.forget())
    }

    fn pause(&mut self) -> Result<(), BackendError> {
        Ok(self.monitor.pause()?)
    }

    fn resume(&mut self) -> Result<(), BackendError> {
        Ok(self.monitor.resume()?)
    }
}
