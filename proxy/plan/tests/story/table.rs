//! The table of what users expect, walked by imaginary packets: both families, all transport protocols, every row.

use std::collections::BTreeSet;

use pintle_nft::trace::{Fate, Interface, Machine, Origin, Packet, SourceSeen, trace};
use pintle_nft::{Family, Proto, Ruleset};
use pintle_proxy_cases::{Case, Client, Destination, Row, Sees, Setting, Want, World, cases};
use pintle_proxy_plan::{Change, Config, DetectLocal, Masquerade, NodePortAddresses, Planner};

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

pub fn rules(family: Family, world: &World, case: &Case, protocol: &str) -> Ruleset {
    let mut planner = Planner::new(config(family, world, case));
    planner.note(Change::Service(&case.service(world, protocol)));
    planner.note(Change::Slice(&case.slice(world, protocol)));
    planner.update();
    planner.full()
}

#[test]
fn every_row_of_the_table_holds_for_both_families_and_all_protocols() {
    let mut wrong = Vec::new();
    for case in cases() {
        for (family, world) in worlds() {
            for (proto, protocol) in PROTOCOLS {
                let ruleset = rules(family, &world, &case, protocol);
                for row in &case.rows {
                    let packet = packet(&world, &case, row.from, row.to, proto);
                    let (got, want) = (trace(&ruleset, &machine(&world), packet), wanted(&world, &case, row));
                    if got != want {
                        let case = &case.title;
                        wrong.push(format!("line {} ({case}), {family:?} {protocol}: {got:?}, not {want:?}", row.line));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_client_with_affinity_keeps_its_server_at_every_address() {
    for case in cases().iter().filter(|c| c.has("affinity")) {
        for (family, world) in worlds() {
            let ruleset = rules(family, &world, case, "TCP");
            for from in [Client::Pod, Client::Node, Client::Outside] {
                for first in [Destination::ClusterIp, Destination::NodePort] {
                    remembers(&ruleset, &world, case, from, first);
                }
            }
        }
    }
}

/// Sends a packet every way it may go; whatever it leaves behind must decide the next one, at every address whose
/// servers include that one.
fn remembers(ruleset: &Ruleset, world: &World, case: &Case, from: Client, first: Destination) {
    for journey in pintle_nft::trace::journeys(ruleset, &machine(world), packet(world, case, from, first, Proto::Tcp)) {
        let Fate::Delivered { to: server, .. } = journey.fate else { continue };
        assert_eq!(journey.remembered.len(), 1, "{}", case.title);
        let mut knowing = machine(world);
        knowing.remembered.extend(journey.remembered);
        for to in [Destination::ClusterIp, Destination::NodePort] {
            let next = packet(world, case, from, to, Proto::Tcp);
            let servers = |fates: BTreeSet<Fate>| -> BTreeSet<_> {
                fates
                    .into_iter()
                    .filter_map(|f| if let Fate::Delivered { to, .. } = f { Some(to) } else { None })
                    .collect()
            };
            let all = servers(trace(ruleset, &machine(world), next));
            let now = servers(trace(ruleset, &knowing, next));
            if all.contains(&server) {
                assert_eq!(now, BTreeSet::from([server]), "{}: {from:?} to {to:?}", case.title);
            } else {
                assert_eq!(now, all, "{}: {from:?} to {to:?}", case.title);
            }
        }
    }
}
