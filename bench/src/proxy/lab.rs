//! Where connections are measured: a node in a fresh network namespace, a pod that asks and a pod that answers at the
//! addresses of the last Service's endpoints.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use pintle_net::netns;
use pintle_net::pod::{self, PodLink};
use pintle_proxy_cases::synthetic::slice;
use pintle_testkit::Netns;

/// The client's address: of the pod range, and nobody's endpoint.
const CLIENT: &str = "10.127.255.250";
/// The node's own address.
const NODE: &str = "192.0.2.1/32";
const PORT: u16 = 8080;

/// See the module's description.
pub struct Lab {
    netns: Netns,
    client: PathBuf,
    _dir: tempfile::TempDir,
}

impl Lab {
    /// Makes it; the calling thread is in the node's namespace then.
    pub fn new(last_service: u32, endpoints: u32) -> Result<Self> {
        // In the private /run: what is mounted in it goes with the namespace.
        let (netns, dir) = (Netns::fresh(), tempfile::tempdir_in("/run")?);
        let addresses: Vec<String> =
            slice(last_service, endpoints, 0).endpoints.into_iter().flatten().flat_map(|e| e.addresses).collect();
        let first = addresses.first().context("an endpoint")?.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = PodLink::new(dir.path(), "client", CLIENT.parse()?);
        let server = PodLink::new(dir.path(), "server", first.parse()?);
        for link in [&client, &server] {
            runtime.block_on(pod::ensure(link))?;
        }
        let device = server.host_name();
        // Whoever forwards speaks to servers by itself.
        ip(&["addr", "add", NODE, "dev", &device])?;
        for address in &addresses[1..] {
            ip(&["route", "add", address, "via", &first, "dev", &device, "onlink"])?;
        }
        netns::run_blocking(&server.netns, move || serve(&addresses))??;
        Ok(Self { netns, client: client.netns, _dir: dir })
    }

    /// Moves the calling thread to the node.
    pub fn enter(&self) {
        self.netns.enter();
    }

    /// Connects so many times, one after the other; microseconds each.
    pub fn connect(&self, to: SocketAddr, times: u32, until: Until) -> Result<Vec<f64>> {
        netns::run_blocking(&self.client, move || (0..times).map(|_| connect(to, until)).collect::<Result<Vec<f64>>>())?
    }
}

/// How long a connection is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is there, at whatever end answers.
    Connected,
    /// Until the server has said something.
    Answered,
}

/// What the server says.
const ANSWER: [u8; 1] = *b"!";

fn serve(addresses: &[String]) -> Result<()> {
    for address in &addresses[1..] {
        ip(&["addr", "add", &format!("{address}/32"), "dev", "eth0"])?;
    }
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    // It serves until the process ends.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client may be gone already.
            let _ = stream.write_all(&ANSWER);
        }
    });
    Ok(())
}

fn connect(to: SocketAddr, until: Until) -> Result<f64> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(to)?;
    if until == Until::Answered {
        stream.read_exact(&mut [0; ANSWER.len()])?;
    }
    let took = begin.elapsed();
    // A reset leaves no connection behind that waits out its time, and no port is used up.
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    Ok(took.as_secs_f64() * 1e6)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip (package iproute2)")?;
    ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
