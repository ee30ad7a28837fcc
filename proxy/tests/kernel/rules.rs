use pintle_net::nfnetlink::Nft;
use pintle_nft::diff;
use pintle_proxy_plan::{Change, Config, Planner};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::happening::{Happening, happening, note};
use crate::objects::{service, slice, web};
use crate::world::{NODE, ask, ask_from, ask_udp_from, nft as nft_command, nft_list, serve, world};

fn planner() -> Planner {
    let range = |text: &str| vec![text.parse().unwrap()];
    Planner::new(Config::new("here", range("10.42.0.0/16"), range("10.43.0.0/16")))
}

/// One to which few Services are many, so that fresh ones are in a table of their own.
fn large() -> Planner {
    Planner::new(Config { fresh_from: 0, ..planner().config().clone() })
}

fn load(planner: &Planner) -> Nft {
    let mut nft = Nft::open().unwrap();
    nft.commit(&diff::replace(&planner.full())).unwrap();
    nft
}

/// The parts of a listing. Dynamic details aside, the order of chains and elements is that of their creation.
fn sorted(listed: &str) -> Vec<String> {
    let mut parts: Vec<String> =
        listed.split([',', '\n', '{', '}']).map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
    parts.sort();
    parts
}

#[test]
fn the_kernel_takes_every_kind_of_rule_and_nft_lists_them_and_reads_them_again() {
    let elements = ["10.43.0.10 . tcp . 80 : goto cluster-2", "10.43.0.11 . tcp . 80 : goto refuse"];
    listed_and_read_again(planner(), &elements);
}

#[test]
fn so_it_is_where_fresh_services_are_kept_apart() {
    let rules = ["table ip pintle-small {", "meta l4proto . th dport @known-ports fib daddr type local"];
    listed_and_read_again(large(), &rules);
}

fn listed_and_read_again(mut planner: Planner, its: &[&str]) {
    let Some(_world) = world("nftables") else { return };
    planner.note(Change::Service(&service("plain", "10.43.0.10", json!({}))));
    planner.note(Change::Slice(&web("plain", &["10.42.0.2@here", "10.42.1.2"])));
    planner.note(Change::Service(&service("empty", "10.43.0.11", json!({}))));
    let node_port = json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    planner.note(Change::Service(&service("port", "10.43.0.12", node_port)));
    planner.note(Change::Slice(&web("port", &["10.42.0.3@here"])));
    let sticky =
        json!({"sessionAffinity": "ClientIP", "externalIPs": ["198.51.100.1"], "externalTrafficPolicy": "Local"});
    planner.note(Change::Service(&service("sticky", "10.43.0.13", sticky)));
    planner.note(Change::Slice(&web("sticky", &["10.42.0.3@here", "10.42.1.3"])));
    let balanced = json!({
        "type": "LoadBalancer", "ingress": [{"ip": "198.51.100.2"}],
        "loadBalancerSourceRanges": ["203.0.113.0/24"], "externalTrafficPolicy": "Local",
    });
    planner.note(Change::Service(&service("balanced", "10.43.0.14", balanced)));
    planner.note(Change::Slice(&web("balanced", &["10.42.0.4@here!leaving", "10.42.1.4"])));
    let update = planner.update();
    assert_eq!(update.issues, []);
    let mut nft = load(&planner);

    let listed = nft_list();
    let all = [
        "ip daddr . meta l4proto . th dport vmap @service-ips",
        "fib daddr type local",
        "numgen random mod 2",
        "masquerade fully-random",
        "reject",
    ];
    for text in all.iter().chain(its) {
        assert!(listed.contains(text), "{text:?} is missing from:\n{listed}");
    }
    assert!(planner.serving().all(|table| nft.table_exists(&table).unwrap()));
    // As an administrator keeps rules over a reboot.
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kept.path(), &listed).unwrap();
    nft_command(&["flush", "ruleset"]);
    nft_command(&["-f", kept.path().to_str().unwrap()]);
    assert_eq!(sorted(&nft_list()), sorted(&listed));
    nft.commit(&diff::remove(&planner.serving().collect::<Vec<_>>())).unwrap();
    assert_eq!(nft_list(), "");
}

#[test]
fn connections_reach_pods_by_virtual_address_and_node_port() {
    reach_pods(planner());
}

#[test]
fn connections_reach_pods_of_fresh_services() {
    reach_pods(large());
}

fn reach_pods(mut planner: Planner) {
    let Some(world) = world("nftables") else { return };
    let (a, b) = (world.pod("10.42.0.2"), world.pod("10.42.0.3"));
    serve(&a, "10.42.0.2", 8080);
    let both = json!({"type": "NodePort", "ports": [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]});
    planner.note(Change::Service(&service("web", "10.43.0.10", both)));
    planner.note(Change::Slice(&web("web", &["10.42.0.2@here"])));
    let mut udp = slice("web", ("dns", "UDP", 8080), &["10.42.0.2@here"]);
    udp.metadata.name = Some("web-2".into());
    planner.note(Change::Slice(&udp));
    planner.note(Change::Service(&service("empty", "10.43.0.11", json!({}))));
    planner.update();
    load(&planner);

    assert_eq!(ask_from(&b, "10.43.0.10:80").unwrap(), "10.42.0.2 10.42.0.3");
    assert_eq!(ask_udp_from(&b, "10.43.0.10:53").unwrap(), "10.42.0.2 10.42.0.3");
    // The node itself, and a pod that reaches itself, are masqueraded.
    assert_eq!(ask("10.43.0.10:80").unwrap(), format!("10.42.0.2 {NODE}"));
    assert_eq!(ask_from(&a, "10.43.0.10:80").unwrap(), format!("10.42.0.2 {NODE}"));
    assert_eq!(ask_udp_from(&a, "10.43.0.10:53").unwrap(), format!("10.42.0.2 {NODE}"));
    // From outside, by node port and by a routed virtual address.
    assert_eq!(ask_from(&world.outside(), &format!("{NODE}:30080")).unwrap(), format!("10.42.0.2 {NODE}"));
    assert_eq!(ask_udp_from(&world.outside(), &format!("{NODE}:30053")).unwrap(), format!("10.42.0.2 {NODE}"));
    assert_eq!(ask_from(&world.outside(), "10.43.0.10:80").unwrap(), format!("10.42.0.2 {NODE}"));
    // Nobody serves, or no such port: refused at once. No such Service: silence.
    for to in ["10.43.0.11:80", "10.43.0.10:81"] {
        assert_eq!(ask(to).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        assert_eq!(ask_from(&b, to).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        assert_eq!(ask_from(&world.outside(), to).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
    }
    assert_eq!(ask_from(&b, "10.43.9.9:80").unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    // Every one of many, which ICMP errors would not be: the kernel limits them.
    let begun = std::time::Instant::now();
    for from in [world.outside(), b].iter().cycle().take(60) {
        assert_eq!(ask_from(from, "10.43.0.11:80").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "60 refusals took {:?}", begun.elapsed());
}

#[test]
fn a_pod_that_leaves_the_cluster_gets_the_nodes_address() {
    let Some(world) = world("nftables") else { return };
    let a = world.pod("10.42.0.2");
    serve(&world.outside(), "192.0.2.2", 9000);
    load(&planner());
    assert_eq!(ask_from(&a, "192.0.2.2:9000").unwrap(), format!("192.0.2.2 {NODE}"));
}

#[test]
fn a_refused_operation_is_named() {
    let Some(_world) = world("nftables") else { return };
    let mut nft = Nft::open().unwrap();
    let mut ruleset = planner().full();
    for table in ruleset.tables.values_mut() {
        let wrong = pintle_nft::Expr::Verdict(pintle_nft::Verdict::Goto("nowhere".into()));
        table.chains.get_mut("egress").unwrap().rules.push(vec![wrong]);
    }
    let error = nft.commit(&diff::replace(&ruleset)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel refused 1 operation(s) of the batch, first: add rule ip pintle egress goto nowhere"
    );
    assert_eq!(nft_list(), "");
}

#[test]
fn thousands_of_services_go_in_at_once_and_change_one_by_one() {
    let Some(_world) = world("nftables") else { return };
    let mut planner = planner();
    let names: Vec<(String, String)> =
        (0..3000).map(|n| (format!("s{n}"), format!("10.43.{}.{}", n / 250 + 1, n % 250 + 1))).collect();
    let endpoints: Vec<String> = (1..11).map(|n| format!("10.42.1.{n}")).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    for (name, ip) in &names {
        planner.note(Change::Service(&service(name, ip, json!({}))));
        planner.note(Change::Slice(&web(name, &endpoints)));
    }
    planner.update();
    let begun = std::time::Instant::now();
    let transaction = diff::replace(&planner.full());
    let planned = begun.elapsed();
    let mut nft = Nft::open().unwrap();
    nft.commit(&transaction).unwrap();
    let loaded = begun.elapsed();
    // The same again, over what is there: packets never meet an empty table, the kernel never runs out of anything.
    nft.commit(&diff::replace(&planner.full())).unwrap();
    let again = begun.elapsed();
    planner.note(Change::Slice(&web("s7", &endpoints[..9])));
    let update = planner.update();
    assert_eq!(update.transaction.len(), 6, "{}", pintle_nft::text::transaction(&update.transaction));
    nft.commit(&update.transaction).unwrap();
    let changed = begun.elapsed() - again;
    eprintln!(
        "{} ops: planned {planned:?}, loaded {:?}, again {:?}, one change {changed:?}",
        transaction.len(),
        loaded - planned,
        again - loaded
    );
    assert!(nft_list().contains("10.43.12.250 . tcp . 80 : goto cluster-10"));
}

#[test]
fn the_kernel_takes_any_order_of_changes_and_ends_where_a_full_push_would() {
    let Some(_world) = world("nftables") else { return };
    let mut nft = Nft::open().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() });
    let stories = (prop::collection::vec(prop::collection::vec(happening(), 1..4), 1..10), any::<bool>());
    let nft = std::cell::RefCell::new(&mut nft);
    let run = |(story, is_large): (Vec<Vec<Happening>>, bool)| {
        let mut planner = if is_large { large() } else { planner() };
        let mut nft = nft.borrow_mut();
        nft.commit(&diff::replace(&planner.full())).unwrap();
        for step in &story {
            step.iter().for_each(|h| note(&mut planner, h));
            let transaction = planner.update().transaction;
            if let Err(e) = nft.commit(&transaction) {
                let cause = std::error::Error::source(&e).unwrap().to_string();
                return Err(TestCaseError::fail(format!(
                    "{e}: {cause}\n{}",
                    pintle_nft::text::transaction(&transaction)
                )));
            }
        }
        let step_by_step = sorted(&nft_list());
        nft.commit(&diff::replace(&planner.full())).unwrap();
        prop_assert_eq!(step_by_step, sorted(&nft_list()));
        Ok(())
    };
    runner.run(&stories, run).unwrap();
}
