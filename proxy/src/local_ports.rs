//! Node ports on loopback addresses, by a forwarder in this process: packet rules could serve them only by routing
//! loopback addresses to the world. TCP and UDP; bounded in sockets, connections and flows.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pintle_nft::Proto;
use pintle_proxy_plan::endpoints::Backend as Server;
use pintle_proxy_plan::outputs::{LoopbackChanges, LoopbackPort};
use pintle_proxy_plan::service::Affinity;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Connections forwarded at once; further ones are closed.
const CONNECTIONS_MAX: usize = 256;
/// UDP clients of one port at once; datagrams of further ones are dropped.
const FLOWS_MAX: usize = 64;
/// A UDP client that is silent for so long is forgotten.
const FLOW_IDLE: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const DATAGRAM_MAX: usize = 65_535;

/// The forwarders that run.
pub struct LocalPorts {
    ports: BTreeMap<(Proto, u16), Forwarder>,
    places: Arc<Semaphore>,
    ports_max: usize,
}

struct Forwarder {
    target: Arc<Target>,
    _stop: DropGuard,
}

/// Whom a port leads to now.
struct Target {
    state: Mutex<(Vec<Server>, Affinity)>,
    next: AtomicUsize,
}

impl Target {
    fn new(port: &LoopbackPort) -> Self {
        Self { state: Mutex::new((port.servers.clone(), port.affinity)), next: AtomicUsize::new(0) }
    }

    fn set(&self, port: &LoopbackPort) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (port.servers.clone(), port.affinity);
    }

    /// The servers in the order in which they are to be tried. There is one client, this machine: with affinity it
    /// stays with the first.
    fn choose(&self) -> Vec<SocketAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut servers: Vec<SocketAddr> = state.0.iter().map(|s| SocketAddr::new(s.addr, s.port)).collect();
        if state.1 == Affinity::None && !servers.is_empty() {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % servers.len();
            servers.rotate_left(first);
        }
        servers
    }
}

/// A port that could not be had.
#[derive(Debug)]
pub struct Refused {
    /// Which.
    pub port: u16,
    /// Of which protocol.
    pub proto: Proto,
    /// Why.
    pub source: std::io::Error,
}

impl LocalPorts {
    /// None yet. A quarter of the file descriptors this process may have go to listeners.
    pub fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1024);
        let ports_max = usize::try_from(descriptors / 8).unwrap_or(128).min(4096);
        Self { ports: BTreeMap::new(), places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), ports_max }
    }

    /// How many ports are served.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Ends all forwarders.
    pub fn clear(&mut self) {
        self.ports.clear();
    }

    /// Follows the changes. A port that cannot be had is returned and left out until it changes. Connections that
    /// exist go on when their port changes.
    pub async fn apply(&mut self, changes: &LoopbackChanges) -> Vec<Refused> {
        let mut refused = Vec::new();
        for ((proto, number), change) in changes {
            let Some(port) = change else {
                self.ports.remove(&(*proto, *number));
                continue;
            };
            if let Some(known) = self.ports.get(&(*proto, *number)) {
                known.target.set(port);
                continue;
            }
            match self.start(port).await {
                Ok(forwarder) => drop(self.ports.insert((*proto, *number), forwarder)),
                Err(source) => refused.push(Refused { port: *number, proto: *proto, source }),
            }
        }
        refused
    }

    async fn start(&self, port: &LoopbackPort) -> std::io::Result<Forwarder> {
        if self.ports.len() >= self.ports_max {
            let why = format!("{} are served already; raise the limit of open files for more", self.ports_max);
            return Err(std::io::Error::other(why));
        }
        let (target, stop) = (Arc::new(Target::new(port)), CancellationToken::new());
        match port.proto {
            Proto::Tcp => {
                for listener in listen_tcp(port.port).await? {
                    tokio::spawn(stop.clone().run_until_cancelled_owned(serve_tcp(
                        listener,
                        target.clone(),
                        self.places.clone(),
                    )));
                }
            }
            Proto::Udp => {
                for socket in bind_udp(port.port).await? {
                    let (target, stop) = (target.clone(), stop.clone());
                    tokio::spawn(async move {
                        stop.clone().run_until_cancelled(serve_udp(Arc::new(socket), target, stop)).await;
                    });
                }
            }
            Proto::Sctp => return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "SCTP is not forwarded")),
        }
        Ok(Forwarder { target, _stop: stop.drop_guard() })
    }
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A machine may lack IPv6; it always has 127.0.0.1.
fn is_absent(addr: IpAddr, error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, Unsupported};
    let no_family = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    addr.is_ipv6() && (no_family || matches!(error.kind(), AddrNotAvailable | Unsupported))
}

async fn listen_tcp(port: u16) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for addr in LOOPBACK {
        match TcpListener::bind((addr, port)).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_absent(addr, &error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

async fn bind_udp(port: u16) -> std::io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    for addr in LOOPBACK {
        match UdpSocket::bind((addr, port)).await {
            Ok(socket) => sockets.push(socket),
            Err(error) if is_absent(addr, &error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

async fn serve_tcp(listener: TcpListener, target: Arc<Target>, places: Arc<Semaphore>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, say: the next connection may do better.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Nobody serves, or too much is going on: the client is told by a closed connection.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let target = target.clone();
        tokio::spawn(async move {
            let _place = place;
            forward(client, target.choose()).await;
        });
    }
}

async fn forward(mut client: TcpStream, servers: Vec<SocketAddr>) {
    for server in servers {
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(server)).await {
            // A connection that ends is no news to anybody but its ends.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, target: Arc<Target>, stop: CancellationToken) {
    let flows: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        // An error here is the answer to something sent to a client that is gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let known = flows.lock().unwrap_or_else(PoisonError::into_inner).get(&client).cloned();
        let flow = match known {
            Some(flow) => flow,
            None => {
                if flows.lock().unwrap_or_else(PoisonError::into_inner).len() >= FLOWS_MAX {
                    continue;
                }
                let Some(flow) = connect_udp(&target).await else { continue };
                flows.lock().unwrap_or_else(PoisonError::into_inner).insert(client, flow.clone());
                let answers = answer_udp(socket.clone(), flow.clone(), client, flows.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(answers));
                flow
            }
        };
        // UDP may lose datagrams; a server that is gone is found out by the answers' task.
        let _ = flow.send(&buffer[..length]).await;
    }
}

async fn connect_udp(target: &Target) -> Option<Arc<UdpSocket>> {
    let server = *target.choose().first()?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let flow = UdpSocket::bind((any, 0)).await.ok()?;
    flow.connect(server).await.ok()?;
    Some(Arc::new(flow))
}

/// Brings a server's answers to a client until both are silent.
async fn answer_udp(
    socket: Arc<UdpSocket>,
    flow: Arc<UdpSocket>,
    client: SocketAddr,
    flows: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    while let Ok(Ok(length)) = tokio::time::timeout(FLOW_IDLE, flow.recv(&mut buffer)).await {
        if socket.send_to(&buffer[..length], client).await.is_err() {
            break;
        }
    }
    flows.lock().unwrap_or_else(PoisonError::into_inner).remove(&client);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A TCP server that says its name to whoever comes.
    async fn server(name: &'static str) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // The client may have gone.
                let _ = stream.write_all(name.as_bytes()).await;
            }
        });
        Server { addr: addr.ip(), port: addr.port() }
    }

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut answer = String::new();
        TcpStream::connect(("127.0.0.1", port)).await?.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn to(proto: Proto, port: u16, servers: Vec<Server>, affinity: Affinity) -> LoopbackChanges {
        BTreeMap::from([((proto, port), Some(LoopbackPort { proto, port, servers, affinity }))])
    }

    #[tokio::test]
    async fn a_port_leads_to_its_servers_follows_them_and_goes() {
        let (a, b, port) = (server("a").await, server("b").await, free_port());
        let mut ports = LocalPorts::new();
        assert!(ports.apply(&to(Proto::Tcp, port, vec![a, b], Affinity::None)).await.is_empty());
        let mut seen = vec![ask(port).await.unwrap(), ask(port).await.unwrap()];
        seen.sort();
        assert_eq!(seen, ["a", "b"]);
        let sticky = Affinity::ClientIp { timeout_ms: 1000 };
        ports.apply(&to(Proto::Tcp, port, vec![b, a], sticky)).await;
        assert_eq!([ask(port).await.unwrap(), ask(port).await.unwrap()], ["b", "b"]);
        // A server that is gone is passed over; without any the connection is closed.
        let gone = Server { addr: Ipv4Addr::LOCALHOST.into(), port: free_port() };
        ports.apply(&to(Proto::Tcp, port, vec![gone, a], sticky)).await;
        assert_eq!(ask(port).await.unwrap(), "a");
        ports.apply(&to(Proto::Tcp, port, vec![], sticky)).await;
        assert!(ask(port).await.is_ok_and(|answer| answer.is_empty()));
        ports.apply(&BTreeMap::from([((Proto::Tcp, port), None)])).await;
        assert_eq!(ports.len(), 0);
        while ask(port).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn datagrams_come_back_to_who_sent_them() {
        let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
                // The client may have gone.
                let _ = echo.send_to(&buffer[..length], from).await;
            }
        });
        let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut ports = LocalPorts::new();
        let servers = vec![Server { addr: addr.ip(), port: addr.port() }];
        assert!(ports.apply(&to(Proto::Udp, port, servers, Affinity::None)).await.is_empty());
        let mut clients = Vec::new();
        for n in 0..3_u8 {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.send_to(&[n], ("127.0.0.1", port)).await.unwrap();
            clients.push(client);
        }
        for (n, client) in (0_u8..).zip(clients) {
            let mut buffer = [0; 8];
            assert_eq!(client.recv(&mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], n);
        }
    }

    #[tokio::test]
    async fn more_ports_than_descriptors_allow_are_refused_one_by_one() {
        let mut ports = LocalPorts::new();
        ports.ports_max = 1;
        let (one, two) = (free_port(), free_port());
        let mut both = to(Proto::Tcp, one, vec![], Affinity::None);
        both.extend(to(Proto::Tcp, two, vec![], Affinity::None));
        let refused = ports.apply(&both).await;
        assert_eq!((ports.len(), refused.len()), (1, 1));
        assert!(refused[0].source.to_string().contains("raise the limit of open files"), "{}", refused[0].source);
    }
}
