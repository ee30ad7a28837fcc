//! Sockets that listen for Services, made ready before the first packet can reach them.
//!
//! All of ours may stand beside each other on one port (SO_REUSEPORT): a node port on a wildcard and a Service's port of
//! the same number on its address, which then comes first. Addresses need not be an interface's (IP_FREEBIND).

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::sockopt as options;
use pintle_proxy_plan::userspace::filter::Insn;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Refused;

/// Connections that wait to be accepted; the kernel has a limit of its own, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// An end that is gone without a word is found out after about three minutes.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(8);

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> Refused {
    move |source| Refused::Socket { action, source }
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol, filter: Option<&[Insn]>) -> Result<Socket, Refused> {
    let prepare = || {
        let socket = Socket::new(Domain::for_address(addr), kind.nonblocking(), Some(protocol))?;
        socket.set_reuse_port(true)?;
        match addr {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_freebind_v6(true)?;
            }
        }
        Ok(socket)
    };
    let socket = prepare().map_err(failed("make a socket"))?;
    if filter.is_some() {
        set_filter(&socket, filter)?;
    }
    Ok(socket)
}

/// A socket that takes connections.
pub fn listen(addr: SocketAddr, filter: Option<&[Insn]>) -> Result<TcpListener, Refused> {
    let socket = open(addr, Type::STREAM, Protocol::TCP, filter)?;
    let begin = || {
        // Connections of a proxy before us may wait out their time.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    begin().map_err(failed("listen there"))
}

/// A socket that takes datagrams, and tells to which of this machine's addresses each came.
pub fn bind(addr: SocketAddr, filter: Option<&[Insn]>) -> Result<UdpSocket, Refused> {
    let socket = open(addr, Type::DGRAM, Protocol::UDP, filter)?;
    let begin = || {
        match addr {
            SocketAddr::V4(_) => nix::sys::socket::setsockopt(&socket, options::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => nix::sys::socket::setsockopt(&socket, options::Ipv6RecvPacketInfo, &true)?,
        }
        socket.bind(&addr.into())?;
        UdpSocket::from_std(socket.into())
    };
    begin().map_err(failed("listen there"))
}

/// Lets the kernel drop what the filter does not let in; without one, nothing.
pub fn set_filter(socket: &impl AsFd, filter: Option<&[Insn]>) -> Result<(), Refused> {
    let socket = SockRef::from(socket);
    let set = match filter {
        Some(program) => {
            let insn = |i: &Insn| SockFilter::new(i.code, i.if_true, i.if_false, i.k);
            socket.attach_filter(&program.iter().map(insn).collect::<Vec<_>>())
        }
        None => socket.detach_filter(),
    };
    set.map_err(failed("set its socket's filter"))
}

/// What both ends of a forwarded connection have: nothing waits for more to send, and a dead peer is found out.
pub fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

/// Ends a connection by a reset, as its other end was.
pub fn reset(stream: TcpStream) {
    // If it fails the peer is told of the end all the same, if less clearly.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}
