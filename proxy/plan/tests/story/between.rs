//! Between two batches packets pass too. Whatever the change, and wherever its operations are cut: a packet meets a
//! server of before or after, never another, and is refused or dropped only if it was or will be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pintle_nft::trace::{Fate, Interface, Machine, Origin, Packet, SourceSeen, trace};
use pintle_nft::{Kernel, Proto, Ruleset, Transaction};
use pintle_proxy_plan::Planner;
use proptest::prelude::*;

use crate::config;
use crate::happening::{happening, note};

fn packets() -> Vec<Packet> {
    let addr = |text: &str| text.parse::<IpAddr>().unwrap();
    let clients = [("10.42.0.9", Origin::Arriving), ("192.0.2.1", Origin::Local), ("203.0.113.5", Origin::Arriving)];
    let vips = (1..6).map(|n| (addr(&format!("10.43.0.{n}")), 80)).chain([(addr("198.51.100.2"), 80)]);
    let ports = (30000..30003).map(|port| (addr("192.0.2.1"), port));
    let places: Vec<(IpAddr, u16)> = vips.chain(ports).collect();
    let send = |(source, origin): (&str, Origin)| {
        let source = addr(source);
        places.clone().into_iter().map(move |(destination, port)| Packet {
            source,
            destination,
            proto: Proto::Tcp,
            port,
            origin,
            ingress: Interface::default(),
        })
    };
    clients.into_iter().flat_map(send).collect()
}

fn fates(ruleset: &Ruleset, packets: &[Packet]) -> Vec<BTreeSet<Fate>> {
    let machine = Machine { local: ["192.0.2.1".parse().unwrap()].into(), ..Machine::default() };
    packets.iter().map(|packet| trace(ruleset, &machine, *packet)).collect()
}

/// To be seen as this machine is always right: the answer comes back through us. To be seen as oneself is right only
/// where it is before or after.
fn is_right(fate: &Fate, before: &BTreeSet<Fate>, after: &BTreeSet<Fate>) -> bool {
    let is_known = |fate: &Fate| before.contains(fate) || after.contains(fate);
    match fate {
        Fate::Delivered { to, port, source: SourceSeen::Masqueraded } => {
            is_known(fate) || is_known(&Fate::Delivered { to: *to, port: *port, source: SourceSeen::Kept })
        }
        Fate::Delivered { source: SourceSeen::Kept, .. } | Fate::Dropped | Fate::Rejected => is_known(fate),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_meets_a_wrong_answer_between_batches(
        story in prop::collection::vec(prop::collection::vec(happening(), 1..4), 1..6), max in 1..4_usize
    ) {
        let packets = packets();
        let mut planner = Planner::new(config());
        let mut kernel = Kernel::default();
        planner.load(100).try_for_each(|b| kernel.commit(&b)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for step in &story {
            let before = fates(kernel.ruleset(), &packets);
            step.iter().for_each(|h| note(&mut planner, h));
            let whole = planner.update().transaction;
            let after = fates(&planner.full(), &packets);
            for batch in &Transaction::in_batches(whole.batches.concat(), max).batches {
                kernel.commit(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
                for (at, now) in fates(kernel.ruleset(), &packets).iter().enumerate() {
                    for fate in now {
                        let (packet, batch) = (&packets[at], Transaction { batches: vec![batch.clone()] });
                        prop_assert!(
                            is_right(fate, &before[at], &after[at]),
                            "{packet:?}: {fate}, which is neither of {:?} nor of {:?}, after\n{}",
                            before[at], after[at], pintle_nft::text::transaction(&batch)
                        );
                    }
                }
            }
            prop_assert_eq!(kernel.ruleset(), &planner.full());
        }
    }

    /// While a full load is under way packets see what was there before, with the last batch all of the new.
    #[test]
    fn a_load_takes_over_at_one_stroke(
        story in prop::collection::vec(happening(), 1..10), then in prop::collection::vec(happening(), 1..10), batch in 1..30_usize
    ) {
        let packets = packets();
        let mut planner = Planner::new(config());
        let mut kernel = Kernel::default();
        for noted in [&story, &then] {
            noted.iter().for_each(|h| note(&mut planner, h));
            planner.absorb();
            let before = fates(kernel.ruleset(), &packets);
            let batches: Vec<_> = planner.load(batch).collect();
            for (at, batch) in batches.iter().enumerate() {
                kernel.commit(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
                if at + 1 < batches.len() {
                    prop_assert_eq!(&fates(kernel.ruleset(), &packets), &before);
                }
            }
            prop_assert_eq!(kernel.ruleset(), &planner.full());
        }
    }
}
