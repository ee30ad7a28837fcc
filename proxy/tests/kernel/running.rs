//! The whole proxy, from a watch event to a packet.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pintle_net::netns;
use pintle_net::nfnetlink::conntrack::Conntrack;
use pintle_nft::Family;
use pintle_proxy::ProxyConfig;
use pintle_testkit::eventually;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, NODES, SERVICES, SLICES};
use crate::objects::{service, slice, web};
use crate::world::{World, ask, ask_again, ask_from, ask_udp, ask_within, block_on, nft, nft_list, serve, world};

/// How long anything may take, on a machine that does other things too or is emulated.
pub const SOON: Duration = Duration::from_secs(30);

pub struct Running {
    cancel: CancellationToken,
    thread: std::thread::JoinHandle<()>,
    health: SocketAddr,
    metrics: SocketAddr,
}

/// A proxy on a thread of its own, in the test's namespaces.
pub fn start(api: &Api) -> Running {
    start_with(api, |_| {})
}

/// The same, configured otherwise.
pub fn start_with(api: &Api, change: impl FnOnce(&mut ProxyConfig)) -> Running {
    let listeners = [(); 2].map(|()| TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).unwrap());
    let [health, metrics] = listeners.map(|free| free.local_addr().unwrap());
    let range = |text: &str| vec![text.parse().unwrap()];
    let mut config = ProxyConfig::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"));
    config.health = Some(health);
    config.metrics = Some(metrics);
    change(&mut config);
    let (client, cancel) = (api.client(), CancellationToken::new());
    let stop = cancel.clone();
    // A test that listens to what is logged hears this thread too.
    let log = tracing::dispatcher::get_default(Clone::clone);
    let thread = std::thread::spawn(move || {
        tracing::dispatcher::with_default(&log, || block_on(pintle_proxy::run(config, client, stop)).unwrap());
    });
    Running { cancel, thread, health, metrics }
}

impl Running {
    pub fn stop(self) {
        self.cancel.cancel();
        self.thread.join().unwrap();
    }

    pub fn is_healthy(&self) -> bool {
        asked(self.health, "/healthz")
            .is_some_and(|a| a.starts_with("HTTP/1.0 200") && a.contains("\"nodeEligible\":true"))
    }

    /// Whether everything was installed once, in both families.
    pub fn is_ready(&self) -> bool {
        asked(self.health, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.0 200"))
    }

    /// Whether it says that this is its mode, wherever it says one.
    pub fn says_mode(&self, mode: &str) -> bool {
        let says = |of, path, what: String| asked(of, path).is_some_and(|answer| answer.contains(&what));
        says(self.health, "/healthz", format!("\"mode\":\"{mode}\""))
            && says(self.metrics, "/proxyMode", mode.to_owned())
            && says(self.metrics, "/metrics", format!("pintle_proxy_mode{{mode=\"{mode}\"}} 1"))
    }

    /// Does something that the proxy hears of, and waits until it is all installed.
    pub fn committed(&self, work: impl FnOnce()) {
        let before = self.changes("total");
        work();
        eventually("the proxy hears of the change", SOON, || (self.changes("total") > before).then_some(()));
        eventually("the change is in the kernel", SOON, || (self.changes("pending") == 0).then_some(()));
    }

    /// Changes of Services and of their endpoints.
    fn changes(&self, which: &str) -> u64 {
        let text = asked(self.metrics, "/metrics").expect("the proxy's metrics");
        let of = |kind: &str| {
            let name = format!("kubeproxy_sync_proxy_rules_{kind}_changes_{which} ");
            text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).expect("a count")
        };
        of("service") + of("endpoint")
    }
}

fn asked(of: SocketAddr, path: &str) -> Option<String> {
    // It may not be listening yet.
    let mut stream = TcpStream::connect(of).ok()?;
    std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).ok()?;
    Some(answer)
}

/// Two pods that serve, and a Service over both.
pub fn two_pods(world: &World, api: &Api, spec: serde_json::Value) {
    for addr in ["10.42.0.2", "10.42.0.3"] {
        serve(&world.pod(addr), addr, 8080);
    }
    api.put(SERVICES, service("web", "10.43.0.10", spec));
    api.put(SLICES, web("web", &["10.42.0.2@here", "10.42.0.3@here"]));
}

#[test]
fn services_follow_the_api_and_connections_survive_a_restart() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    assert!(proxy.is_healthy());
    let servers: std::collections::BTreeSet<String> = (0..40).map(|_| ask("10.43.0.10:80").unwrap()).collect();
    assert_eq!(servers.len(), 2, "both pods serve: {servers:?}");

    // One endpoint leaves: only the other serves, once the change is in.
    api.put(SLICES, web("web", &["10.42.0.2@here!unready", "10.42.0.3@here"]));
    eventually("only one pod serves", SOON, || {
        (0..20).all(|_| ask("10.43.0.10:80").unwrap().starts_with("10.42.0.3")).then_some(())
    });

    // An open connection and new ones work during and after a restart.
    let mut open = TcpStream::connect("10.43.0.10:80").unwrap();
    ask_again(&mut open).unwrap();
    proxy.stop();
    assert!(ask("10.43.0.10:80").is_ok(), "the rules stay when the proxy ends");
    let proxy = start(&api);
    for _ in 0..50 {
        ask_again(&mut open).unwrap();
        ask("10.43.0.10:80").unwrap();
        std::thread::sleep(Duration::from_millis(4));
    }

    // The last endpoint goes: refused. The Service goes: silence.
    api.put(SLICES, web("web", &[]));
    eventually("nobody serves", SOON, || is_error(ask("10.43.0.10:80"), std::io::ErrorKind::ConnectionRefused));
    api.delete(SERVICES, service("web", "10.43.0.10", json!({})));
    eventually("the Service is gone", SOON, || is_error(ask("10.43.0.10:80"), std::io::ErrorKind::TimedOut));

    proxy.stop();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!(nft_list(), "");
}

#[test]
fn what_is_fresh_serves_at_once_and_is_settled_soon() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start_with(&api, |config| config.fresh_from = 0);
    eventually("everything is installed", SOON, || proxy.is_ready().then_some(()));
    let large = serving_table().unwrap();
    let small = format!("{large}-small");
    let is_in = |table: &str, ip: &str| {
        let (listed, frontend) = (nft_list(), format!("{ip} . tcp . 80 : goto cluster-2"));
        listed.split("\n}").any(|t| t.trim().starts_with(&format!("table ip {table} {{")) && t.contains(&frontend))
    };
    assert!(is_in(large, "10.43.0.10"), "who was there at the start is in the large table");
    proxy.committed(|| api.put(SLICES, web("late", &["10.42.0.2@here", "10.42.0.3@here"])));
    proxy.committed(|| api.put(SERVICES, service("late", "10.43.0.11", json!({}))));
    let is_fresh = is_in(&small, "10.43.0.11");
    assert!(ask("10.43.0.11:80").is_ok());
    eventually("it is in the large table", SOON, || is_in(large, "10.43.0.11").then_some(()));
    eventually("and no longer beside it", SOON, || (!is_in(&small, "10.43.0.11")).then_some(()));
    assert!(is_fresh, "it was in the small table at first");
    assert!(ask("10.43.0.11:80").is_ok());
    // Somebody deletes that one: everything is installed anew, with both.
    nft(&["delete", "table", "ip", &small]);
    let another = || serving_table().filter(|table| *table != large);
    let now = eventually("the rules are repaired", SOON, another);
    assert!(nft_list().contains(&format!("table ip {now}-small {{")) && ask("10.43.0.11:80").is_ok());
    proxy.stop();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!(nft_list(), "");
}

pub fn is_error(answer: std::io::Result<String>, kind: std::io::ErrorKind) -> Option<()> {
    answer.is_err_and(|e| e.kind() == kind).then_some(())
}

/// A full load fills the table that does not serve, which then takes the other's place.
pub fn serving_table() -> Option<&'static str> {
    let listed = nft_list();
    let has = |name: &str| listed.contains(&format!("table ip {name} {{"));
    match (has("pintle"), has("pintle-b")) {
        (true, false) => Some("pintle"),
        (false, true) => Some("pintle-b"),
        (true, true) | (false, false) => None,
    }
}

#[test]
fn what_somebody_else_deletes_is_back_within_a_second() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    for foreign in [
        &["flush", "ruleset"][..],
        &["delete", "table", "ip", "TABLE"],
        &["flush", "chain", "ip", "TABLE", "services"],
        &["delete", "element", "ip", "TABLE", "service-ips", "{ 10.43.0.10 . tcp . 80 }"],
    ] {
        let serving = eventually("one of the two tables serves", SOON, serving_table);
        let foreign: Vec<&str> = foreign.iter().map(|w| if *w == "TABLE" { serving } else { w }).collect();
        nft(&foreign);
        eventually(&format!("repaired after nft {foreign:?}"), Duration::from_secs(1), || {
            ask_within("10.43.0.10:80", Duration::from_millis(100)).ok()
        });
    }
    // Somebody else's table is neither touched nor a reason to do anything.
    nft(&["add", "table", "ip", "theirs"]);
    api.put(SLICES, web("web", &["10.42.0.3@here"]));
    eventually("changes still come through", SOON, || ask("10.43.0.10:80").ok().filter(|a| a.starts_with("10.42.0.3")));
    assert!(nft_list().contains("table ip theirs"));
    proxy.stop();
}

/// In a mode of this name.
pub fn a_udp_client_is_moved_with_its_endpoint(mode: &str) {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    let spec = json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]});
    two_pods(&world, &api, spec);
    api.put(SLICES, slice("web", ("dns", "UDP", 8080), &["10.42.0.2@here"]));
    let proxy = start_with(&api, |config| config.kube.mode = mode.to_owned());
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).unwrap();
    let answer = eventually("the Service answers", SOON, || ask_udp(&socket, "10.43.0.10:53").ok());
    assert!(answer.starts_with("10.42.0.2"), "{answer}");
    api.put(SLICES, slice("web", ("dns", "UDP", 8080), &["10.42.0.3@here"]));
    eventually("the same socket reaches the other pod", SOON, || {
        ask_udp(&socket, "10.43.0.10:53").ok().filter(|a| a.starts_with("10.42.0.3"))
    });
    api.put(SLICES, slice("web", ("dns", "UDP", 8080), &[]));
    eventually("nobody answers any more", SOON, || ask_udp(&socket, "10.43.0.10:53").err());
    proxy.stop();
}

/// In a mode of this name.
pub fn a_connection_that_began_without_rules_gets_through(mode: &str) {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    // As on most machines, something else has flows tracked.
    let theirs = "add table ip theirs; add chain ip theirs in { type filter hook prerouting priority 0; }; \
                  add rule ip theirs in ct state established accept";
    nft(&[theirs]);
    let client = world.pod("10.42.0.100");
    let began = std::thread::spawn(move || {
        let to: SocketAddr = "10.43.0.10:80".parse().unwrap();
        netns::run_blocking(&client, move || TcpStream::connect_timeout(&to, SOON)).unwrap()
    });
    let mut conntrack = Conntrack::open().unwrap();
    let mut astray = || conntrack.flows(Family::V4, |flow| flow.frontend.1 == 80 && flow.is_astray()).unwrap();
    eventually("its flow is known", SOON, || astray().pop());
    let proxy = start_with(&api, |config| config.kube.mode = mode.to_owned());
    ask_again(&mut began.join().unwrap().unwrap()).unwrap();
    proxy.stop();
}

#[test]
fn a_connection_that_began_without_rules_gets_through_once_there_are_some() {
    a_connection_that_began_without_rules_gets_through("nftables");
}

#[test]
fn a_udp_client_that_never_stops_is_moved_with_its_endpoint() {
    a_udp_client_is_moved_with_its_endpoint("nftables");
}

#[test]
fn clients_stay_with_their_endpoint_where_the_service_says_so() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({"sessionAffinity": "ClientIP"}));
    let clients: Vec<_> = (10..22).map(|n| world.pod(&format!("10.42.0.{n}"))).collect();
    let proxy = start(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    let mut servers = Vec::new();
    for client in &clients {
        let first = ask_from(client, "10.43.0.10:80").unwrap();
        for _ in 0..8 {
            assert_eq!(ask_from(client, "10.43.0.10:80").unwrap(), first);
        }
        servers.push(first);
    }
    let pods: std::collections::BTreeSet<&str> = servers.iter().filter_map(|s| s.split(' ').next()).collect();
    assert_eq!(pods.len(), 2, "twelve clients spread over two pods (fails by chance once in 2048 runs)");

    // A restart loads everything into the other table; who belongs to whom is carried over.
    let before = serving_table();
    proxy.stop();
    let proxy = start(&api);
    eventually("the other table serves", SOON, || serving_table().filter(|now| Some(*now) != before));
    let stay = || {
        for (client, server) in clients.iter().zip(&servers) {
            assert_eq!(ask_from(client, "10.43.0.10:80").unwrap(), *server);
        }
    };
    stay();
    // Somebody deletes the table: their connections, the last of which ended just now, tell whose they are.
    nft(&["flush", "ruleset"]);
    eventually("a table serves again", SOON, serving_table);
    eventually("the Service answers again", SOON, || ask("10.43.0.10:80").ok());
    stay();
    proxy.stop();
}

#[test]
fn a_node_that_is_being_deleted_is_unhealthy_for_load_balancers() {
    let Some(_world) = world("the proxy") else { return };
    let api = Api::new();
    let proxy = start(&api);
    eventually("the proxy is healthy", SOON, || proxy.is_healthy().then_some(()));
    api.put(NODES, json!({"metadata": {"name": "here", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    eventually("the proxy says so", SOON, || (!proxy.is_healthy()).then_some(()));
    proxy.stop();
}

#[test]
fn routes_to_other_nodes_come_and_go_with_them() {
    let Some(_world) = world("node routes") else { return };
    let api = Api::new();
    let node = |name: &str, range: &str, addr: &str| {
        json!({
            "metadata": {"name": name}, "spec": {"podCIDR": range},
            "status": {"addresses": [{"type": "InternalIP", "address": addr}]},
        })
    };
    api.put(NODES, node("here", "10.42.0.0/24", "192.0.2.1"));
    api.put(NODES, node("far", "10.42.7.0/24", "203.0.113.7"));
    let (client, cancel) = (api.client(), CancellationToken::new());
    let stop = cancel.clone();
    let thread =
        std::thread::spawn(move || block_on(pintle_proxy::node_routes::run("here".into(), client, stop)).unwrap());
    api.put(NODES, node("near", "10.42.1.0/24", "192.0.2.2"));
    let route = || {
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        // 10.42.1.0 in the file's byte order.
        routes.contains("00012A0A")
    };
    eventually("the route is there", SOON, || route().then_some(()));
    api.delete(NODES, node("near", "10.42.1.0/24", "192.0.2.2"));
    eventually("the route is gone", SOON, || (!route()).then_some(()));
    api.put(NODES, node("near", "10.42.1.0/24", "192.0.2.2"));
    eventually("the route is back", SOON, || route().then_some(()));
    cancel.cancel();
    thread.join().unwrap();
    assert!(route(), "routes stay over a restart");
    block_on(pintle_proxy::node_routes::cleanup()).unwrap();
    assert!(!route());
}
