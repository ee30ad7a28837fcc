//! What sockets find as they connect: never anything but what the table of behaviour promises to packets, at no moment
//! of a change anything but old or new servers, and nothing that nobody leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pintle_nft::{Family, Proto};
use pintle_proxy_cases::{Case, Client, Sees, Setting, Want, World, cases};
use pintle_proxy_plan::connect::layout::{At, Element, Lead, ListId, Reach, any};
use pintle_proxy_plan::connect::tables::here;
use pintle_proxy_plan::connect::{Plan, Tables};
use pintle_proxy_plan::endpoints::Backend;
use pintle_proxy_plan::{Change, Planner};
use proptest::prelude::*;
use serde_json::json;

use crate::happening::{happening, note};
use crate::objects::{service, slice, web};
use crate::table::{PROTOCOLS, config, worlds};

/// The maps, as programs see them.
#[derive(Debug, Default, PartialEq)]
struct Maps {
    frontends: BTreeMap<At, Lead>,
    endpoints: BTreeMap<(ListId, u32), Backend>,
    members: BTreeSet<(ListId, Backend)>,
}

/// Servers, those of existing flows, and whose sockets.
type Found = (BTreeSet<Backend>, BTreeSet<Backend>, Reach);

impl Maps {
    /// Looks at every frontend after every single operation.
    fn apply(&mut self, plan: &Plan, look: impl Fn(&Self)) {
        for element in &plan.fill {
            match *element {
                Element::Endpoint(list, number, server) => drop(self.endpoints.insert((list, number), server)),
                Element::Member(list, server) => drop(self.members.insert((list, server))),
            }
            look(self);
        }
        for (at, lead) in &plan.switch {
            match lead {
                Some(lead) => drop(self.frontends.insert(*at, *lead)),
                None => drop(self.frontends.remove(at)),
            }
            look(self);
        }
        for element in &plan.free {
            let was_there = match *element {
                Element::Endpoint(list, number, _) => self.endpoints.remove(&(list, number)).is_some(),
                Element::Member(list, server) => self.members.remove(&(list, server)),
            };
            assert!(was_there, "{element:?} was not there");
            look(self);
        }
    }

    fn find(&self, at: &At) -> Option<Found> {
        let lead = self.frontends.get(at)?;
        let draw = |number| *self.endpoints.get(&(lead.list, number)).unwrap_or_else(|| panic!("a miss at {at:?}"));
        let members = self.members.iter().filter(|(list, _)| *list == lead.list).map(|(_, server)| *server);
        assert_ne!(lead.count, 0, "{at:?}");
        Some(((0..lead.count).map(draw).collect(), members.collect(), lead.reach))
    }

    fn all(&self) -> BTreeMap<At, Option<Found>> {
        self.frontends.keys().map(|at| (*at, self.find(at))).collect()
    }

    /// Whether every entry belongs to a list somebody leads to.
    fn is_tidy(&self) -> bool {
        let lists: BTreeSet<ListId> = self.frontends.values().map(|lead| lead.list).collect();
        self.endpoints.keys().all(|(list, _)| lists.contains(list))
            && self.members.iter().all(|(list, _)| lists.contains(list))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_every_moment_a_socket_finds_the_old_or_the_new_and_in_the_end_what_a_full_load_gives(
        story in prop::collection::vec(prop::collection::vec(happening(), 1..4), 1..12)
    ) {
        let mut planner = Planner::new(crate::config());
        let (mut tables, mut maps) = (Tables::new(Family::V4), Maps::default());
        for step in &story {
            step.iter().for_each(|h| note(&mut planner, h));
            let concerned = planner.absorb().concerned;
            let mut fresh = Maps::default();
            fresh.apply(&Tables::new(Family::V4).full(planner.map()), |_| ());
            let (before, after) = (maps.all(), fresh.all());
            let plan = tables.change(planner.map(), &concerned);
            maps.apply(&plan, |maps| for at in before.keys().chain(after.keys()) {
                let servers = |found: Option<&Option<Found>>| found.and_then(|f| f.as_ref()).map(|f| f.0.clone());
                let found = maps.find(at).map(|f| f.0);
                assert!([servers(before.get(at)), servers(after.get(at))].contains(&found), "{at:?}: {found:?}");
            });
            prop_assert_eq!(maps.all(), after);
            prop_assert!(maps.is_tidy(), "{maps:?}");
            prop_assert!(tables.change(planner.map(), &concerned).is_empty());
        }
    }
}

/// Who may answer a socket of the node or of a pod by an address, if that is settled as it connects.
fn found(maps: &Maps, world: &World, addr: IpAddr, port: u16, proto: Proto, is_pod: bool) -> Option<BTreeSet<IpAddr>> {
    let family = Family::of(world.node);
    let at = |addr| At { addr, proto, port };
    let answers = |servers: BTreeSet<Backend>| servers.into_iter().map(|s| s.addr).collect();
    match maps.find(&at(addr)) {
        Some((_, _, Reach::Node)) if is_pod => None,
        Some((servers, ..)) => Some(answers(servers)),
        None if !is_pod && addr == world.node => Some(answers(maps.find(&at(any(family)))?.0)),
        None => None,
    }
}

/// What is wrong with what a client finds, if it is none of what the row allows.
fn wrong(case: &Case, row: &pintle_proxy_cases::Row, world: &World, found: &BTreeSet<IpAddr>) -> Option<String> {
    let Want::Servers(servers) = &row.want else { return Some(format!("{found:?}, not {:?}", row.want)) };
    let allowed: BTreeSet<IpAddr> = servers.iter().map(|s| world.endpoint(s.name, case.is_here(s.name))).collect();
    // Nobody masquerades a pod's socket, but for one that reaches itself, where that is to bring answers back.
    let sees_machine = |s: &pintle_proxy_cases::Server| s.sees == Sees::Machine && row.from != Client::Endpoint(s.name);
    let is_pod = row.from != Client::Node;
    if *found != allowed || (is_pod && servers.iter().any(sees_machine)) {
        return Some(format!("{found:?}, not {servers:?}"));
    }
    None
}

#[test]
fn sockets_find_what_the_table_promises_to_packets_or_nothing() {
    let (mut mistakes, mut settled) = (Vec::new(), 0);
    for case in cases() {
        for ((family, world), (proto, protocol)) in worlds().iter().flat_map(|w| PROTOCOLS.map(|p| (w, p))) {
            let config = config(*family, world, &case);
            let answers = here(&config, &[world.node, world.loopback], false);
            assert_eq!(answers.contains(&world.node), !case.config.contains(&Setting::NodePortsElsewhere));
            let mut planner = Planner::new(config);
            planner.note(Change::Service(&case.service(world, protocol)));
            planner.note(Change::Slice(&case.slice(world, protocol)));
            planner.absorb();
            let mut maps = Maps::default();
            maps.apply(&Tables::new(*family).full(planner.map()), |_| ());
            for row in &case.rows {
                let is_pod = match row.from {
                    Client::Node => false,
                    Client::Pod | Client::Endpoint(_) => true,
                    // No sockets of this node, or bound to an address.
                    Client::OtherNode | Client::Outside | Client::NodeAsLoadBalancer => continue,
                };
                let (addr, port) = world.destination(row.to, |name| case.is_here(name));
                if addr == world.node && !answers.contains(&addr) {
                    continue;
                }
                let Some(found) = found(&maps, world, addr, port, proto, is_pod) else { continue };
                settled += 1;
                let what = wrong(&case, row, world, &found);
                mistakes.extend(what.map(|what| format!("line {} ({}), {protocol}: {what}", row.line, case.title)));
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(settled > 100, "only {settled} rows are settled as sockets connect");
}

#[test]
fn frontends_of_a_port_with_one_policy_share_a_list_and_udp_has_members() {
    let spec = json!({"type": "NodePort", "internalTrafficPolicy": "Local", "externalIPs": ["198.51.100.1"], "ports": [
        {"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"},
    ]});
    let mut udp = slice("web", ("dns", "UDP", 5353), &["10.42.0.2@here", "10.42.1.2!leaving"]);
    udp.metadata.name = Some("web-2".into());
    let mut planner =
        crate::planner(&[service("web", "10.43.0.10", spec)], &[web("web", &["10.42.0.2@here", "10.42.1.2"]), udp]);
    planner.absorb();
    let plan = Tables::new(Family::V4).full(planner.map());
    let of = |addr: &str, proto, port| plan.switch[&At { addr: addr.parse().unwrap(), proto, port }].unwrap();
    let (cluster_ip, external, node_port) =
        (of("10.43.0.10", Proto::Tcp, 80), of("198.51.100.1", Proto::Tcp, 80), of("0.0.0.0", Proto::Tcp, 30080));
    assert_eq!((cluster_ip.count, cluster_ip.reach), (1, Reach::Everybody));
    assert_eq!((external.count, external.reach), (2, Reach::Node));
    assert_eq!(external, node_port);
    let dns = of("10.43.0.10", Proto::Udp, 53).list;
    let members = plan.fill.iter().filter(|e| matches!(e, Element::Member(list, _) if *list == dns)).count();
    assert_eq!(members, 2, "the one on its way out keeps its flows: {plan:?}");
}
