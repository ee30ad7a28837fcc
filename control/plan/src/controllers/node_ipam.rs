//! Node addresses: every node gets its own share of the cluster's pod range.
//!
//! Plans for all nodes at once, since a share may be given only once.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::common::meta;
use super::{Action, Change, Controller, Key, KindRef, Part, Plan, Snapshot, View, name_of};

/// The controller.
pub struct NodeIpam;

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Node>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        let Some((old, new)) = change.of::<Node>() else { return Vec::new() };
        let lacks = new.is_some_and(|n| cidr(n).is_none());
        // A share that comes back may be what another node waits for.
        let frees = old.is_some() && new.is_none();
        if lacks || frees { vec![Key::all(KindRef::of::<Node>())] } else { Vec::new() }
    }
    fn plan(&self, _key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(range) = Range::parse(&view.config.cluster_cidr, view.config.node_cidr_bits) else { return plan };
        let mut used: BTreeSet<u32> =
            view.snapshot.list::<Node>().filter_map(cidr).flat_map(|c| range.index(c)).flatten().collect();
        for node in view.snapshot.list::<Node>().filter(|n| cidr(n).is_none() && !meta::is_deleting(&n.metadata)) {
            let Some(free) = (0..range.count).find(|i| !used.contains(i)) else {
                let message = format!("all {} pod ranges of {} are in use", range.count, view.config.cluster_cidr);
                plan.events.push(meta::warning(node, "CIDRNotAvailable", message));
                continue;
            };
            used.insert(free);
            plan.push(assign(node, &range.share(free)));
        }
        plan
    }
}

fn assign(node: &Node, cidr: &str) -> Action {
    Action::Patch {
        kind: KindRef::of::<Node>(),
        name: name_of(&node.metadata),
        part: Part::Main,
        // The uid alone: a node's status changes all the time, and podCIDR is written once by nobody else.
        patch: json!({
            "metadata": {"uid": meta::uid(&node.metadata)},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        }),
    }
}

fn cidr(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|c| !c.is_empty())
}

/// The cluster's range, cut into shares of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    bits: u8,
    count: u32,
}

impl Range {
    /// None where the text is no IPv4 range or the shares would be larger than the whole.
    fn parse(cidr: &str, share_bits: u8) -> Option<Range> {
        let (address, bits) = parse(cidr)?;
        if share_bits < bits || share_bits > 30 {
            return None;
        }
        Some(Range { start: address & mask(bits), bits: share_bits, count: 1 << (share_bits - bits).min(31) })
    }
    fn share(&self, index: u32) -> String {
        format!("{}/{}", Ipv4Addr::from(self.start + (index << (32 - self.bits))), self.bits)
    }
    /// The shares that `cidr` lies in or covers: one for our own, several where somebody gave a larger range by hand.
    fn index(&self, cidr: &str) -> Option<std::ops::RangeInclusive<u32>> {
        let (address, bits) = parse(cidr)?;
        let (first, last) = (address & mask(bits), address | !mask(bits));
        let shift = 32 - self.bits;
        let end = self.start + ((self.count - 1) << shift) + ((1u32 << shift) - 1);
        if last < self.start || first > end {
            return None;
        }
        Some((first.max(self.start) - self.start) >> shift..=(last.min(end) - self.start) >> shift)
    }
}

fn parse(cidr: &str) -> Option<(u32, u8)> {
    let (address, bits) = cidr.split_once('/')?;
    let (address, bits) = (address.parse::<Ipv4Addr>().ok()?, bits.parse::<u8>().ok()?);
    (bits <= 32).then(|| (u32::from(address), bits))
}

fn mask(bits: u8) -> u32 {
    if bits == 0 { 0 } else { u32::MAX << (32 - bits) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::Range;

    #[test]
    fn the_cluster_range_is_cut_into_shares_that_know_their_index() {
        let range = Range::parse("10.42.0.0/16", 24).unwrap();
        assert_eq!(range.count, 256);
        assert_eq!(range.share(0), "10.42.0.0/24");
        assert_eq!(range.share(255), "10.42.255.0/24");
        assert_eq!(range.index("10.42.7.0/24"), Some(7..=7));
        assert_eq!(range.index("10.42.4.0/22"), Some(4..=7), "a larger range by hand takes all it covers");
        assert_eq!(range.index("10.43.0.0/24"), None);
        assert_eq!(Range::parse("10.42.0.0/26", 24), None);
    }
}
