//! Mode iptables with the real tools: foreign hands, what is left, faults, and the change of modes under load.

use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use pintle_nft::Family;
use pintle_proxy::backend::Backend;
use pintle_proxy::iptables_backend::IptablesBackend;
use pintle_proxy::mode;
use pintle_proxy::xtables::{Tools, Variant};
use pintle_proxy_plan::{Change, Config};
use pintle_testkit::eventually;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::FlockOperation;
use serde_json::json;

use crate::api::{Api, SLICES};
use crate::happening::{Happening, happening, tell};
use crate::load::{Allowed, Truth};
use crate::objects::{service, web};
use crate::running::{
    Running, SOON, a_connection_that_began_without_rules_gets_through, a_udp_client_is_moved_with_its_endpoint, start,
    start_with, two_pods,
};
use crate::vm;
use crate::world::{ask, ask_from, nft_list, world};

/// A tool looks at the canary this often, and the machine does other things too.
const NOTICED: Duration = Duration::from_secs(15);

fn start_iptables(api: &Api) -> Running {
    start_with(api, |config| {
        config.kube.mode = "iptables".into();
        config.kube.iptables.sync_period = pintle_proxy::duration::GoDuration::from_secs(1);
    })
}

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("iptables is needed (package iptables)");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rules of both tables and families, and the chains that are not there from the beginning.
fn saved() -> Vec<String> {
    let of = |program| ["nat", "filter"].map(|table| tool(program, &["-t", table])).concat();
    let text = [of("iptables-legacy-save"), of("ip6tables-legacy-save")].concat();
    let is_rule = |line: &&str| line.starts_with("-A") || line.starts_with(':') && line.contains(" - ");
    let plain = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = text.lines().filter(is_rule).map(plain).collect();
    lines.sort();
    lines
}

fn config() -> Config {
    let range = |text: &str| vec![text.parse().unwrap()];
    Config::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"))
}

fn backend() -> IptablesBackend<Tools> {
    IptablesBackend::new(config(), &[Family::V4], Tools::find(Variant::Legacy).expect("the package iptables"))
}

fn web_service(backend: &mut impl Backend) {
    backend.note(Change::Service(&service("web", "10.43.0.10", json!({}))));
    backend.note(Change::Slice(&web("web", &["10.42.0.2@here"])));
}

#[test]
fn what_somebody_else_empties_is_back_soon_and_theirs_stays() {
    let Some(world) = world("iptables") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    tool("iptables-legacy", &["-A", "INPUT", "-p", "tcp", "--dport", "2222", "-j", "DROP"]);
    let before = saved();
    let proxy = start_iptables(&api);
    eventually("the Service answers", NOTICED, || ask("10.43.0.10:80").ok());
    assert!(proxy.says_mode("iptables"));
    eventually("everything is installed", NOTICED, || proxy.is_ready().then_some(()));
    let installed = saved();
    for foreign in [
        &["-t", "nat", "-F"][..],
        &["-t", "nat", "-F", "KUBE-PROXY-CANARY"],
        // The canary lives, and no packet finds us.
        &["-t", "nat", "-F", "PREROUTING"],
        &["-t", "filter", "-F", "FORWARD"],
    ] {
        tool("iptables-legacy", foreign);
        assert_ne!(saved(), installed);
        eventually(&format!("repaired after {foreign:?}"), NOTICED, || (saved() == installed).then_some(()));
        assert!(ask("10.43.0.10:80").is_ok());
    }
    api.put(SLICES, web("web", &["10.42.0.3@here"]));
    eventually("changes come through", NOTICED, || ask("10.43.0.10:80").ok().filter(|a| a.starts_with("10.42.0.3")));
    proxy.stop();
    assert!(ask("10.43.0.10:80").is_ok(), "the rules stay when the proxy ends");
    for _ in 0..2 {
        pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
        assert_eq!(saved(), before);
    }
}

#[test]
fn a_udp_client_that_never_stops_is_moved_with_its_endpoint_by_iptables() {
    a_udp_client_is_moved_with_its_endpoint("iptables");
}

#[test]
fn a_connection_that_began_without_rules_gets_through_once_there_are_some_by_iptables() {
    a_connection_that_began_without_rules_gets_through("iptables");
}

#[test]
fn clients_stay_with_their_endpoint_by_iptables() {
    let Some(world) = world("iptables") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({"sessionAffinity": "ClientIP"}));
    let clients: Vec<_> = (10..22).map(|n| world.pod(&format!("10.42.0.{n}"))).collect();
    let proxy = start_iptables(&api);
    eventually("the Service answers", NOTICED, || ask("10.43.0.10:80").ok());
    let first: Vec<String> = clients.iter().map(|client| ask_from(client, "10.43.0.10:80").unwrap()).collect();
    let pods: std::collections::BTreeSet<&str> = first.iter().filter_map(|s| s.split(' ').next()).collect();
    assert_eq!(pods.len(), 2, "twelve clients spread over two pods (fails by chance once in 2048 runs)");
    proxy.stop();
    let proxy = start_iptables(&api);
    eventually("everything is installed anew", NOTICED, || proxy.is_ready().then_some(()));
    for (client, server) in clients.iter().zip(&first) {
        for _ in 0..4 {
            assert_eq!(ask_from(client, "10.43.0.10:80").unwrap(), *server);
        }
    }
    proxy.stop();
}

#[test]
fn a_change_of_modes_under_load_fails_no_connection_and_leaves_nothing() {
    let Some(world) = world("iptables") else { return };
    let (api, truth) = (Api::new(), Truth::new(1));
    two_pods(&world, &api, json!({}));
    let before = saved();
    let mut proxy = start(&api);
    eventually("everything is installed", SOON, || proxy.is_ready().then_some(()));
    let servers = ["10.42.0.2", "10.42.0.3"].map(str::to_owned).into();
    truth.set(0, Allowed { servers, may_fail: false });
    let to = "10.43.0.10:80".parse().unwrap();
    let clients = vec![truth.client(None, 0, to), truth.client(Some(world.pod("10.42.0.100")), 0, to)];
    for _ in 0..2 {
        proxy.stop();
        proxy = start_iptables(&api);
        eventually("nftables' tables are gone", NOTICED, || nft_list().is_empty().then_some(()));
        assert_ne!(saved(), before);
        proxy.stop();
        proxy = start(&api);
        eventually("iptables' chains are gone", NOTICED, || (saved() == before).then_some(()));
    }
    let wrong = truth.finish(clients);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(truth.asked.load(std::sync::atomic::Ordering::Relaxed) > 50);
    proxy.stop();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!((saved(), nft_list()), (before, String::new()));
}

#[test]
fn rules_of_both_kinds_of_tools_are_known_again_as_ours_and_are_removed() {
    let Some(_world) = world("iptables") else { return };
    let before = saved();
    for variant in [Variant::Legacy, Variant::Nft] {
        let mut backend = IptablesBackend::new(config(), &[Family::V4, Family::V6], Tools::find(variant).unwrap());
        web_service(&mut backend);
        assert!(backend.sync().is_installed());
        assert!(backend.is_intact(), "{variant:?}");
        let tools = match variant {
            Variant::Legacy => "ip6tables-legacy",
            _ => "ip6tables-nft",
        };
        tool(tools, &["-t", "nat", "-F", "OUTPUT"]);
        assert!(!backend.is_intact(), "{variant:?}");
        backend.distrust();
        assert!(backend.sync().is_installed() && backend.is_intact(), "{variant:?}");
    }
    assert!(nft_list().contains("KUBE-SERVICES") && saved().iter().any(|l| l.contains("KUBE-SERVICES")));
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!(saved(), before);
    assert!(!nft_list().contains("KUBE-"), "{}", nft_list());
}

#[test]
fn a_lock_that_is_held_delays_and_refuses_nobody() {
    let Some(_world) = world("iptables") else { return };
    let mut backend = backend();
    web_service(&mut backend);
    let lock = std::fs::File::create("/run/xtables.lock").unwrap();
    rustix::fs::flock(lock.as_fd(), FlockOperation::LockExclusive).unwrap();
    let report = backend.sync();
    assert!(!report.is_installed() && report.wants_retry());
    let error = report.families[0].outcome.as_ref().unwrap_err();
    assert!(error.is_transient(), "{error}: {:?}", std::error::Error::source(error));
    assert!(report.families[0].refused.is_empty());
    drop(lock);
    assert!(backend.sync().is_installed());
    assert!(saved().iter().any(|l| l.contains("-d 10.43.0.10/32")));
}

#[test]
fn without_the_tools_it_is_said_what_to_install() {
    let Some(_world) = world("iptables") else { return };
    // Of this namespace alone.
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", "/usr/sbin", "tmpfs", flags, None).unwrap();
    let error = mode::find("iptables").unwrap().probe(&config(), Family::V4).unwrap_err();
    assert_eq!(
        (error.to_string(), error.hint()),
        ("there is no iptables-restore on this machine".into(), Some("install the package iptables"))
    );
    let refused = mode::choose("iptables", mode::MODES, |_| config()).err().unwrap();
    assert_eq!(refused.to_string(), "cannot serve Services in mode iptables");
    assert_eq!(refused.hint(), Some("install the package iptables"));
}

#[test]
fn the_probe_leaves_nothing() {
    let Some(_world) = world("iptables") else { return };
    let before = saved();
    for family in [Family::V4, Family::V6] {
        mode::find("iptables").unwrap().probe(&config(), family).unwrap();
    }
    assert_eq!(saved(), before);
}

#[test]
fn the_tools_take_any_order_of_changes_and_it_ends_where_a_full_load_would() {
    let Some(_world) = world("iptables") else { return };
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() });
    let stories = prop::collection::vec(prop::collection::vec(happening(), 1..4), 1..8);
    let run = |story: Vec<Vec<Happening>>| {
        let mut changing = backend();
        prop_assert!(changing.sync().is_installed());
        for step in &story {
            step.iter().for_each(|h| tell(h, |change| changing.note(change)));
            let report = changing.sync();
            prop_assert!(report.is_installed() && !report.wants_retry(), "{report:?}");
        }
        let step_by_step = saved();
        changing.distrust();
        prop_assert!(changing.sync().is_installed());
        prop_assert_eq!(&step_by_step, &saved());
        Ok(())
    };
    runner.run(&stories, run).unwrap();
}

/// Set where the kernel must not have nf_tables.
const WITHOUT_NF_TABLES: &str = "PINTLE_WITHOUT_NF_TABLES";

#[test]
fn without_nf_tables_services_are_served_by_iptables_in_a_vm() {
    vm::run(
        "echo install nf_tables /bin/false > /etc/modprobe.d/test.conf && \
         modprobe -a veth iptable_nat iptable_filter ip6table_nat ip6table_filter",
        WITHOUT_NF_TABLES,
        &["iptables::services_are_served_by_iptables_where_there_is_no_nf_tables"],
    );
}

#[test]
fn services_are_served_by_iptables_where_there_is_no_nf_tables() {
    if std::env::var_os(WITHOUT_NF_TABLES).is_none() {
        eprintln!("not here, where the kernel has nf_tables: in the VM of the test before");
        return;
    }
    let Some(world) = world("iptables") else { return };
    let before = saved();
    let refused = mode::choose("nftables", mode::MODES, |_| config()).err().unwrap();
    assert_eq!(refused.to_string(), "cannot serve Services in mode nftables");
    assert_eq!(mode::choose("", mode::MODES, |_| config()).unwrap().mode.name(), "iptables");
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start(&api);
    eventually("the Service answers", NOTICED, || ask("10.43.0.10:80").ok());
    eventually("everything is installed", NOTICED, || proxy.is_ready().then_some(()));
    assert!(saved().iter().any(|line| line.starts_with("-A KUBE-SERVICES")));
    proxy.stop();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!(saved(), before);
}
