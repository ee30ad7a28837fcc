//! What the kernel refuses is left out of the change it came with, and nothing else is: any operation may be the one.

use std::net::IpAddr;

use pintle_nft::trace::{Fate, Interface, Machine, Origin, Packet, trace};
use pintle_nft::{Kernel, Op, Proto};
use pintle_proxy_plan::nftables::Part;
use pintle_proxy_plan::{Config, Planner, Update};
use proptest::prelude::*;

use crate::happening::{Happening, happening, note};
use crate::{config, fresh_from};

/// One synchronisation: what changes, which operations the kernel refuses, and whether those left out are tried again.
type Step = (Vec<Happening>, Option<prop::sample::Index>, bool);

fn commit(kernel: &mut Kernel, batches: &[Vec<Op>]) -> Result<(), TestCaseError> {
    batches.iter().try_for_each(|ops| kernel.commit(ops)).map_err(|e| TestCaseError::fail(e.to_string()))
}

/// Refuses one operation of an update.
fn refuse(planner: &mut Planner, update: &mut Update, which: &prop::sample::Index) {
    let ops: Vec<Op> = update.transaction.batches.concat();
    if !ops.is_empty() {
        let refused = &ops[which.index(ops.len())];
        let named = planner.leave_out_of(update, &[refused]);
        assert!(named.keys().all(|name| planner.left_out().contains(name)));
    }
}

/// Nobody who is left out serves: its address refuses, or is another's.
fn refuses(planner: &Planner, kernel: &Kernel) -> Result<(), TestCaseError> {
    for name in planner.left_out() {
        let Some(served) = planner.map().get(name) else { continue };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let packet = Packet {
            source: address("10.42.0.9"),
            destination: served.service.cluster_ip,
            proto: Proto::Tcp,
            port: 80,
            origin: Origin::Arriving,
            ingress: Interface::default(),
        };
        let others = planner
            .map()
            .iter()
            .any(|(other, s)| !planner.left_out().contains(other) && s.service.cluster_ip == served.service.cluster_ip);
        let fates = trace(kernel.ruleset(), &Machine::default(), packet);
        prop_assert!(others || fates == [Fate::Rejected].into(), "{name}: {fates:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_refused_is_left_out_and_nobody_else(
        story in prop::collection::vec(
            (prop::collection::vec(happening(), 1..4), any::<Option<prop::sample::Index>>(), any::<bool>()), 1..10
        ),
        batch in 1..60_usize, fresh_from in fresh_from(),
    ) {
        let mut planner = Planner::new(Config { fresh_from, ..config() });
        let mut kernel = Kernel::default();
        commit(&mut kernel, &planner.load(100).map(Part::ops).collect::<Vec<_>>())?;
        for (happenings, refused, again) in &story as &Vec<Step> {
            happenings.iter().for_each(|h| note(&mut planner, h));
            if *again {
                planner.try_again();
            }
            let mut update = planner.update();
            if let Some(which) = refused {
                refuse(&mut planner, &mut update, which);
            }
            commit(&mut kernel, &update.transaction.batches)?;
            prop_assert_eq!(kernel.ruleset(), &planner.full());
            refuses(&planner, &kernel)?;
        }
        // A load leaves the same Services out, and nobody is fresh after it.
        planner.settle();
        commit(&mut kernel, &planner.update().transaction.batches)?;
        prop_assert!(planner.is_settled());
        let before = kernel.ruleset().tables.values().next().cloned();
        commit(&mut kernel, &planner.load(batch).map(Part::ops).collect::<Vec<_>>())?;
        prop_assert_eq!(kernel.ruleset().tables.values().next().cloned(), before);
        // And when they are taken, all is there.
        planner.try_again();
        commit(&mut kernel, &planner.update().transaction.batches)?;
        prop_assert!(planner.left_out().is_empty());
        prop_assert_eq!(kernel.ruleset(), &planner.full());
    }
}
