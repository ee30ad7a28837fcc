//! The table of what users expect, walked by imaginary packets in every mode: both families, all transport protocols,
//! every row.

use std::collections::BTreeSet;

use pintle_nft::trace::{Fate, Interface, Journey, Machine, Origin, Packet, SourceSeen};
use pintle_nft::{Family, Proto};
use pintle_proxy_cases::{Case, Client, Destination, Row, Sees, Setting, Want, World, cases};
use pintle_proxy_plan::backend::Backend as _;
use pintle_proxy_plan::{
    Change, Config, DetectLocal, Masquerade, NodePortAddresses, ServiceMap, iptables, nftables, userspace,
};

pub const PROTOCOLS: [(Proto, &str); 3] = [(Proto::Tcp, "TCP"), (Proto::Udp, "UDP"), (Proto::Sctp, "SCTP")];

pub fn worlds() -> [(Family, World); 2] {
    [(Family::V4, World::v4()), (Family::V6, World::v6())]
}

pub fn config(family: Family, world: &World, case: &Case) -> Config {
    let range = |text: &str| vec![text.parse().unwrap()];
    let mut config = Config {
        family,
        node_addrs: vec![world.node],
        zone: Some(World::ZONE.into()),
        ..Config::new(World::NODE, range(world.pods), range(world.services))
    };
    for setting in &case.config {
        match setting {
            Setting::MasqueradeAll => config.masquerade = Masquerade::All,
            Setting::NodePortsElsewhere => {
                config.node_port_addresses = NodePortAddresses::In(range(world.around_outside));
            }
            Setting::PodsByInterface => {
                config.detect_local = DetectLocal::InterfaceNamePrefix(World::POD_INTERFACES.into());
            }
            // Egress would masquerade by them too.
            Setting::NoPodRanges => config.cluster_ranges = Vec::new(),
        }
    }
    config
}

pub fn packet(world: &World, case: &Case, from: Client, to: Destination, proto: Proto) -> Packet {
    let here = |name| case.is_here(name);
    let (destination, port) = world.destination(to, here);
    let (origin, ingress) = match from {
        Client::Node | Client::NodeAsLoadBalancer => (Origin::Local, Interface::default()),
        Client::Pod | Client::Endpoint(_) => (Origin::Arriving, Interface::named("veth1a2b3c")),
        Client::OtherNode | Client::Outside => (Origin::Arriving, Interface::named("eth0")),
    };
    Packet { source: world.source(from, here), destination, proto, port, origin, ingress }
}

pub fn machine(world: &World) -> Machine {
    Machine { local: [world.node].into(), ..Machine::default() }
}

fn wanted(world: &World, case: &Case, row: &Row) -> BTreeSet<Fate> {
    match &row.want {
        Want::Reject => [Fate::Rejected].into(),
        Want::Drop => [Fate::Dropped].into(),
        Want::Untouched => {
            let (to, port) = world.destination(row.to, |name| case.is_here(name));
            [Fate::Delivered { to, port, source: SourceSeen::Kept }].into()
        }
        Want::Servers(servers) => servers
            .iter()
            .map(|server| Fate::Delivered {
                to: world.endpoint(server.name, case.is_here(server.name)),
                port: World::TARGET_PORT,
                source: if server.sees == Sees::Machine { SourceSeen::Masqueraded } else { SourceSeen::Kept },
            })
            .collect(),
    }
}

fn map(family: Family, world: &World, case: &Case, protocol: &str) -> ServiceMap {
    let mut map = ServiceMap::new(config(family, world, case));
    map.note(Change::Service(&case.service(world, protocol)));
    map.note(Change::Slice(&case.slice(world, protocol)));
    map.resolve();
    map
}

/// Walks packets through what a mode plans.
type Walk = Box<dyn Fn(&Machine, Packet) -> Vec<Journey>>;

/// A way to serve Services.
struct Mode {
    name: &'static str,
    protocols: &'static [(Proto, &'static str)],
    plan: fn(ServiceMap) -> Walk,
    /// A row as it holds there.
    row: fn(&Case, &Row) -> Row,
}

const MODES: [Mode; 3] = [
    Mode {
        name: "nftables",
        protocols: &PROTOCOLS,
        plan: |map| {
            let rules = nftables::ruleset(&map);
            Box::new(move |machine, packet| pintle_nft::trace::journeys(&rules, machine, packet))
        },
        row: |_, row| row.clone(),
    },
    Mode {
        name: "iptables",
        protocols: &PROTOCOLS,
        plan: |map| {
            let rules = iptables(&map);
            Box::new(move |machine, packet| iptables::trace::journeys(&rules, machine, packet))
        },
        row: |_, row| row.clone(),
    },
    Mode {
        name: "userspace",
        // SCTP it refuses.
        protocols: PROTOCOLS.split_at(2).0,
        plan: |map| Box::new(move |machine, packet| userspace::trace::journeys(&map, machine, packet)),
        row: |case, row| match (row.to, &row.want) {
            // Whether another process listens there the proxy does not know.
            (Destination::NodePort, Want::Untouched) => row.clone(),
            _ => case.in_userspace(row),
        },
    },
];

/// The rules of mode iptables, as a machine without any has them after a full load.
pub fn iptables(map: &ServiceMap) -> iptables::trace::Rules {
    let mut tables = iptables::Tables::default();
    tables.restore(iptables::Iptables::default().full(map).text()).unwrap();
    iptables::trace::Rules::read(map.config().family, &tables).unwrap()
}

fn fates(journeys: Vec<Journey>) -> BTreeSet<Fate> {
    journeys.into_iter().map(|journey| journey.fate).collect()
}

/// What is wrong in a case, in a mode.
fn wrong(mode: &Mode, case: &Case, (family, world): &(Family, World)) -> Vec<String> {
    let mut wrong = Vec::new();
    for (proto, protocol) in mode.protocols {
        let walk = (mode.plan)(map(*family, world, case, protocol));
        for row in case.rows.iter().map(|row| (mode.row)(case, row)) {
            let got = fates(walk(&machine(world), packet(world, case, row.from, row.to, *proto)));
            let want = wanted(world, case, &row);
            if got != want {
                let (line, case) = (row.line, &case.title);
                wrong.push(format!("line {line} ({case}), {} {family:?} {protocol}: {got:?}, not {want:?}", mode.name));
            }
        }
    }
    wrong
}

#[test]
fn every_row_of_the_table_holds_in_every_mode_for_both_families_and_all_protocols() {
    let (cases, worlds) = (cases(), worlds());
    let all = MODES.iter().flat_map(|mode| cases.iter().map(move |case| (mode, case)));
    let wrong: Vec<String> = all
        .flat_map(|(mode, case)| worlds.iter().flat_map(|world| wrong(mode, case, world)).collect::<Vec<_>>())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_client_with_affinity_keeps_its_server_at_every_address() {
    for (mode, case) in
        MODES.iter().flat_map(|m| cases().into_iter().filter(|c| c.has("affinity")).map(move |c| (m, c)))
    {
        for (family, world) in worlds() {
            let walk = (mode.plan)(map(family, &world, &case, "TCP"));
            for from in [Client::Pod, Client::Node, Client::Outside] {
                for first in [Destination::ClusterIp, Destination::NodePort] {
                    remembers(&walk, &world, &case, from, first);
                }
            }
        }
    }
}

/// Sends a packet every way it may go; whatever it leaves behind must decide the next one, at every address whose
/// servers include that one.
fn remembers(walk: &Walk, world: &World, case: &Case, from: Client, first: Destination) {
    for journey in walk(&machine(world), packet(world, case, from, first, Proto::Tcp)) {
        let Fate::Delivered { to: server, .. } = journey.fate else { continue };
        assert_eq!(journey.remembered.len(), 1, "{}", case.title);
        let mut knowing = machine(world);
        knowing.remembered.extend(journey.remembered);
        for to in [Destination::ClusterIp, Destination::NodePort] {
            let next = packet(world, case, from, to, Proto::Tcp);
            let servers = |journeys: Vec<Journey>| -> BTreeSet<_> {
                let to = |fate| if let Fate::Delivered { to, .. } = fate { Some(to) } else { None };
                journeys.into_iter().filter_map(|journey| to(journey.fate)).collect()
            };
            let all = servers(walk(&machine(world), next));
            let now = servers(walk(&knowing, next));
            let want = if all.contains(&server) { BTreeSet::from([server]) } else { all };
            assert_eq!(now, want, "{}: {from:?} to {to:?}", case.title);
        }
    }
}
