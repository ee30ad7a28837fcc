//! Node ports on loopback addresses, forwarded by this process: packet rules could serve them only by routing loopback
//! addresses to the world.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use pintle_nft::{Flow, Proto};
use pintle_proxy_plan::outputs::{LoopbackChanges, LoopbackPort};
use pintle_proxy_plan::userspace::{Listener, Origin};

use crate::forward::{self, At, Counters, Forwarder, Idle, Limits, Origins};
use crate::limits;

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The ports that are served.
pub struct LocalPorts {
    forwarder: Forwarder,
    served: BTreeSet<(Proto, u16)>,
}

/// There is one client, this machine.
struct Ourselves;

impl Origins for Ourselves {
    fn of(&self, _client: IpAddr) -> Origin {
        Origin::Inside
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
    pub why: String,
}

impl LocalPorts {
    /// None yet.
    pub fn new() -> Self {
        Self::within(Limits::aside(limits::open_files()))
    }

    fn within(limits: Limits) -> Self {
        Self { forwarder: Forwarder::new(limits, Idle::default(), Arc::new(Ourselves)), served: BTreeSet::new() }
    }

    /// What goes through them, counted.
    pub fn counters(&self) -> Arc<Counters> {
        self.forwarder.counters()
    }

    /// How many ports are served.
    pub fn len(&self) -> usize {
        self.served.len()
    }

    /// Serves none any more.
    pub fn clear(&mut self) {
        for (proto, port) in std::mem::take(&mut self.served) {
            self.close(proto, port);
        }
    }

    /// Follows the changes. A port that cannot be had is returned and left out until it changes. Connections that
    /// exist go on when their port changes; flows to servers that are gone do not.
    pub async fn apply(&mut self, changes: &LoopbackChanges) -> Vec<Refused> {
        let mut refused = Vec::new();
        for ((proto, number), change) in changes {
            let listener = change.as_ref().and_then(LoopbackPort::listener).map(Arc::new);
            let Some(listener) = listener else {
                self.served.remove(&(*proto, *number));
                self.close(*proto, *number);
                continue;
            };
            match self.serve(*proto, *number, &listener) {
                Ok(()) => drop(self.served.insert((*proto, *number))),
                Err(error) => refused.push(Refused { port: *number, proto: *proto, why: error.text() }),
            }
            self.forget_strangers(*proto, *number, &listener);
        }
        self.forwarder.settle().await;
        refused
    }

    fn serve(&mut self, proto: Proto, port: u16, listener: &Arc<Listener>) -> Result<(), forward::Refused> {
        for addr in LOOPBACK {
            match self.forwarder.set(at(addr, proto, port), listener) {
                // A machine may lack IPv6; it always has 127.0.0.1.
                Err(error) if addr.is_ipv6() && error.is_absent_family() => {}
                Err(error) => {
                    self.close(proto, port);
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn close(&mut self, proto: Proto, port: u16) {
        LOOPBACK.into_iter().for_each(|addr| self.forwarder.close(&at(addr, proto, port)));
    }

    fn forget_strangers(&self, proto: Proto, port: u16, listener: &Listener) {
        if proto != Proto::Udp {
            return;
        }
        let serves = |flow: &Flow| listener.insiders.iter().any(|s| (s.addr, s.port) == flow.server);
        let strangers = self.forwarder.flows().into_iter().filter(|flow| flow.frontend.1 == port && !serves(flow));
        strangers.for_each(|flow| self.forwarder.forget(&flow));
    }
}

fn at(addr: IpAddr, proto: Proto, port: u16) -> At {
    At { proto, addr: SocketAddr::new(addr, port) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pintle_proxy_plan::ServiceName;
    use pintle_proxy_plan::endpoints::Backend as Server;
    use pintle_proxy_plan::service::Affinity;
    use pintle_proxy_plan::userspace::PortName;
    use std::collections::BTreeMap;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream, UdpSocket};

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
        let service = Arc::new(ServiceName { namespace: "d".into(), name: "web".into() });
        let name = PortName { service, port: "http".into(), proto };
        BTreeMap::from([((proto, port), Some(LoopbackPort { name, port, servers, affinity }))])
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
        let first = ask(port).await.unwrap();
        assert_eq!(ask(port).await.unwrap(), first);
        // A server that is gone is passed over; without any nobody listens.
        let gone = Server { addr: Ipv4Addr::LOCALHOST.into(), port: free_port() };
        ports.apply(&to(Proto::Tcp, port, vec![gone, a], sticky)).await;
        assert_eq!(ask(port).await.unwrap(), "a");
        ports.apply(&to(Proto::Tcp, port, vec![], sticky)).await;
        assert_eq!(ask(port).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        ports.apply(&to(Proto::Tcp, port, vec![a], Affinity::None)).await;
        assert_eq!((ask(port).await.unwrap().as_str(), ports.len()), ("a", 1));
        ports.apply(&BTreeMap::from([((Proto::Tcp, port), None)])).await;
        assert_eq!(ports.len(), 0);
        assert_eq!(ask(port).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
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
        let mut ports = LocalPorts::within(Limits { listeners: 3, ..Limits::aside(2048) });
        let (one, two, server) = (free_port(), free_port(), server("a").await);
        let mut both = to(Proto::Tcp, one, vec![server], Affinity::None);
        both.extend(to(Proto::Tcp, two, vec![server], Affinity::None));
        let refused = ports.apply(&both).await;
        assert_eq!((ports.len(), refused.len()), (1, 1));
        assert!(refused[0].why.contains("raise the limit of open files"), "{}", refused[0].why);
        // Not half of it: the other family's socket is closed again.
        assert_eq!(ports.forwarder.sockets(), 2);
    }
}
