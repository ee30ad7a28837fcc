//! Datagrams: each client of a port has a flow, a socket of its own that is connected to its server and by which the
//! answers come. It ends when both are silent, or when its server is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use pintle_nft::{Flow, Proto};
use pintle_proxy_plan::endpoints::Backend as Server;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::counters::Held;
use super::target::Target;
use super::{Idle, Shared};

const DATAGRAM_MAX: usize = 65_535;
/// A flow that is answered later than this after it began is more than a question and its answer: as the kernel tells
/// them apart (nf_conntrack_proto_udp.c).
const BRIEF: Duration = Duration::from_secs(2);
/// Of so many flows the longest silent one makes place for another.
const LOOKED_AT: usize = 16;

thread_local! {
    /// Where datagrams pass; nothing waits while one is there.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM_MAX]);
}

/// Who speaks, and to which of this machine's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    client: SocketAddr,
    local: IpAddr,
}

/// A socket that takes datagrams, and the flows that came of them.
pub struct Port {
    socket: UdpSocket,
    /// Its number.
    number: u16,
    target: Arc<Target>,
    shared: Arc<Shared>,
    flows: Mutex<HashMap<Ends, Running>>,
}

struct Running {
    server: Server,
    line: Arc<Line>,
    /// Brings the answers.
    _task: AbortOnDropHandle<()>,
    _place: OwnedSemaphorePermit,
}

/// A flow's way to its server.
struct Line {
    socket: UdpSocket,
    begun: Instant,
    /// When anything was last heard of either end, and when of the server: milliseconds since the beginning.
    heard_ms: AtomicU64,
    answered_ms: AtomicU64,
}

impl Line {
    fn hear(&self, clock: &AtomicU64) {
        clock.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it ends, if nothing is heard until then.
    fn ends_at(&self, idle: Idle) -> Instant {
        let at = |clock: &AtomicU64| Duration::from_millis(clock.load(Ordering::Relaxed));
        let idle = if at(&self.answered_ms) > BRIEF { idle.stream } else { idle.brief };
        self.begun + at(&self.heard_ms) + idle
    }
}

impl Port {
    /// Nobody has spoken yet.
    pub fn new(socket: UdpSocket, target: Arc<Target>, shared: Arc<Shared>) -> Self {
        let number = socket.local_addr().map_or(0, |a| a.port());
        Self { socket, number, target, shared, flows: Mutex::default() }
    }

    /// What it listens by.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Ends, Running>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flows there are.
    pub fn flows(&self) -> Vec<Flow> {
        self.running().iter().map(|(ends, running)| self.flow(ends, running.server)).collect()
    }

    fn flow(&self, ends: &Ends, server: Server) -> Flow {
        Flow {
            client: (ends.client.ip(), ends.client.port()),
            frontend: (ends.local, self.number),
            server: (server.addr, server.port),
            proto: Proto::Udp,
            is_answered: true,
        }
    }

    /// Ends a flow, if it is one of these.
    pub fn forget(&self, flow: &Flow) {
        let ends = Ends { client: SocketAddr::from(flow.client), local: flow.frontend.0 };
        let mut flows = self.running();
        if let Entry::Occupied(found) = flows.entry(ends)
            && self.flow(&ends, found.get().server) == *flow
        {
            found.remove();
        }
    }

    /// Takes what has come, until nothing is left.
    fn take(self: &Arc<Self>) -> std::io::Result<()> {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                let (length, ends) = self.socket.try_io(Interest::READABLE, || receive(&self.socket, buffer))?;
                let counters = &self.shared.counters;
                let Some(line) = ends.and_then(|ends| self.line(ends)) else {
                    counters.datagrams_lost.add(1);
                    continue;
                };
                line.hear(&line.heard_ms);
                // Datagrams may be lost; that the server is gone its answers' task finds out.
                match rustix::net::send(&line.socket, &buffer[..length], rustix::net::SendFlags::DONTWAIT) {
                    Ok(_) => counters.datagrams_to_server.add(1),
                    Err(_) => counters.datagrams_lost.add(1),
                }
            }
        })
    }

    /// The flow of a client, a new one if it has none.
    fn line(self: &Arc<Self>, ends: Ends) -> Option<Arc<Line>> {
        let known = self.running().get(&ends).map(|running| running.line.clone());
        known.or_else(|| self.begin(ends))
    }

    fn begin(self: &Arc<Self>, ends: Ends) -> Option<Arc<Line>> {
        let place = self.place()?;
        let server = *self.target.draw(ends.client.ip(), Instant::now()).servers.first()?;
        let socket = connect(SocketAddr::new(server.addr, server.port)).ok()?;
        let (heard_ms, answered_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        let line = Arc::new(Line { socket, begun: Instant::now(), heard_ms, answered_ms });
        self.shared.counters.flows.add(1);
        let task = tokio::spawn(answers(Arc::downgrade(self), line.clone(), ends, self.shared.clone()));
        let running = Running { server, line: line.clone(), _task: AbortOnDropHandle::new(task), _place: place };
        self.running().insert(ends, running);
        Some(line)
    }

    /// A place for a flow, another's if need be.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = || self.shared.flows.clone().try_acquire_owned().ok();
        place().or_else(|| {
            self.shared.say_full("UDP flows", self.shared.limits.flows);
            let mut flows = self.running();
            let silent = flows.iter().take(LOOKED_AT).min_by_key(|(_, r)| r.line.ends_at(self.shared.idle));
            let silent = *silent?.0;
            flows.remove(&silent);
            drop(flows);
            place()
        })
    }

    fn end(&self, ends: &Ends, line: &Arc<Line>) {
        let mut flows = self.running();
        if flows.get(ends).is_some_and(|running| Arc::ptr_eq(&running.line, line)) {
            flows.remove(ends);
        }
    }
}

/// Takes datagrams for as long as it is not cancelled.
pub async fn serve(port: Arc<Port>) {
    loop {
        if port.socket.readable().await.is_ok() {
            // Nothing left, or the answer to something sent to a client that is gone.
            let _ = port.take();
        }
    }
}

/// Brings a server's answers to a client, until both are silent or the server is gone.
async fn answers(port: Weak<Port>, line: Arc<Line>, ends: Ends, shared: Arc<Shared>) {
    let idle = shared.idle;
    let _open = Held::one(&shared.counters.flows_open);
    loop {
        let end = line.ends_at(idle);
        match tokio::time::timeout_at(end.into(), line.socket.readable()).await {
            Ok(Ok(())) => {}
            Err(_) if line.ends_at(idle) > Instant::now() => continue,
            Ok(Err(_)) | Err(_) => break,
        }
        let Some(port) = port.upgrade() else { return };
        match answer(&port, &line, &ends) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Nobody listens at the server any more: the client's next datagram goes to another.
            Err(_) => break,
            Ok(()) => {}
        }
    }
    if let Some(port) = port.upgrade() {
        port.end(&ends, &line);
    }
}

/// Brings one answer.
fn answer(port: &Port, line: &Line, ends: &Ends) -> std::io::Result<()> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = line.socket.try_recv(buffer)?;
        line.hear(&line.heard_ms);
        line.hear(&line.answered_ms);
        // What cannot be sent now is lost, as datagrams may be.
        match reply(&port.socket, &buffer[..length], ends) {
            Ok(_) => port.shared.counters.datagrams_to_client.add(1),
            Err(_) => port.shared.counters.datagrams_lost.add(1),
        }
        Ok(())
    })
}

fn connect(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// A datagram, with who sent it whereto.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<(usize, Option<Ends>)> {
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let got = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let client = got.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port())));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
    });
    let local = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    });
    Ok((got.bytes, client.zip(local).map(|(client, local)| Ends { client, local })))
}

/// Sends from the address that the client spoke to.
fn reply(socket: &UdpSocket, bytes: &[u8], ends: &Ends) -> nix::Result<usize> {
    let (to, parts) = (SockaddrStorage::from(ends.client), [IoSlice::new(bytes)]);
    let send = |from: ControlMessage<'_>| {
        sendmsg(socket.as_raw_fd(), &parts, &[from], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL, Some(&to))
    };
    match ends.local {
        IpAddr::V4(local) => send(ControlMessage::Ipv4PacketInfo(&in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: u32::from(local).to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        })),
        IpAddr::V6(local) => send(ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
            ipi6_addr: in6_addr { s6_addr: local.octets() },
            ipi6_ifindex: 0,
        })),
    }
}
