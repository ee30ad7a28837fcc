use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use pintle_net::hosts::{Entry, Hosts, Way};
use pintle_net::pod::{self, PodLink};

use crate::sandbox::{ask, ask_from, block_on, enter, serve};

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_without_an_interface_is_this_machines_and_ours_are_found_again() {
    let Some(dir) = enter("addresses") else { return };
    let (v4, v6) = (Entry::Local(addr("10.43.0.10")), Entry::Local(addr("fd00:43::10")));
    let unused = [Entry::Discard("10.43.0.0/16".parse().unwrap()), Entry::Discard("fd00:43::/64".parse().unwrap())];
    let mut hosts = Hosts::open().unwrap();
    assert_eq!(hosts.ours().unwrap(), BTreeSet::new());
    for entry in [v4, v6, unused[0], unused[1], v4] {
        hosts.add(entry).unwrap();
    }
    // Another process, later, finds all of them.
    let mut hosts = Hosts::open().unwrap();
    assert_eq!(hosts.ours().unwrap(), BTreeSet::from([v4, v6, unused[0], unused[1]]));
    assert!(!hosts.interface_addrs().unwrap().contains(&addr("10.43.0.10")));

    // A pod on this node reaches a listener there, and is told where nobody listens.
    let pod = PodLink::new(dir.path(), "a", addr("10.42.0.2"));
    block_on(pod::ensure(&pod)).unwrap();
    let server = serve(None, 80, 2);
    assert_eq!(ask_from(&pod.netns, addr("10.43.0.10"), 80).unwrap(), "10.42.0.2");
    assert_eq!(ask(addr("10.43.0.10"), 80).unwrap(), "10.43.0.10");
    server.join().unwrap();
    let refused = |addr, port| TcpStream::connect(SocketAddr::new(addr, port)).unwrap_err().kind();
    assert_eq!(refused(addr("10.43.0.10"), 81), ErrorKind::ConnectionRefused);
    assert_eq!(refused(addr("fd00:43::10"), 81), ErrorKind::ConnectionRefused);
    assert_eq!(refused(addr("10.43.9.9"), 80), ErrorKind::InvalidInput);
    assert_eq!(refused(addr("fd00:43::9"), 80), ErrorKind::InvalidInput);

    assert_eq!(hosts.way_to(addr("10.43.0.10")).unwrap(), Way::Here);
    assert_eq!(hosts.way_to(addr("10.42.0.2")).unwrap(), Way::Out(pod.host_name()));
    assert_eq!(hosts.way_to(addr("192.0.2.9")).unwrap(), Way::None);

    for entry in [v4, v6, unused[0], unused[1], v4] {
        hosts.remove(entry).unwrap();
    }
    assert_eq!(hosts.ours().unwrap(), BTreeSet::new());
    assert!(TcpListener::bind("10.43.0.10:80").is_err());
}

#[test]
fn no_packet_leaves_with_such_an_address_unless_it_is_asked_for() {
    let Some(dir) = enter("addresses") else { return };
    let mut hosts = Hosts::open().unwrap();
    hosts.add(Entry::Local(addr("10.43.0.10"))).unwrap();
    let pod = PodLink::new(dir.path(), "a", addr("10.42.0.2"));
    block_on(pod::ensure(&pod)).unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("10.42.0.2:9").unwrap();
    assert_ne!(socket.local_addr().unwrap().ip(), addr("10.43.0.10"));
}
