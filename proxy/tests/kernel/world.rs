//! A node made of namespaces: the calling thread's is the node, pods are below it, and one more stands for a machine
//! outside the cluster, reached by a link.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pintle_net::link::{self, NodeLink};
use pintle_net::netns;
use pintle_net::pod::{self, PodLink};
use pintle_testkit::{MountNs, Netns};

use crate::star::{Transport, stream_socket};

pub const NODE: &str = "192.0.2.1";
pub const OUTSIDE: &str = "192.0.2.2";

pub struct World {
    pub dir: tempfile::TempDir,
    // Dropped in this order: back to the old network namespace first.
    _netns: Netns,
    _mounts: MountNs,
}

/// A fresh node; `None`, loudly, without root.
pub fn world(what_for: &str) -> Option<World> {
    if !pintle_testkit::require_root(what_for) {
        return None;
    }
    let (_mounts, _netns) = (MountNs::private(), Netns::fresh());
    // In the private /run: what is mounted in it could not be removed elsewhere, and goes with the namespace there.
    let world = World { dir: tempfile::tempdir_in("/run").unwrap(), _netns, _mounts };
    // Outside and node share a link; the node's default route leads there, and outside routes everything back.
    let link = NodeLink {
        netns: world.path("outside"),
        host_name: "eth0".into(),
        host_addr: format!("{NODE}/30").parse().unwrap(),
        node_name: "eth0".into(),
        node_addr: format!("{OUTSIDE}/30").parse().unwrap(),
        mtu: 1500,
        ranges: vec!["0.0.0.0/0".parse().unwrap()],
    };
    block_on(link::ensure(&link)).unwrap();
    Some(world)
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

impl World {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("netns").join(name)
    }

    /// A pod with this address.
    pub fn pod(&self, addr: &str) -> PathBuf {
        block_on(pod::ensure(&PodLink::new(self.dir.path(), addr, addr.parse().unwrap()))).unwrap();
        self.path(addr)
    }

    pub fn outside(&self) -> PathBuf {
        self.path("outside")
    }
}

/// Serves TCP and UDP in a namespace for as long as the test runs: every answer is `<own address> <client's address>`.
pub fn serve(netns: &std::path::Path, addr: &str, port: u16) {
    let bind = SocketAddr::new(addr.parse().unwrap(), port);
    let name = addr.to_owned();
    netns::run_blocking(netns, move || {
        let (tcp, udp) = (TcpListener::bind(bind).unwrap(), UdpSocket::bind(bind).unwrap());
        let also = name.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let (mut stream, name) = (stream.unwrap(), name.clone());
                std::thread::spawn(move || converse(&mut stream, &name));
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                // A client may be gone by now.
                drop(udp.send_to(format!("{also} {}", from.ip()).as_bytes(), from));
            }
        });
    })
    .unwrap();
}

/// The same over SCTP.
pub fn serve_sctp(netns: &std::path::Path, addr: &str, port: u16) {
    let (at, name) = (SocketAddr::new(addr.parse().unwrap(), port), addr.to_owned());
    netns::run_blocking(netns, move || {
        let listener = stream_socket(Transport::Sctp, at.is_ipv4()).unwrap();
        rustix::net::bind(&listener, &at).unwrap();
        rustix::net::listen(&listener, 128).unwrap();
        std::thread::spawn(move || {
            loop {
                // The standard library's stream reads and writes any.
                let (mut stream, name) = (TcpStream::from(rustix::net::accept(&listener).unwrap()), name.clone());
                std::thread::spawn(move || converse(&mut stream, &name));
            }
        });
    })
    .unwrap();
}

/// Answers each line of a connection.
fn converse(stream: &mut TcpStream, name: &str) {
    let Ok(peer) = stream.peer_addr() else { return };
    let mut buffer = [0; 64];
    while matches!(stream.read(&mut buffer), Ok(n) if n > 0) {
        if stream.write_all(format!("{name} {}\n", peer.ip()).as_bytes()).is_err() {
            return;
        }
    }
}

/// One TCP question from the calling thread's namespace.
pub fn ask(to: &str) -> std::io::Result<String> {
    // Longer than it takes the kernel to try once more.
    ask_within(to, Duration::from_millis(2500))
}

/// The same, given up earlier.
pub fn ask_within(to: &str, wait: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), wait)?;
    ask_again(&mut stream)
}

pub fn ask_again(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"?\n")?;
    let mut buffer = [0; 64];
    let n = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).trim().to_owned())
}

pub fn ask_from(netns: &std::path::Path, to: &str) -> std::io::Result<String> {
    let to = to.to_owned();
    netns::run_blocking(netns, move || ask(&to)).unwrap()
}

/// One UDP question from the calling thread's namespace, from a socket that stays the same between calls.
pub fn ask_udp(socket: &UdpSocket, to: &str) -> std::io::Result<String> {
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 64];
    let n = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

pub fn ask_udp_from(netns: &std::path::Path, to: &str) -> std::io::Result<String> {
    let to = to.to_owned();
    netns::run_blocking(netns, move || {
        let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).unwrap();
        ask_udp(&socket, &to)
    })
    .unwrap()
}

/// What the real `nft` lists.
pub fn nft_list() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().expect("nft is needed (package nftables)");
    assert!(output.status.success(), "nft list ruleset: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command of the real `nft`, as somebody else on the machine would give it.
pub fn nft(args: &[&str]) {
    let status = Command::new("nft").args(args).status().expect("nft is needed (package nftables)");
    assert!(status.success(), "nft {args:?}");
}
