//! Lets clients of Services with session affinity stay with their servers when one table takes another's place.

use pintle_net::nfnetlink::NftError;
use pintle_nft::{Family, TableId};
use pintle_proxy_plan::recall::Sticky;

use crate::kernel::Kernel;

/// Fills the sets of the table `to` as the table `from` knows its clients; where somebody deleted that one, as their
/// connections do.
///
/// # Errors
/// When the kernel cannot be asked or refuses; the sets may be filled in part.
pub fn keep(kernel: &mut impl Kernel, sticky: &Sticky, from: &TableId, to: &TableId) -> Result<(), NftError> {
    let (carried, protocols) = (kernel.carry_over(from, to)?, sticky.protocols());
    if carried > 0 || protocols.is_empty() || kernel.is_serving(from)? {
        return Ok(());
    }
    let mut flows = Vec::new();
    for proto in protocols {
        flows.extend(kernel.flows(to.family, proto)?);
    }
    flows.retain(|flow| Family::of(flow.client.0) == to.family);
    kernel.remember(to, &sticky.clients(&flows))
}
