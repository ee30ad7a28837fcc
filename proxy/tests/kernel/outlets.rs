//! What the proxy does besides packet rules: health checks, node ports on loopback, events; and IPv6.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use pintle_testkit::eventually;
use serde_json::json;

use crate::api::{Api, SERVICES, SLICES};
use crate::objects::{service, slice, web};
use crate::running::{SOON, is_error, start, start_with};
use crate::world::{ask, ask_udp, nft_list, serve, world};

#[test]
fn node_ports_answer_on_loopback_and_go_with_their_service() {
    let Some(world) = world("the proxy") else { return };
    serve(&world.pod("10.42.0.2"), "10.42.0.2", 8080);
    let api = Api::new();
    let ports = json!({"type": "NodePort", "ports": [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]});
    api.put(SERVICES, service("web", "10.43.0.10", ports.clone()));
    api.put(SLICES, web("web", &["10.42.0.2@here"]));
    let mut dns = slice("web", ("dns", "UDP", 8080), &["10.42.0.2@here"]);
    dns.metadata.name = Some("web-dns".into());
    api.put(SLICES, dns);
    let proxy = start(&api);
    for to in ["127.0.0.1:30080", "[::1]:30080"] {
        let answer = eventually(to, SOON, || ask(to).ok());
        assert!(answer.starts_with("10.42.0.2 "), "{answer}");
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert!(ask_udp(&socket, "127.0.0.1:30053").unwrap().starts_with("10.42.0.2 "));

    api.delete(SERVICES, service("web", "10.43.0.10", ports));
    eventually("the port is closed", SOON, || is_error(ask("127.0.0.1:30080"), std::io::ErrorKind::ConnectionRefused));
    proxy.stop();
}

#[test]
fn node_ports_stay_off_loopback_where_the_configuration_says_so() {
    let Some(world) = world("the proxy") else { return };
    serve(&world.pod("10.42.0.2"), "10.42.0.2", 8080);
    let api = Api::new();
    let ports = json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    api.put(SERVICES, service("web", "10.43.0.10", ports));
    api.put(SLICES, web("web", &["10.42.0.2@here"]));
    let proxy = start_with(&api, |config| config.localhost_node_ports = false);
    eventually("the Service answers", SOON, || ask("192.0.2.1:30080").ok());
    assert_eq!(ask("127.0.0.1:30080").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.stop();
}

#[test]
fn a_health_check_port_tells_load_balancers_whether_this_node_serves() {
    let Some(_world) = world("the proxy") else { return };
    let api = Api::new();
    let balanced = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    });
    api.put(SERVICES, service("web", "10.43.0.10", balanced.clone()));
    let proxy = start(&api);
    let asked = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 32000)).ok()?;
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).ok()?;
        Some(answer)
    };
    let says = |status: &'static str, count: &'static str| {
        eventually(status, SOON, || asked().filter(|a| a.starts_with(status) && a.contains(count)));
    };
    says("HTTP/1.0 503", "\"localEndpoints\":0");
    api.put(SLICES, web("web", &["10.42.0.2@here", "10.42.0.3@here", "10.42.1.2"]));
    says("HTTP/1.0 200", "\"localEndpoints\":2");
    api.put(SLICES, web("web", &["10.42.0.2@here!unready", "10.42.1.2"]));
    says("HTTP/1.0 503", "\"localEndpoints\":0");
    api.delete(SERVICES, service("web", "10.43.0.10", balanced));
    eventually("the port is closed", SOON, || asked().is_none().then_some(()));
    // Somebody else may have the port now.
    drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 32000)).unwrap());
    proxy.stop();
}

#[test]
fn what_is_wrong_with_a_service_is_an_event_of_it_and_stops_no_other() {
    let Some(world) = world("the proxy") else { return };
    serve(&world.pod("10.42.0.2"), "10.42.0.2", 8080);
    let api = Api::new();
    api.put(SERVICES, service("good", "10.43.0.10", json!({})));
    api.put(SLICES, web("good", &["10.42.0.2@here"]));
    api.put(SERVICES, service("bad", "10.43.0.11", json!({"externalIPs": ["198.51.100.300"]})));
    let proxy = start(&api);
    eventually("the good Service answers", SOON, || ask("10.43.0.10:80").ok());
    let event =
        eventually("an event", SOON, || api.posted("/apis/events.k8s.io/v1/namespaces/d/events").first().cloned());
    assert_eq!(event["regarding"]["name"], "bad");
    assert_eq!(event["reason"], "InvalidAddress");
    assert!(event["note"].as_str().unwrap().contains("198.51.100.300"), "{event}");
    proxy.stop();
}

#[test]
fn ipv6_services_answer_beside_ipv4_ones() {
    let Some(_world) = world("the proxy") else { return };
    ip(&["-6", "route", "add", "fd00:43::/32", "dev", "lo"]);
    let api = Api::new();
    for (name, ip, pod, family) in
        [("four", "10.43.0.10", "10.42.0.9", "IPv4"), ("six", "fd00:43::10", "fd00:42::9", "IPv6")]
    {
        local_addr(pod);
        let listener = TcpListener::bind((pod.parse::<IpAddr>().unwrap(), 8080)).unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let mut object = service(name, ip, json!({}));
        object.spec.as_mut().unwrap().ip_families = Some(vec![family.into()]);
        api.put(SERVICES, object);
        api.put(SLICES, web(name, &[&format!("{pod}@here")]));
    }
    let proxy = start_with(&api, |config| {
        config.cluster_ranges.push("fd00:42::/32".parse().unwrap());
        config.service_ranges.push("fd00:43::/32".parse().unwrap());
    });
    // A connection begun before there are rules would never find them.
    eventually("everything is installed", SOON, || proxy.is_ready().then_some(()));
    for to in ["10.43.0.10:80", "[fd00:43::10]:80"] {
        TcpStream::connect(to).unwrap();
    }
    // Nobody has that port.
    assert_eq!(TcpStream::connect("[fd00:43::10]:81").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.stop();
    assert!(nft_list().contains("table ip6 pintle"));
    pintle_proxy::cleanup(pintle_proxy::config::TABLE).unwrap();
    assert_eq!(nft_list(), "");
}

/// Gives the node another address, where a server of the test listens.
fn local_addr(addr: &str) {
    if addr.contains(':') {
        // Usable at once: nobody else can have it.
        ip(&["addr", "add", &format!("{addr}/128"), "dev", "lo", "nodad"]);
    } else {
        ip(&["addr", "add", &format!("{addr}/32"), "dev", "lo"]);
    }
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status().expect("ip is needed (package iproute2)");
    assert!(status.success(), "ip {args:?}");
}
