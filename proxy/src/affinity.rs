//! Lets clients of Services with session affinity stay with their servers when one table takes another's place.

use pintle_net::nfnetlink::NftError;
use pintle_nft::{Family, Flow, TableId};
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
    let is_theirs = |flow: &Flow| protocols.contains(&flow.proto) && Family::of(flow.client.0) == to.family;
    let flows = kernel.flows(to.family, &is_theirs)?;
    kernel.remember(to, &sticky.clients(&flows))
}
