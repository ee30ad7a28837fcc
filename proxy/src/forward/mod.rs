//! Forwarding by this process: sockets that listen for Services, and connections and flows from each to a server. Owns
//! the sockets and what goes through them; who serves whom is a [`Listener`]'s word.
//!
//! ```text
//!  Listener ─► Forwarder ── opens ──► tcp: accept ─► target draws ─► connect ─► relay: both directions, by splice
//!                                 └─► udp: datagram ─► a flow for each client, until both ends are silent
//! ```
//!
//! Bounded in descriptors ([`Limits`]): what is too much waits in the kernel's queues, or, of datagrams, is lost.

mod counters;
mod limits;
mod relay;
mod sockets;
mod target;
mod tcp;
mod udp;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pintle_nft::{Cidr, Family, Flow, Proto};
use pintle_proxy_plan::userspace::{Guard, Listener, NO_SCTP, PortName, filter};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use counters::Counters;
pub use limits::Limits;
pub use target::Origins;

use relay::Pipes;
use target::{Clients, Target};

/// A socket's own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Transport protocol.
    pub proto: Proto,
    /// Address, which may be a wildcard, and port.
    pub addr: SocketAddr,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.proto.name())
    }
}

/// How long silent UDP flows live, as connection tracking tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// One without an answer, or with one question and its answer only.
    pub brief: Duration,
    /// One that has gone to and fro for a while.
    pub stream: Duration,
}

impl Default for Idle {
    /// The kernel's `nf_conntrack_udp_timeout` and `nf_conntrack_udp_timeout_stream`.
    fn default() -> Self {
        Self { brief: Duration::from_secs(30), stream: Duration::from_secs(120) }
    }
}

/// Why a frontend cannot be listened for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The kernel's reason.
    #[error("cannot {action}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There are as many listeners as descriptors allow.
    #[error("{listeners_max} sockets listen already; raise the limit of open files for more")]
    Full {
        /// How many may be.
        listeners_max: usize,
    },
    /// The source ranges are too many for a socket filter.
    #[error("{0}")]
    Filter(filter::TooLong),
    /// The protocol is not forwarded.
    #[error("{NO_SCTP}")]
    Sctp,
}

impl Refused {
    /// Whether this machine lacks the address's family.
    pub fn is_absent_family(&self) -> bool {
        let Self::Socket { source, .. } = self else { return false };
        let no_family = source.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        no_family || source.kind() == std::io::ErrorKind::AddrNotAvailable
    }

    /// The whole of it, in one line.
    pub fn text(&self) -> String {
        match self {
            Self::Socket { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                format!("{self}: another process on this machine listens there")
            }
            Self::Socket { source, .. } => format!("{self}: {source}"),
            Self::Full { .. } | Self::Filter(_) | Self::Sctp => self.to_string(),
        }
    }
}

/// What all listeners have in common.
struct Shared {
    limits: Limits,
    idle: Idle,
    /// Connections that may still come.
    places: Arc<Semaphore>,
    /// UDP flows that may still come.
    flows: Arc<Semaphore>,
    pipes: Pipes,
    counters: Arc<Counters>,
    said_full: AtomicBool,
}

impl Shared {
    /// Once: it is a matter of a setting, whatever the Service.
    fn say_full(&self, what: &'static str, max: usize) {
        if !self.said_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                max,
                "as many {what} as descriptors allow are forwarded, further ones wait or are lost; raise the limit of open files"
            );
        }
    }
}

/// What listens, and goes on being forwarded.
pub struct Forwarder {
    runtime: Handle,
    shared: Arc<Shared>,
    origins: Arc<dyn Origins>,
    open: HashMap<At, Open>,
    /// Clients that stay with their servers: one list for all frontends of a port.
    clients: HashMap<PortName, Weak<Clients>>,
    closing: Vec<JoinHandle<()>>,
}

struct Open {
    target: Arc<Target>,
    guard: Guard,
    socket: Socket,
    task: JoinHandle<()>,
}

enum Socket {
    Tcp(Arc<TcpListener>),
    Udp(Arc<udp::Port>),
}

impl Forwarder {
    /// Nothing listens yet. Within a runtime, whose threads must be in the network namespace of the caller.
    pub fn new(limits: Limits, idle: Idle, origins: Arc<dyn Origins>) -> Self {
        let shared = Shared {
            limits,
            idle,
            places: Arc::new(Semaphore::new(limits.connections)),
            flows: Arc::new(Semaphore::new(limits.flows)),
            pipes: Pipes::new(limits.pipes),
            counters: Arc::default(),
            said_full: AtomicBool::new(false),
        };
        Self {
            runtime: Handle::current(),
            shared: Arc::new(shared),
            origins,
            open: HashMap::new(),
            clients: HashMap::new(),
            closing: Vec::new(),
        }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// How many sockets listen.
    pub fn sockets(&self) -> usize {
        self.open.len()
    }

    /// Where it listens.
    pub fn listening(&self) -> impl Iterator<Item = &At> {
        self.open.keys()
    }

    /// Who tells where connections come from, from now on; for sockets opened later.
    pub fn set_origins(&mut self, origins: Arc<dyn Origins>) {
        self.origins = origins;
    }

    /// Listens for a Service's port, or changes what is listened for there. Connections that exist go on.
    pub fn set(&mut self, at: At, listener: &Arc<Listener>) -> Result<(), Refused> {
        let family = Family::of(at.addr.ip());
        let open = match self.open.get_mut(&at) {
            Some(open) => open,
            None => return self.open(at, listener),
        };
        if open.guard != listener.guard {
            let program = filter::compile(&listener.guard, family).map_err(Refused::Filter)?;
            match &open.socket {
                Socket::Tcp(socket) => sockets::set_filter(socket, program.as_deref())?,
                Socket::Udp(port) => sockets::set_filter(port.socket(), program.as_deref())?,
            }
            open.guard = listener.guard.clone();
        }
        let clients = clients(&mut self.clients, &listener.port);
        open.target.set(listener, clients, self.origins.clone());
        Ok(())
    }

    fn open(&mut self, at: At, listener: &Arc<Listener>) -> Result<(), Refused> {
        if self.open.len() >= self.shared.limits.listeners {
            return Err(Refused::Full { listeners_max: self.shared.limits.listeners });
        }
        let program = filter::compile(&listener.guard, Family::of(at.addr.ip())).map_err(Refused::Filter)?;
        let clients = clients(&mut self.clients, &listener.port);
        let target = Arc::new(Target::new(listener.clone(), clients, self.origins.clone()));
        let _runtime = self.runtime.enter();
        let (socket, task) = match at.proto {
            Proto::Tcp => {
                let socket = Arc::new(sockets::listen(at.addr, program.as_deref())?);
                let task = tokio::spawn(tcp::serve(socket.clone(), target.clone(), self.shared.clone()));
                (Socket::Tcp(socket), task)
            }
            Proto::Udp => {
                let socket = sockets::bind(at.addr, program.as_deref())?;
                let port = Arc::new(udp::Port::new(socket, target.clone(), self.shared.clone()));
                (Socket::Udp(port.clone()), tokio::spawn(udp::serve(port)))
            }
            Proto::Sctp => return Err(Refused::Sctp),
        };
        self.open.insert(at, Open { target, guard: listener.guard.clone(), socket, task });
        self.shared.counters.listeners.set(self.open.len());
        Ok(())
    }

    /// Listens there no more; UDP flows end, TCP connections go on. [`Forwarder::settle`] waits for it.
    pub fn close(&mut self, at: &At) {
        let Some(open) = self.open.remove(at) else { return };
        self.shared.counters.listeners.set(self.open.len());
        open.task.abort();
        self.closing.push(open.task);
        drop((open.target, open.socket));
        self.clients.retain(|_, clients| clients.strong_count() > 0);
    }

    /// Waits until what was closed refuses.
    pub async fn settle(&mut self) {
        for task in self.closing.drain(..) {
            // Cancelled, as it was told.
            drop(task.await);
        }
    }

    /// Waits likewise, on a thread that may block.
    pub fn settle_blocking(&mut self) {
        let runtime = self.runtime.clone();
        runtime.block_on(self.settle());
    }

    /// The UDP flows there are.
    pub fn flows(&self) -> Vec<Flow> {
        let ports =
            self.open.values().filter_map(|o| if let Socket::Udp(port) = &o.socket { Some(port) } else { None });
        ports.flat_map(|port| port.flows()).collect()
    }

    /// Ends a flow: its client's next datagram begins another.
    pub fn forget(&self, flow: &Flow) {
        let (addr, number) = flow.frontend;
        let any = Cidr::default_route(Family::of(addr)).addr();
        for at in [addr, any].map(|addr| At { proto: flow.proto, addr: SocketAddr::new(addr, number) }) {
            if let Some(Open { socket: Socket::Udp(port), .. }) = self.open.get(&at) {
                port.forget(flow);
            }
        }
    }
}

/// The clients of a Service's port, at whatever frontend they come.
fn clients(all: &mut HashMap<PortName, Weak<Clients>>, port: &PortName) -> Arc<Clients> {
    if let Some(known) = all.get(port).and_then(Weak::upgrade) {
        return known;
    }
    let new = Arc::new(Clients::default());
    all.insert(port.clone(), Arc::downgrade(&new));
    new
}
