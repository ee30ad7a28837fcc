//! Properties of any sequence of changes, conflicts between Services, and what becomes of flows.

use std::net::IpAddr;

use pintle_nft::{Data, Flow, Proto, Ruleset, SetKind, Transaction, diff};
use pintle_proxy_plan::nftables::Part;
use pintle_proxy_plan::{Change, Config, Planner};
use proptest::prelude::*;
use serde_json::json;

use crate::happening::{happening, note};
use crate::objects::{service, slice, web};
use crate::{config, fresh_from, planner};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sending what each change asks for ends where sending everything would: and then nothing is left to send.
    #[test]
    fn changes_one_by_one_end_where_a_full_push_would(
        story in prop::collection::vec(prop::collection::vec(happening(), 1..4), 1..12), fresh_from in fresh_from()
    ) {
        let mut planner = Planner::new(Config { fresh_from, ..config() });
        let mut installed = Ruleset::default();
        diff::apply(&mut installed, &diff::replace(&planner.full()));
        for step in &story {
            step.iter().for_each(|h| note(&mut planner, h));
            let update = planner.update();
            diff::apply(&mut installed, &update.transaction);
            let full = planner.full();
            prop_assert_eq!(&installed, &full);
            prop_assert!(diff::diff(&installed, &full).is_empty());
        }
        prop_assert!(planner.update().transaction.is_empty());
    }

    /// The order in which Services are told does not matter, but for the numbers of servers: conflicts are decided by
    /// age and name.
    #[test]
    fn the_order_of_events_does_not_matter(story in prop::collection::vec(happening(), 1..12)) {
        let mut forward = Planner::new(config());
        story.iter().for_each(|h| { note(&mut forward, h); forward.update(); });
        let mut at_once = Planner::new(config());
        story.iter().for_each(|h| note(&mut at_once, h));
        at_once.update();
        prop_assert_eq!(whatever_the_numbers(&forward), whatever_the_numbers(&at_once));
    }

    /// A full load in batches of any size ends where everything at once would, and goes on from there.
    #[test]
    fn a_load_in_batches_is_the_whole(
        story in prop::collection::vec(happening(), 1..12), then in prop::collection::vec(happening(), 1..4), batch in 1..40_usize,
        fresh_from in fresh_from()
    ) {
        let mut planner = Planner::new(Config { fresh_from, ..config() });
        story.iter().for_each(|h| note(&mut planner, h));
        prop_assert!(planner.absorb().transaction.is_empty());
        let mut installed = Ruleset::default();
        for again in 0..2 {
            let load = Transaction::of(planner.load(batch).map(Part::ops).collect());
            diff::apply(&mut installed, &load);
            prop_assert_eq!(&installed, &planner.full(), "load {}", again);
        }
        then.iter().for_each(|h| note(&mut planner, h));
        diff::apply(&mut installed, &planner.update().transaction);
        prop_assert_eq!(&installed, &planner.full());
    }
}

/// Everything but which number each server has.
fn whatever_the_numbers(planner: &Planner) -> String {
    let mut ruleset = planner.full();
    let mut servers = Vec::new();
    for (name, set) in ruleset.tables.values_mut().flat_map(|t| &mut t.sets) {
        if matches!(&set.decl.kind, SetKind::Map(_)) {
            servers.extend(set.elements.values().map(|server| format!("{name}: {server:?}")));
            set.elements.values_mut().for_each(|server| *server = Data::None);
        }
    }
    servers.sort();
    // Chains of affinity list servers in their order, which is that of their numbers.
    for chain in ruleset.tables.values_mut().flat_map(|t| t.chains.values_mut()) {
        chain.rules.sort_by_key(|rule| format!("{rule:?}"));
    }
    for set in ruleset.tables.values_mut().flat_map(|t| &mut t.sets).filter(|(n, _)| n.starts_with("affinity-")) {
        set.1.elements.values_mut().for_each(|server| *server = Data::None);
    }
    format!("{}{}", pintle_nft::text::ruleset(&ruleset), servers.join("\n"))
}

#[test]
fn of_two_services_with_one_address_the_older_has_it_until_it_goes() {
    let mut old = service("old", "10.43.0.10", json!({}));
    old.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let mut young = service("a-young", "10.43.0.10", json!({}));
    young.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-02T00:00:00Z")).unwrap();
    let mut planner = planner(&[young, old.clone()], &[web("old", &["10.42.1.1"]), web("a-young", &["10.42.1.2"])]);
    let issues: Vec<String> = planner.update().issues.iter().map(ToString::to_string).collect();
    assert_eq!(
        issues,
        ["service d/a-young: 10.43.0.10:80/tcp belongs to service d/old already; it keeps leading there"]
    );
    let leads_to = |planner: &Planner| {
        let text = pintle_nft::text::ruleset(&planner.full());
        ["10.42.1.1 . 8080", "10.42.1.2 . 8080"].map(|server| text.contains(server))
    };
    assert_eq!(leads_to(&planner), [true, false]);
    planner.note(Change::ServiceGone(&old));
    planner.update();
    assert_eq!(leads_to(&planner), [false, true]);
}

#[test]
fn bad_input_is_said_and_left_out_and_the_rest_works() {
    let spec = json!({
        "externalIPs": ["198.51.100.256", "127.0.0.1", "198.51.100.1"],
        "loadBalancerSourceRanges": ["203.0.113.0/33"],
        "ports": [
            {"name": "zero", "port": 0}, {"name": "odd", "port": 80, "protocol": "GRE"},
            {"name": "http", "port": 80, "nodePort": 70000}, {"name": "fine", "port": 81},
        ],
    });
    let slice = slice("web", ("fine", "TCP", 8080), &["10.42.1.1", "10.42.1", "127.0.0.1"]);
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &[slice]);
    let said: Vec<String> = planner.update().issues.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    service d/web: spec.externalIPs "198.51.100.256" is no address; it is left out
    service d/web: spec.externalIPs "127.0.0.1" is no address; it is left out
    service d/web: spec.loadBalancerSourceRanges "203.0.113.0/33" is no address range; it is left out
    service d/web: port "zero" is unusable; it is left out
    service d/web: port "odd" is unusable; it is left out
    service d/web: port "http" is unusable; it is left out
    service d/web: endpoint "10.42.1" is no address a Service may lead to; it is left out
    service d/web: endpoint "127.0.0.1" is no address a Service may lead to; it is left out
    "#);
    let text = pintle_nft::text::ruleset(&planner.full());
    assert!(text.contains("10.43.0.10 . tcp . 81 : goto cluster-1") && text.contains("198.51.100.1 . tcp . 81"));
}

#[test]
fn udp_flows_that_lead_nowhere_any_more_are_found_and_no_others() {
    let spec = json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}]});
    let dns = |endpoints: &[&str]| slice("web", ("dns", "UDP", 5353), endpoints);
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &[dns(&["10.42.1.1", "10.42.1.2"])]);
    planner.update();
    let addr = |text: &str| text.parse::<IpAddr>().unwrap();
    let flow = |frontend: (&str, u16), server: (&str, u16)| Flow {
        client: (addr("10.42.0.9"), 4444),
        frontend: (addr(frontend.0), frontend.1),
        server: (addr(server.0), server.1),
        proto: Proto::Udp,
        is_answered: true,
    };
    let flows = [
        flow(("10.43.0.10", 53), ("10.42.1.1", 5353)),
        flow(("10.43.0.10", 53), ("10.42.1.2", 5353)),
        flow(("192.0.2.1", 30053), ("10.42.1.1", 5353)),
        // Sent before the Service was there, and so never translated.
        flow(("10.43.0.10", 53), ("10.43.0.10", 53)),
        // Others' flows: another program on the port number of our node port, and another destination.
        flow(("192.0.2.7", 30053), ("192.0.2.7", 30053)),
        flow(("203.0.113.1", 53), ("203.0.113.1", 53)),
    ];
    planner.note(Change::Slice(&dns(&["10.42.1.2"])));
    let touched = planner.update().touched;
    assert_eq!(planner.stale_flows(&touched, &flows), [flows[0], flows[2], flows[3]]);
    // The Service goes: all of its flows go.
    planner.note(Change::ServiceGone(&service("web", "10.43.0.10", json!({}))));
    let touched = planner.update().touched;
    assert_eq!(planner.stale_flows(&touched, &flows), flows[..4]);
}

#[test]
fn connections_that_began_without_rules_are_found_and_no_others() {
    let spec = json!({"ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    let mut planner = planner(&[service("web", "10.43.0.10", spec)], &[web("web", &["10.42.1.1"])]);
    planner.update();
    let at = |text: &str| {
        let addr: std::net::SocketAddr = text.parse().unwrap();
        (addr.ip(), addr.port())
    };
    let flow = |frontend: &str, server: &str, is_answered| Flow {
        client: at("10.42.0.9:4444"),
        frontend: at(frontend),
        server: at(server),
        proto: Proto::Tcp,
        is_answered,
    };
    let flows = [
        flow("10.43.0.10:80", "10.43.0.10:80", false),
        flow("192.0.2.1:30080", "192.0.2.1:30080", false),
        // They go on where they began: with a server that serves no more, and with a program that had the port before.
        flow("10.43.0.10:80", "10.42.1.9:8080", true),
        flow("192.0.2.1:30080", "192.0.2.1:30080", true),
        // A server that has not answered yet, and others' flows.
        flow("10.43.0.10:80", "10.42.1.1:8080", false),
        flow("192.0.2.7:30080", "192.0.2.7:30080", false),
        flow("203.0.113.1:80", "203.0.113.1:80", false),
    ];
    assert_eq!(planner.stale_flows(&planner.frontends(), &flows), flows[..2]);
}
