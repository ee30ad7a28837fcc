//! Mode userspace as a whole: what a forwarding process must get right besides the table.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pintle_net::hosts::{Entry, Hosts};
use pintle_testkit::eventually;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::api::{Api, SERVICES, SLICES};
use crate::load::{Allowed, Truth};
use crate::objects::{service, web};
use crate::running::{Running, a_udp_client_is_moved_with_its_endpoint, start, start_with, two_pods};
use crate::world::{NODE, ask, ask_again, ask_from, nft_list, serve, world};

/// The machine does other things too.
const SOON: Duration = Duration::from_secs(60);
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/d/events";

fn start_userspace(api: &Api) -> Running {
    start_with(api, |config| config.kube.mode = "userspace".into())
}

/// The addresses and routes the proxy made.
fn ours() -> BTreeSet<String> {
    Hosts::open().unwrap().ours().unwrap().iter().map(Entry::to_string).collect()
}

fn kind(answer: std::io::Result<String>) -> Option<std::io::ErrorKind> {
    answer.err().map(|e| e.kind())
}

#[test]
fn services_follow_the_api_and_addresses_outlive_the_process() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(
        &world,
        &api,
        json!({"externalIPs": ["198.51.100.1"], "type": "NodePort",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]}),
    );
    let proxy = start_userspace(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    for at in ["10.43.0.10:80", "198.51.100.1:80", "127.0.0.1:30080", &format!("{NODE}:30080")] {
        let servers: BTreeSet<String> = (0..8).map(|_| ask(at).unwrap()).collect();
        assert_eq!(servers.len(), 2, "{at}: {servers:?}");
    }
    assert!(ask_from(&world.outside(), &format!("{NODE}:30080")).is_ok());

    // An endpoint goes: connections that exist go on, new ones reach the other.
    let mut open: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect("10.43.0.10:80").unwrap()).collect();
    let before: Vec<String> = open.iter_mut().map(|s| ask_again(s).unwrap()).collect();
    api.put(SLICES, web("web", &["10.42.0.3@here"]));
    eventually("only one pod serves", SOON, || {
        (0..6).all(|_| ask("10.43.0.10:80").unwrap().starts_with("10.42.0.3")).then_some(())
    });
    assert_eq!(open.iter_mut().map(|s| ask_again(s).unwrap()).collect::<Vec<_>>(), before);

    // The process ends, as by SIGKILL: it does nothing more. A Service goes meanwhile.
    let held = ours();
    assert_eq!(held.len(), 3, "{held:?}");
    proxy.stop();
    assert_eq!(ours(), held);
    assert_eq!(kind(ask("10.43.0.10:80")), Some(std::io::ErrorKind::ConnectionRefused));
    api.put(SERVICES, service("web", "10.43.0.10", json!({})));
    let proxy = start_userspace(&api);
    eventually("the Service answers again", SOON, || ask("10.43.0.10:80").ok());
    eventually("a stale address is gone", SOON, || (ours().len() == 2).then_some(()));
    assert_eq!(kind(ask(&format!("{NODE}:30080"))), Some(std::io::ErrorKind::ConnectionRefused));

    // The last endpoint goes: refused.
    api.put(SLICES, web("web", &[]));
    eventually("nobody serves", SOON, || {
        (kind(ask("10.43.0.10:80")) == Some(std::io::ErrorKind::ConnectionRefused)).then_some(())
    });
    proxy.stop();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!(ours(), BTreeSet::new());
    assert!(TcpListener::bind("10.43.0.10:80").is_err());
}

#[test]
fn an_address_that_somebody_takes_comes_back() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start_with(&api, |config| {
        config.kube.mode = "userspace".into();
        config.kube.nftables.sync_period = pintle_proxy::duration::GoDuration::from_secs(1);
    });
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    Hosts::open().unwrap().remove(Entry::Local("10.43.0.10".parse().unwrap())).unwrap();
    assert!(ask("10.43.0.10:80").is_err());
    eventually("it answers again", SOON, || ask("10.43.0.10:80").ok());
    proxy.stop();
}

#[test]
fn a_port_that_another_process_has_is_told_once_and_the_others_go_on() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    let theirs = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    two_pods(&world, &api, json!({}));
    let other = json!({"ports": [{"name": "http", "port": 81, "protocol": "TCP"}]});
    api.put(SERVICES, service("other", "10.43.0.11", other));
    api.put(SLICES, web("other", &["10.42.0.2@here"]));
    let proxy = start_userspace(&api);
    eventually("the other Service answers", SOON, || ask("10.43.0.11:81").ok());
    let told = || -> Vec<String> {
        api.posted(EVENTS).iter().map(|e| format!("{} {}", e["regarding"]["name"], e["note"])).collect()
    };
    let first = eventually("an event", SOON, || told().first().cloned());
    assert!(first.starts_with("\"web\"") && first.contains("10.43.0.10:80/tcp"), "{first}");
    assert!(first.contains("another process on this machine listens there"), "{first}");
    // Changes elsewhere come through, and what was refused is not told again.
    api.put(SLICES, web("other", &["10.42.0.3@here"]));
    eventually("a change comes through", SOON, || ask("10.43.0.11:81").ok().filter(|a| a.starts_with("10.42.0.3")));
    drop(theirs);
    eventually("the port is had once it is free", Duration::from_secs(60), || ask("10.43.0.10:80").ok());
    assert_eq!(told().len(), 1, "{:?}", told());
    proxy.stop();
}

#[test]
fn a_rolling_update_under_load_fails_no_connection() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    let pods: Vec<String> = (2..10).map(|n| format!("10.42.0.{n}")).collect();
    pods.iter().for_each(|addr| serve(&world.pod(addr), addr, 8080));
    let client = world.pod("10.42.0.200");
    api.put(SERVICES, service("web", "10.43.0.10", json!({})));
    let endpoints = |range: std::ops::Range<usize>| pods[range].iter().map(String::as_str).collect::<Vec<_>>();
    api.put(SLICES, web("web", &endpoints(0..3)));
    let proxy = start_userspace(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    let truth = Truth::new(1);
    let servers = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<String>>();
    truth.set(0, Allowed { servers: servers(&endpoints(0..3)), may_fail: false });
    let to = "10.43.0.10:80".parse().unwrap();
    let clients = vec![truth.client(None, 0, to), truth.client(Some(client), 0, to)];
    for round in 1..=8_usize {
        let first = round % 5;
        let now = endpoints(first..first + 3);
        let asked = truth.asked.load(Ordering::Relaxed);
        truth.change(0, servers(&now), || {
            api.put(SLICES, web("web", &now));
            eventually("only the new ones serve", SOON, || {
                (0..12).all(|_| now.iter().any(|s| ask("10.43.0.10:80").unwrap().starts_with(s))).then_some(())
            });
        });
        eventually("connections were made meanwhile", SOON, || {
            (truth.asked.load(Ordering::Relaxed) > asked + 10).then_some(())
        });
    }
    let wrong = truth.finish(clients);
    assert!(wrong.is_empty(), "{} of {}: {wrong:?}", wrong.len(), truth.asked.load(Ordering::Relaxed));
    proxy.stop();
}

#[test]
fn a_udp_client_that_never_stops_is_moved_in_userspace_too() {
    a_udp_client_is_moved_with_its_endpoint("userspace");
}

#[test]
fn clients_stay_with_their_endpoint_in_userspace_too() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({"sessionAffinity": "ClientIP"}));
    let clients: Vec<_> = (10..22).map(|n| world.pod(&format!("10.42.0.{n}"))).collect();
    let proxy = start_userspace(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    let answer = |text: String| text.split(' ').next().unwrap_or_default().to_owned();
    let servers: Vec<String> = clients.iter().map(|c| answer(ask_from(c, "10.43.0.10:80").unwrap())).collect();
    for (client, server) in clients.iter().zip(&servers) {
        for _ in 0..4 {
            assert_eq!(answer(ask_from(client, "10.43.0.10:80").unwrap()), *server);
        }
    }
    assert_eq!(servers.iter().collect::<BTreeSet<_>>().len(), 2);
    proxy.stop();
}

#[test]
fn another_mode_takes_over_and_nothing_is_left_of_this_one() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start_userspace(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    proxy.stop();
    let proxy = start(&api);
    eventually("the Service answers by rules", SOON, || ask("10.43.0.10:80").ok());
    eventually("addresses are gone", SOON, || ours().is_empty().then_some(()));
    assert!(ask("10.43.0.10:80").is_ok());
    proxy.stop();
    let proxy = start_userspace(&api);
    eventually("the rules are gone", SOON, || nft_list().is_empty().then_some(()));
    eventually("the Service answers without", SOON, || ask("10.43.0.10:80").ok());
    proxy.stop();
}

#[test]
fn a_process_without_descriptors_serves_again_once_some_are_free() {
    let Some(world) = world("the proxy") else { return };
    let api = Api::new();
    two_pods(&world, &api, json!({}));
    let proxy = start_userspace(&api);
    eventually("the Service answers", SOON, || ask("10.43.0.10:80").ok());
    let mut open = TcpStream::connect("10.43.0.10:80").unwrap();
    ask_again(&mut open).unwrap();
    // The clients are of this process too: their sockets are made while there are descriptors.
    let sockets: Vec<_> =
        (0..8).map(|_| rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()).collect();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1), ..before }).unwrap();
    let to: SocketAddr = "10.43.0.10:80".parse().unwrap();
    sockets.iter().for_each(|socket| rustix::net::connect(socket, &to).unwrap());
    // None is accepted, and what is there goes on.
    for _ in 0..20 {
        ask_again(&mut open).unwrap();
    }
    setrlimit(Resource::Nofile, before).unwrap();
    for socket in sockets {
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"?\n").unwrap();
        assert!(stream.read(&mut [0; 64]).unwrap() > 0);
    }
    proxy.stop();
}
