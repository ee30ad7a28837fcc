//! A node and everybody around it, each in a namespace of its own, with the addresses of the table of behaviour: a pod,
//! endpoints, another node, a machine outside, and the rest of the world. All of them know nobody but the node.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pintle_net::{netns, sysctl};
use pintle_proxy_cases::{Client, Destination, World};
use pintle_testkit::{MountNs, Netns, eventually};
use rustix::net::{AddressFamily, Protocol, SocketType, ipproto, sockopt};

/// A transport to speak over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// Who answered, and whose address it saw.
    Answer(String, IpAddr),
    Refused,
    Silence,
    /// Something no row expects.
    Failed(String),
}

/// Whether a process of the node that is no proxy listens at the node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePort {
    Taken,
    Free,
}

/// How pods are linked to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Each by a link of its own.
    Routed,
    /// All by one bridge, over which they reach each other without the node's routing; bridged packets meet its rules
    /// (br_netfilter), as clusters with such a network need it.
    Bridged,
}

/// The bridge, if there is one.
pub const BRIDGE: &str = "br-pods";

pub const ENDPOINTS: [char; 5] = ['a', 'b', 'c', 'd', 'e'];
/// Where the world's own routers are.
const WORLD: [&str; 2] = ["203.0.114.1", "fd00:204::1"];
pub struct Star {
    pub world: World,
    transport: Transport,
    links: Links,
    _netns: Netns,
    _mounts: MountNs,
}

/// Whether this kernel can speak a transport.
pub fn is_known(transport: Transport) -> bool {
    transport == Transport::Udp || stream_socket(transport, true).is_ok()
}

impl Star {
    pub fn new(world: World, transport: Transport, links: Links, node_port: NodePort) -> Self {
        let (mounts, netns) = (MountNs::private(), Netns::fresh());
        for (name, value) in [
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            // Every refusal counts here; by default the kernel sends few.
            ("net.ipv4.icmp_ratelimit", "0"),
            ("net.ipv6.icmp.ratelimit", "0"),
        ] {
            sysctl::set(name, value).unwrap();
        }
        let star = Self { world, transport, links, _netns: netns, _mounts: mounts };
        let both = [World::v4(), World::v6()];
        if links == Links::Bridged {
            make_bridge();
        }
        star.join("pod", "veth-pod", &both.each_ref().map(|w| w.pod));
        star.join("other-node", "eth1", &both.each_ref().map(|w| w.other_node));
        star.join("outside", "eth2", &both.each_ref().map(|w| w.outside));
        let beyond: Vec<IpAddr> =
            WORLD.iter().map(|a| a.parse().unwrap()).chain(both.iter().map(|w| w.proxied)).collect();
        star.join("world", "eth0", &beyond);
        for name in ENDPOINTS {
            let addrs: Vec<IpAddr> =
                both.iter().flat_map(|w| [w.endpoint(name, true), w.endpoint(name, false)]).collect();
            star.join(&name.to_string(), &format!("veth-{name}"), &addrs);
        }
        for via in WORLD {
            ip(&["route", "add", "default", "via", via, "dev", "eth0"]);
        }
        star.serve(node_port);
        star
    }

    /// A namespace with these addresses, linked to the node.
    fn join(&self, name: &str, device: &str, addrs: &[IpAddr]) {
        ip(&["netns", "add", name]);
        netns::run_blocking(&path(name), || sysctl::set("net.ipv6.conf.default.accept_dad", "0")).unwrap().unwrap();
        ip(&["link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        ip(&["link", "set", device, "up"]);
        let is_bridged = self.links == Links::Bridged && device.starts_with(World::POD_INTERFACES);
        let way = if is_bridged { BRIDGE } else { device };
        if is_bridged {
            ip(&["link", "set", device, "master", BRIDGE]);
            // Who reaches itself comes back by the port it left by.
            ip(&["link", "set", device, "type", "bridge_slave", "hairpin", "on"]);
        } else {
            node_addrs(device);
        }
        for own in addrs {
            addr("add", Some(name), *own, "eth0");
            ip(&["route", "add", &host(*own), "dev", way]);
        }
        if is_bridged {
            let pods = [World::v4(), World::v6()]
                .into_iter()
                .flat_map(|w| ENDPOINTS.into_iter().map(|e| w.endpoint(e, true)).chain([w.pod]).collect::<Vec<_>>());
            for other in pods.filter(|pod| !addrs.contains(pod)) {
                ip(&["-n", name, "route", "add", &host(other), "dev", "eth0"]);
            }
        }
        for node in [World::v4().node, World::v6().node] {
            ip(&["-n", name, "route", "add", &host(node), "dev", "eth0"]);
            ip(&["-n", name, "route", "add", "default", "via", &node.to_string(), "dev", "eth0"]);
        }
    }

    /// Lets everybody answer who may be spoken to.
    fn serve(&self, node_port: NodePort) {
        let (world, transport) = (&self.world, self.transport);
        for name in ENDPOINTS {
            let at = [true, false].map(|here| SocketAddr::new(world.endpoint(name, here), World::TARGET_PORT));
            netns::run_blocking(&path(&name.to_string()), move || at.map(|a| answer(transport, a, name.to_string())))
                .unwrap();
        }
        let proxied = SocketAddr::new(world.proxied, World::PORT);
        netns::run_blocking(&path("world"), move || answer(transport, proxied, "world".into())).unwrap();
        answer(transport, (world.node, World::OTHER_PORT).into(), "node".into());
        if node_port == NodePort::Taken {
            for addr in [world.node, world.loopback] {
                answer(transport, (addr, World::NODE_PORT).into(), "node".into());
            }
        }
    }

    /// What is spoken.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Gives the node an address more, or takes it again.
    pub fn node_has(&self, own: IpAddr, has: bool) {
        addr(if has { "add" } else { "del" }, None, own, "lo");
        // The kernel makes the route of an IPv6 address later, and by that the rules know whose it is.
        eventually("the route follows the address", Duration::from_secs(5), || {
            let family = if own.is_ipv4() { "-4" } else { "-6" };
            let listed = [family, "route", "show", "table", "local", "proto", "kernel", &host(own)];
            let found = Command::new("ip").args(listed).output().unwrap();
            (found.stdout.is_empty() != has).then_some(())
        });
    }

    /// Asks as a client; whoever answers says its name and whom it saw. Waits for so long at most.
    pub fn ask(&self, from: Client, source: IpAddr, to: SocketAddr, wait: Duration) -> Got {
        let transport = self.transport;
        let work = move || match transport {
            Transport::Udp => ask_datagram(source, to, wait),
            Transport::Tcp | Transport::Sctp => ask_stream(transport, source, to, wait),
        };
        let name = match from {
            Client::Pod => "pod".to_owned(),
            Client::OtherNode => "other-node".to_owned(),
            Client::Outside => "outside".to_owned(),
            Client::Endpoint(name) => name.to_string(),
            Client::Node | Client::NodeAsLoadBalancer => return work().unwrap_or_else(outcome),
        };
        netns::run_blocking(&path(&name), work).unwrap().unwrap_or_else(outcome)
    }

    /// Who answers where a packet goes that nobody touches.
    pub fn owner(&self, to: Destination) -> String {
        match to {
            Destination::Endpoint(name) => name.to_string(),
            Destination::NodePort | Destination::NodePortOtherPort | Destination::NodePortLoopback => "node".into(),
            _ => "world".into(),
        }
    }
}

/// A bridge with the node's addresses, whose packets meet the node's rules.
fn make_bridge() {
    ip(&["link", "add", BRIDGE, "type", "bridge"]);
    ip(&["link", "set", BRIDGE, "up"]);
    node_addrs(BRIDGE);
    for name in ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"] {
        sysctl::set(name, "1").expect("br_netfilter is needed (a kernel module)");
    }
}

fn node_addrs(device: &str) {
    for node in [World::v4().node, World::v6().node] {
        addr("add", None, node, device);
    }
}

fn outcome(error: std::io::Error) -> Got {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // The latter where this machine's own routing refuses.
        Some(Errno::CONNREFUSED | Errno::INVAL) => Got::Refused,
        Some(Errno::INPROGRESS | Errno::AGAIN | Errno::TIMEDOUT) => Got::Silence,
        _ => Got::Failed(error.to_string()),
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

fn host(addr: IpAddr) -> String {
    format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 })
}

/// Adds or takes an address; a new one is usable at once, as nobody else can have it.
fn addr(what: &str, netns: Option<&str>, addr: IpAddr, device: &str) {
    let host = host(addr);
    let mut args: Vec<&str> = netns.map_or_else(Vec::new, |name| vec!["-n", name]);
    args.extend(["addr", what, &host, "dev", device]);
    args.extend((what == "add" && addr.is_ipv6()).then_some("nodad"));
    ip(&args);
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip is needed (package iproute2)");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn stream_socket(transport: Transport, v4: bool) -> std::io::Result<OwnedFd> {
    let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol: Protocol = if transport == Transport::Sctp { ipproto::SCTP } else { ipproto::TCP };
    Ok(rustix::net::socket(family, SocketType::STREAM, Some(protocol))?)
}

/// Answers for as long as the test runs.
fn answer(transport: Transport, at: SocketAddr, name: String) {
    if transport == Transport::Udp {
        let socket = UdpSocket::bind(at).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                // An error is the answer to something sent to a client that is gone.
                let Ok((_, peer)) = socket.recv_from(&mut buffer) else { continue };
                drop(socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer));
            }
        });
        return;
    }
    let listener = stream_socket(transport, at.is_ipv4()).unwrap();
    sockopt::set_socket_reuseaddr(&listener, true).unwrap();
    rustix::net::bind(&listener, &at).unwrap();
    rustix::net::listen(&listener, 128).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, Some(peer))) = rustix::net::acceptfrom(&listener) {
            let peer = SocketAddr::try_from(peer).unwrap();
            // The client may be gone by now.
            let _ = rustix::io::write(&stream, format!("{name} {}", peer.ip()).as_bytes());
        }
    });
}

fn read_answer(bytes: &[u8]) -> Got {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match text.split_once(' ').map(|(name, peer)| (name, peer.parse())) {
        Some((name, Ok(peer))) => Got::Answer(name.to_owned(), peer),
        _ => Got::Failed(format!("an answer that is none: {text:?}")),
    }
}

fn ask_stream(transport: Transport, source: IpAddr, to: SocketAddr, wait: Duration) -> std::io::Result<Got> {
    let stream = stream_socket(transport, to.is_ipv4())?;
    for which in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&stream, which, Some(wait))?;
    }
    rustix::net::bind(&stream, &SocketAddr::new(source, 0))?;
    rustix::net::connect(&stream, &to)?;
    let mut buffer = [0; 64];
    let read = rustix::io::read(&stream, &mut buffer)?;
    Ok(read_answer(&buffer[..read]))
}

fn ask_datagram(source: IpAddr, to: SocketAddr, wait: Duration) -> std::io::Result<Got> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(wait))?;
    match socket.send(b"?") {
        // The sender's own machine stopped it: what it says of a refusal comes with the next call.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {}
        sent => drop(sent?),
    }
    let mut buffer = [0; 64];
    let read = socket.recv(&mut buffer)?;
    Ok(read_answer(&buffer[..read]))
}
