//! Connections without end while Services change, and the truth they are held against: who may answer at which moment.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pintle_net::netns;
use rustix::net::sockopt;

use crate::star::{Transport, stream_socket};

/// What one Service may do at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Who may answer.
    pub servers: BTreeSet<String>,
    /// Whether a connection may fail: nobody serves, or somebody deleted the rules.
    pub may_fail: bool,
}

/// What was allowed since the beginning, of every Service.
pub struct Truth {
    history: Mutex<Vec<Vec<Allowed>>>,
    wrong: Mutex<Vec<String>>,
    pub asked: AtomicUsize,
    stop: AtomicBool,
    /// How long a client rests after each connection: the machine does other things too.
    rest: Duration,
    transport: Transport,
}

impl Truth {
    pub fn new(services: usize) -> Arc<Self> {
        Self::over(Transport::Tcp, services, Duration::from_millis(1))
    }

    /// With clients that rest this long between connections of this kind, TCP or SCTP.
    pub fn over(transport: Transport, services: usize, rest: Duration) -> Arc<Self> {
        let nobody = Allowed { servers: BTreeSet::new(), may_fail: true };
        Arc::new(Self {
            history: Mutex::new(vec![vec![nobody]; services]),
            wrong: Mutex::default(),
            asked: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            rest,
            transport,
        })
    }

    fn now(&self, service: usize) -> usize {
        self.history.lock().unwrap()[service].len() - 1
    }

    pub fn current(&self, service: usize) -> Allowed {
        self.history.lock().unwrap()[service].last().unwrap().clone()
    }

    pub fn set(&self, service: usize, allowed: Allowed) {
        self.history.lock().unwrap()[service].push(allowed);
    }

    /// A change to these servers: while `work` lasts those of before may answer too.
    pub fn change(&self, service: usize, servers: BTreeSet<String>, work: impl FnOnce()) {
        let before = self.current(service);
        let both = before.servers.union(&servers).cloned().collect();
        self.set(service, Allowed { servers: both, may_fail: before.servers.is_empty() || servers.is_empty() });
        work();
        let may_fail = servers.is_empty();
        self.set(service, Allowed { servers, may_fail });
    }

    fn judge(&self, service: usize, since: usize, got: &std::io::Result<String>) {
        let history = self.history.lock().unwrap();
        let meanwhile = &history[service][since..];
        let right = match got {
            Ok(name) => meanwhile.iter().any(|a| a.servers.contains(name)),
            Err(_) => meanwhile.iter().any(|a| a.may_fail),
        };
        if !right {
            self.wrong.lock().unwrap().push(format!("service {service}: {got:?}, but allowed was {meanwhile:?}"));
        }
    }

    /// Ends the load; everything that went wrong.
    pub fn finish(&self, clients: Vec<JoinHandle<()>>) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        std::mem::take(&mut *self.wrong.lock().unwrap())
    }

    /// A client in a namespace (the node's without one) that connects to a Service again and again.
    pub fn client(
        self: &Arc<Self>,
        netns: Option<std::path::PathBuf>,
        service: usize,
        to: SocketAddr,
    ) -> JoinHandle<()> {
        let truth = self.clone();
        std::thread::spawn(move || {
            if let Some(path) = netns {
                netns::enter(&path).unwrap();
            }
            let mut ports = PORTS.cycle();
            while !truth.stop.load(Ordering::Relaxed) {
                let since = truth.now(service);
                truth.judge(service, since, &connect(truth.transport, to, &mut ports));
                truth.asked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(truth.rest);
            }
        })
    }
}

/// Source ports, one after the other: connection tracking remembers a connection that was reset for ten seconds, and
/// takes another from the same port for its continuation, on the way to the same server.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// One connection: who answered.
fn connect(transport: Transport, to: SocketAddr, ports: &mut impl Iterator<Item = u16>) -> std::io::Result<String> {
    let mut stream = TcpStream::from(bound(transport, ports)?);
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(Duration::from_secs(4)))?;
    rustix::net::connect(&stream, &to)?;
    // A reset at the end leaves nothing behind that would use up ports.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    stream.set_read_timeout(Some(Duration::from_secs(4)))?;
    stream.write_all(b"?\n")?;
    let mut buffer = [0; 64];
    let n = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn bound(transport: Transport, ports: &mut impl Iterator<Item = u16>) -> std::io::Result<OwnedFd> {
    loop {
        let socket = stream_socket(transport, true)?;
        let port = ports.next().unwrap();
        match rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))) {
            Ok(()) => return Ok(socket),
            Err(rustix::io::Errno::ADDRINUSE) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
