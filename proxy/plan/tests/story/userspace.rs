//! The userspace backend's rendering: changes as large as what changed, and filters that are read as the kernel reads
//! them. The table is walked in `table`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pintle_nft::trace::Origin::Arriving;
use pintle_nft::trace::{Fate, Interface, Machine, Packet};
use pintle_nft::{Cidr, Family, Proto};
use pintle_proxy_cases::{Case, World, cases};
use pintle_proxy_plan::backend::Backend as _;
use pintle_proxy_plan::userspace::filter::{self, INSNS_MAX, Insn};
use pintle_proxy_plan::userspace::{
    Guard, Hold, Listener, Plan, Sources, Userspace, listeners, node_port_addrs, trace,
};
use pintle_proxy_plan::{Change, Claim, Config, Loopback, NodePortAddresses, ServiceMap};
use proptest::prelude::*;

use crate::objects::{service, slice, web};

/// A packet as a filter sees it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    source: IpAddr,
    by_loopback: bool,
}

/// Whether the filter lets it in; as the kernel runs it.
fn passes(program: &[Insn], seen: Seen) -> bool {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Insn { code, if_true, if_false, k } = program[at];
        at += 1;
        match code {
            0x20 => accumulator = load(seen, k),
            0x54 => accumulator &= k,
            0x15 => at += usize::from(if accumulator == k { if_true } else { if_false }),
            0x05 => at += k as usize,
            0x06 => return k != 0,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn load(seen: Seen, k: u32) -> u32 {
    if k == 0xffff_f008 {
        return if seen.by_loopback { 1 } else { 7 };
    }
    let (first, octets) = match seen.source {
        IpAddr::V4(a) => (12, a.octets().to_vec()),
        IpAddr::V6(a) => (8, a.octets().to_vec()),
    };
    let at = (k - 0xfff0_0000 - first) as usize;
    octets[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn hears(guard: &Guard, seen: Seen) -> bool {
    filter::compile(guard, Family::of(seen.source)).unwrap().is_none_or(|program| passes(&program, seen))
}

#[test]
fn sctp_is_refused_and_the_plan_says_so() {
    let mut map = ServiceMap::new(crate::config());
    let spec = serde_json::json!({"ports": [{"name": "s", "port": 53, "protocol": "SCTP"}]});
    map.note(Change::Service(&service("web", "10.43.0.10", spec)));
    map.note(Change::Slice(&slice("web", ("s", "SCTP", 53), &["10.42.1.2"])));
    map.resolve();
    let text = pintle_proxy_plan::userspace::text(&map);
    assert!(text.contains("refuse 10.43.0.10:53/sctp for d/web: SCTP is not forwarded"), "{text}");
    let packet = Packet {
        source: "203.0.113.5".parse().unwrap(),
        destination: "10.43.0.10".parse().unwrap(),
        proto: Proto::Sctp,
        port: 53,
        origin: Arriving,
        ingress: Interface::default(),
    };
    let ways = trace::journeys(&map, &Machine::default(), packet);
    assert_eq!(ways.iter().map(|way| way.fate.clone()).collect::<Vec<_>>(), [Fate::Rejected]);
}

#[test]
fn every_difference_concerns_a_row_and_changes_it() {
    let cases = cases();
    for difference in pintle_proxy_cases::userspace::DIFFERENCES {
        let concerned = |case: &Case| {
            case.rows.iter().any(|row| (difference.concerns)(row) && (difference.instead)(case, row) != row.want)
        };
        assert!(cases.iter().any(concerned), "{}", difference.why);
    }
}

fn resolved(map: &mut ServiceMap, backend: &mut Userspace, changes: &[Change<'_>]) -> Plan {
    changes.iter().for_each(|change| map.note(*change));
    let resolved = map.resolve();
    backend.change(map, &resolved.changes)
}

fn shown(plan: &Plan) -> Vec<String> {
    let addrs = plan.addrs.iter().map(|(addr, hold)| format!("{hold:?} {addr}"));
    let servers = |l: &Listener| l.insiders.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let listeners = plan.listeners.iter().map(|(at, listener)| match listener {
        Some(listener) => format!("{at} -> {}", servers(listener)),
        None => format!("{at} closed"),
    });
    addrs.chain(listeners).collect()
}

#[test]
fn a_change_is_as_large_as_what_changed() {
    let (mut map, mut backend) = (ServiceMap::new(crate::config()), Userspace::default());
    let external = serde_json::json!({"externalIPs": ["198.51.100.1"]});
    let (a, b) = (service("a", "10.43.0.1", external.clone()), service("b", "10.43.0.2", serde_json::json!({})));
    let mut shared = service("c", "10.43.0.3", external);
    shared.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 81;
    let slice = web("a", &["10.42.0.2"]);
    let steps = [
        (vec![Change::Service(&a)], vec!["Take 10.43.0.1", "Take 198.51.100.1"]),
        (
            vec![Change::Slice(&slice)],
            vec!["10.43.0.1:80/tcp -> 10.42.0.2:8080", "198.51.100.1:80/tcp -> 10.42.0.2:8080"],
        ),
        (vec![Change::Service(&b), Change::Service(&shared)], vec!["Take 10.43.0.2", "Take 10.43.0.3"]),
        // Somebody else has the address too: it stays.
        (
            vec![Change::ServiceGone(&a)],
            vec!["Give 10.43.0.1", "10.43.0.1:80/tcp closed", "198.51.100.1:80/tcp closed"],
        ),
        (vec![Change::ServiceGone(&shared)], vec!["Give 10.43.0.3", "Give 198.51.100.1"]),
    ];
    for (changes, want) in steps {
        assert_eq!(shown(&resolved(&mut map, &mut backend, &changes)), want);
    }
}

#[test]
fn changes_one_by_one_lead_to_what_is_said_at_once() {
    let (mut map, mut backend) = (ServiceMap::new(crate::config()), Userspace::default());
    let mut known = Plan::default();
    for (n, case) in cases().iter().enumerate() {
        let world = World::v4();
        let plan = resolved(
            &mut map,
            &mut backend,
            &[Change::Service(&case.service(&world, "TCP")), Change::Slice(&case.slice(&world, "TCP"))],
        );
        for (addr, hold) in plan.addrs {
            match hold {
                Hold::Take => assert_eq!(known.addrs.insert(addr, hold), None, "case {n}"),
                Hold::Give => assert_eq!(known.addrs.remove(&addr), Some(Hold::Take), "case {n}"),
            }
        }
        for (at, listener) in plan.listeners {
            match listener {
                Some(_) => drop(known.listeners.insert(at, listener)),
                None => assert!(known.listeners.remove(&at).is_some(), "case {n}"),
            }
        }
        assert_eq!(known, Userspace::default().full(&map), "case {n}: {}", case.title);
    }
}

#[test]
fn node_ports_are_listened_for_where_they_are_told_to_be() {
    let machine: Vec<IpAddr> =
        ["127.0.0.1", "192.0.2.1", "10.0.0.1", "fd00::1", "fe80::1", "::1"].map(|a| a.parse().unwrap()).into();
    let show = |addresses: NodePortAddresses, family, loopback| {
        let config = Config { node_port_addresses: addresses, loopback, ..crate::config().for_family(family) };
        node_port_addrs(&config, &machine).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let within = |text: &str| NodePortAddresses::In(vec![text.parse().unwrap()]);
    use Loopback::{Answers, Silent};
    for (addresses, family, loopback, want) in [
        (NodePortAddresses::All, Family::V4, Answers, "0.0.0.0"),
        (NodePortAddresses::All, Family::V6, Answers, "::"),
        (NodePortAddresses::All, Family::V4, Silent, "10.0.0.1 192.0.2.1"),
        (NodePortAddresses::All, Family::V6, Silent, "fd00::1"),
        (NodePortAddresses::Primary, Family::V4, Answers, "192.0.2.1"),
        (within("10.0.0.0/8"), Family::V4, Answers, "10.0.0.1"),
        (within("127.0.0.0/8"), Family::V4, Answers, "127.0.0.1"),
        (within("127.0.0.0/8"), Family::V4, Silent, ""),
        (within("10.0.0.0/8"), Family::V6, Answers, ""),
    ] {
        assert_eq!(show(addresses.clone(), family, loopback), want, "{addresses:?} {family:?} {loopback:?}");
    }
}

#[test]
fn more_source_ranges_than_a_filter_holds_are_an_error_that_counts() {
    let ranges = |n: u32| (0..n).map(|n| Cidr::host(IpAddr::from(n.to_be_bytes()))).collect();
    let guard = |n| Guard(vec![Sources { machine: false, ranges: ranges(n) }]);
    assert!(filter::compile(&guard(1000), Family::V4).unwrap().is_some_and(|p| p.len() <= INSNS_MAX));
    assert_eq!(filter::compile(&guard(2000), Family::V4).map_err(|e| e.insns), Err(8002));
}

fn range() -> impl Strategy<Value = Cidr> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(a, n)| Cidr::new(IpAddr::from(a), n).unwrap()),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(a, n)| Cidr::new(IpAddr::from(a), n).unwrap()),
    ]
}

proptest! {
    #[test]
    fn a_filter_hears_whom_its_lists_name(
        lists in proptest::collection::vec((any::<bool>(), proptest::collection::vec(range(), 0..4)), 0..3),
        source in range(),
        near in any::<proptest::sample::Index>(),
        by_loopback: bool,
    ) {
        let all: Vec<Cidr> = lists.iter().flat_map(|(_, ranges)| ranges.clone()).chain([source]).collect();
        // Often at the edge of a range.
        let seen = Seen { source: near.get(&all).network().addr(), by_loopback };
        let guard = Guard(lists.iter().map(|(machine, ranges)| Sources { machine: *machine, ranges: ranges.clone() }).collect());
        let want = guard.0.iter().all(|list| list.contain(seen.source, by_loopback));
        prop_assert_eq!(hears(&guard, seen), want);
    }
}

#[test]
fn a_port_that_nobody_serves_is_not_listened_for() {
    let mut map = ServiceMap::new(crate::config());
    map.note(Change::Service(&service("a", "10.43.0.1", serde_json::json!({}))));
    map.resolve();
    let all: BTreeMap<Claim, Listener> = map.iter().flat_map(|(n, s)| listeners(map.config(), n, s)).collect();
    assert_eq!(all, BTreeMap::new());
}
