//! Between two batches packets pass too. Whatever the change, and wherever its operations are cut: a packet meets a
//! server of before or after, never another, and is refused or dropped only if it was or will be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pintle_nft::trace::{Fate, Interface, Later, Machine, Origin, Packet, SourceSeen, trace, trace_amid};
use pintle_nft::{Kernel, Proto, Ruleset, TableId, Transaction, diff};
use pintle_proxy_plan::nftables::{Part, unhook};
use pintle_proxy_plan::{Config, Planner};
use proptest::prelude::*;

use crate::happening::{Happening, happening, note};
use crate::{config, fresh_from};

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
    packets.iter().map(|packet| trace(ruleset, &machine(), *packet)).collect()
}

fn machine() -> Machine {
    Machine { local: ["192.0.2.1".parse().unwrap()].into(), ..Machine::default() }
}

/// The same step where no two Services share a server; [`owner`] tells whose a server is.
fn apart(happening: Happening) -> Happening {
    match happening {
        Happening::Endpoints { service, list } => {
            let list = list.into_iter().map(|(addr, state)| (addr + 4 * service, state)).collect();
            Happening::Endpoints { service, list }
        }
        other => other,
    }
}

/// The Service whose server this is, if it is one.
fn owner(addr: IpAddr) -> Option<u8> {
    match addr {
        IpAddr::V4(addr) if addr.octets()[..3] == [10, 42, 0] => Some((addr.octets()[3] - 2) / 4),
        _ => None,
    }
}

/// What may become of each packet: what became of it before the change, and what will after it.
struct Right<'a> {
    packets: &'a [Packet],
    before: &'a [BTreeSet<Fate>],
    after: &'a [BTreeSet<Fate>],
}

impl Right<'_> {
    /// Nobody is refused or dropped who neither was nor will be. A server is one of before or after, of a Service that has
    /// the place before or after: which of them are for whom is said in other lookups than where they are. To be seen as
    /// this machine is always right, since the answer comes back through us; to be seen as oneself only where it is before
    /// or after.
    fn check(&self, at: usize, fate: &Fate) -> bool {
        let known = |n: usize| self.before[n].iter().chain(&self.after[n]);
        let Fate::Delivered { to, source, .. } = fate else { return known(at).any(|k| k == fate) };
        let place = |n: usize| (self.packets[n].destination, self.packets[n].port);
        let everywhere = || (0..self.packets.len()).flat_map(|n| known(n).map(move |k| (place(n), k)));
        let is_server = everywhere().any(|(_, k)| matches!(k, Fate::Delivered { to: t, .. } if t == to));
        let is_its = everywhere().any(|(p, k)| {
            let is_of_same = |t: &IpAddr| t == to || owner(*t).is_some_and(|o| Some(o) == owner(*to));
            p == place(at) && matches!(k, Fate::Delivered { to: t, .. } if is_of_same(t))
        });
        let kept = |k: &Fate| matches!(k, Fate::Delivered { source: SourceSeen::Kept, .. });
        is_server && is_its && (*source == SourceSeen::Masqueraded || known(at).any(kept))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_packet_meets_a_wrong_answer_between_batches(
        story in prop::collection::vec(prop::collection::vec(happening().prop_map(apart), 1..4), 1..6), max in 1..4_usize,
        fresh_from in fresh_from()
    ) {
        let packets = packets();
        let mut planner = Planner::new(Config { fresh_from, ..config() });
        let mut kernel = Kernel::default();
        loaded(&mut planner, &mut kernel, 100, |_, _| Ok(()))?;
        for step in &story {
            let before = fates(kernel.ruleset(), &packets);
            step.iter().for_each(|h| note(&mut planner, h));
            let whole = planner.update().transaction;
            let after = fates(&planner.full(), &packets);
            let right = Right { packets: &packets, before: &before, after: &after };
            for batch in &diff::in_batches(whole.batches.concat(), max) {
                kernel.commit(batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
                for (at, now) in fates(kernel.ruleset(), &packets).iter().enumerate() {
                    for fate in now {
                        let (packet, batch) = (&packets[at], Transaction::of(vec![batch.clone()]));
                        prop_assert!(
                            right.check(at, fate),
                            "{packet:?}: {fate}, which is neither of {:?} nor of {:?}, after\n{}",
                            before[at], after[at], pintle_nft::text::transaction(&batch)
                        );
                    }
                }
            }
            prop_assert_eq!(kernel.ruleset(), &planner.full());
        }
    }

    /// A packet is not judged at one stroke: while it is, batches of one phase may come, between any two lookups.
    #[test]
    fn no_packet_is_lost_amid_the_rules(
        story in prop::collection::vec(prop::collection::vec(happening().prop_map(apart), 1..4), 1..5),
        max in prop_oneof![1..4_usize, Just(diff::BATCH_MAX)],
        fresh_from in fresh_from()
    ) {
        let packets = packets();
        let mut planner = Planner::new(Config { fresh_from, ..config() });
        let mut kernel = Kernel::default();
        loaded(&mut planner, &mut kernel, 100, |_, _| Ok(()))?;
        for step in &story {
            updated(&mut planner, &mut kernel, &packets, step, max)?;
        }
    }

    /// While a full load is under way packets see what was there before; then all of the new. While both tables have
    /// hooks, and while packets are in the old one, they see one or the other.
    #[test]
    fn a_load_takes_over_without_a_gap(
        story in prop::collection::vec(happening().prop_map(apart), 1..10), then in prop::collection::vec(happening().prop_map(apart), 1..10), batch in 1..30_usize,
        fresh_from in fresh_from()
    ) {
        let packets = packets();
        let mut planner = Planner::new(Config { fresh_from, ..config() });
        let mut kernel = Kernel::default();
        for noted in [&story, &then] {
            noted.iter().for_each(|h| note(&mut planner, h));
            planner.absorb();
            let (before, after) = (fates(kernel.ruleset(), &packets), fates(&planner.full(), &packets));
            let right = Right { packets: &packets, before: &before, after: &after };
            loaded(&mut planner, &mut kernel, batch, |was, is| amid(std::slice::from_ref(was), is, &right))?;
            prop_assert_eq!(kernel.ruleset(), &planner.full());
        }
    }
}

/// The same for every change of how many servers there are: from fresh and settled, and back by settling.
#[test]
fn no_packet_is_lost_when_a_fresh_service_gets_more_or_fewer_servers() {
    let its = ["10.43.0.1", "198.51.100.2", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
    let packets = packets()
        .into_iter()
        .filter(|p| its.contains(&p.destination) && [80, 30000].contains(&p.port))
        .collect::<Vec<_>>();
    let servers = |count: u8| Happening::Endpoints { service: 0, list: (0..count).map(|n| (n, n % 2)).collect() };
    let counts = |shape| [(0, 2), (2, 0), (1, 2), (2, 1)].map(|(was, is)| (shape, was, is));
    // Of a ClusterIP; of a load balancer and a node port by policy Local.
    let cases = [0, 5]
        .into_iter()
        .flat_map(counts)
        .flat_map(|case| [(case, false, 1), (case, false, diff::BATCH_MAX), (case, true, 1)]);
    for ((shape, was, is), settles, max) in cases {
        let put = Happening::Put { service: 0, vip: 0, shape };
        let mut planner = Planner::new(Config { fresh_from: 0, ..config() });
        let mut kernel = Kernel::default();
        loaded(&mut planner, &mut kernel, 100, |_, _| Ok(())).unwrap();
        let between = if settles { vec![Happening::Settle] } else { Vec::new() };
        for step in [vec![put.clone(), servers(was)], between, vec![servers(is)], vec![Happening::Settle]] {
            let at_once = updated(&mut planner, &mut kernel, &packets, &step, max).unwrap();
            assert!(at_once, "shape {shape}, from {was} to {is}: {step:?}");
        }
        assert!(planner.is_settled());
    }
}

/// An update in batches of so many operations, seen by packets that are amid the rules whenever one comes. Whether it is in
/// effect after its first phase.
fn updated(
    planner: &mut Planner,
    kernel: &mut Kernel,
    packets: &[Packet],
    step: &[Happening],
    max: usize,
) -> Result<bool, TestCaseError> {
    let before = fates(kernel.ruleset(), packets);
    step.iter().for_each(|h| note(planner, h));
    let whole = planner.update().transaction;
    let after = fates(&planner.full(), packets);
    let right = Right { packets, before: &before, after: &after };
    let mut at_once = true;
    for (number, phase) in whole.phases().enumerate() {
        let mut seen = vec![kernel.ruleset().clone()];
        for batch in phase.iter().flat_map(|batch| diff::in_batches(batch.clone(), max)) {
            kernel.commit(&batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
            amid(&seen, kernel.ruleset(), &right)?;
            seen.push(kernel.ruleset().clone());
        }
        at_once &= number > 0 || fates(kernel.ruleset(), packets) == after;
    }
    Ok(at_once)
}

/// A full load; `each` sees what was and what is after every batch.
fn loaded(
    planner: &mut Planner,
    kernel: &mut Kernel,
    batch: usize,
    each: impl Fn(&Ruleset, &Ruleset) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let old: Vec<TableId> = planner.serving().collect();
    let parts: Vec<Part> = planner.load(batch).collect();
    for part in parts {
        let has_hooks = |id: &&TableId| {
            kernel.ruleset().tables.get(*id).is_some_and(|t| t.chains.values().any(|c| c.hook.is_some()))
        };
        let serve = old.iter().filter(has_hooks);
        let first = if matches!(part, Part::Remove(_)) { serve.flat_map(unhook).collect() } else { Vec::new() };
        for ops in [first, part.ops()] {
            let before = kernel.ruleset().clone();
            kernel.commit(&ops).map_err(|e| TestCaseError::fail(e.to_string()))?;
            each(&before, kernel.ruleset())?;
        }
    }
    Ok(())
}

/// More chains and lookups than any packet needs.
const READS_MAX: usize = 18;

/// Packets that entered when one of these was installed, and met `now`, which came last, at any moment of their way.
fn amid(seen: &[Ruleset], now: &Ruleset, right: &Right<'_>) -> Result<(), TestCaseError> {
    let machine = machine();
    let last = seen.last().unwrap_or(now);
    let each = seen.iter().flat_map(|was| [last, now].map(|rules| (was, rules)));
    for ((was, rules), reads) in each.flat_map(|seen| (0..=READS_MAX).map(move |reads| (seen, reads))) {
        let later = Later { reads, after: now, rules };
        for (at, packet) in right.packets.iter().enumerate() {
            for fate in &trace_amid(was, later, &machine, *packet) {
                prop_assert!(
                    right.check(at, fate),
                    "{packet:?}: {fate}, which is neither of {:?} nor of {:?}, when after {reads} reads of\n{}\ncame\n{}",
                    right.before[at],
                    right.after[at],
                    pintle_nft::text::ruleset(was),
                    pintle_nft::text::ruleset(now)
                );
            }
        }
    }
    Ok(())
}
