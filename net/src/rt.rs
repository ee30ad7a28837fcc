//! A blocking conversation with rtnetlink: one request, one answer. Owns the encoding of our requests and the decoding
//! of what the kernel dumps into plain values; decides nothing.
//!
//! Blocking on purpose: the kernel answers on the spot, and the work runs on threads that change their namespace and
//! then end (see [`crate::netns`]). The socket stays in the namespace in which it was opened.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use pintle_nft::{Cidr, Family};

use crate::{NetError, ROUTE_PROTOCOL};

/// A link-layer address.
pub type Mac = [u8; 6];

/// One end of a veth pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End<'a> {
    pub name: &'a str,
    pub mac: Mac,
    pub mtu: u32,
}

/// What we want to know about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
}

/// One route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    pub dest: Cidr,
    pub via: Option<IpAddr>,
    pub oif: Option<u32>,
    pub onlink: bool,
    pub protocol: u8,
}

/// An rtnetlink socket.
pub struct Rt {
    socket: Socket,
    sequence: u32,
}

impl Rt {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Filters of dumps are honoured only under strict checking (kernel 4.20).
            socket.set_netlink_get_strict_chk(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|e| NetError::netlink("open an rtnetlink socket", e))?;
        Ok(Self { socket, sequence: 0 })
    }

    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.talk(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST) {
            Ok(answers) => Ok(answers.into_iter().find_map(|m| match m {
                RouteNetlinkMessage::NewLink(l) => Some(read_link(&l)),
                _ => None,
            })),
            Err(e) if is(&e, Errno::ENODEV) => Ok(None),
            Err(e) => Err(NetError::netlink(format!("look up link {name}"), e)),
        }
    }

    pub fn links(&mut self) -> Result<Vec<Link>, NetError> {
        let answers = self
            .talk(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_REQUEST | NLM_F_DUMP)
            .map_err(|e| NetError::netlink("list links", e))?;
        let read = |m| if let RouteNetlinkMessage::NewLink(l) = m { Some(read_link(&l)) } else { None };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// The addresses of one link, or of all.
    pub fn addrs(&mut self, index: Option<u32>) -> Result<Vec<Cidr>, NetError> {
        let mut message = AddressMessage::default();
        message.header.index = index.unwrap_or(0);
        let answers = self
            .talk(RouteNetlinkMessage::GetAddress(message), NLM_F_REQUEST | NLM_F_DUMP)
            .map_err(|e| NetError::netlink("list addresses", e))?;
        let read = |m| if let RouteNetlinkMessage::NewAddress(a) = m { read_addr(&a) } else { None };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// The IPv4 unicast routes of the main table, all or those out of one link.
    pub fn routes(&mut self, oif: Option<u32>) -> Result<Vec<RouteEntry>, NetError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.attributes.extend(oif.map(RouteAttribute::Oif));
        // With strict checking a table without any route is ENOENT instead of an empty answer.
        let answers = match self.talk(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST | NLM_F_DUMP) {
            Err(e) if is(&e, Errno::ENOENT) => Vec::new(),
            other => other.map_err(|e| NetError::netlink("list routes", e))?,
        };
        let read = |m| if let RouteNetlinkMessage::NewRoute(r) = m { read_route(&r) } else { None };
        Ok(answers.into_iter().filter_map(read).filter(|r| oif.is_none() || r.oif == oif).collect())
    }

    /// The permanent neighbour entries of one link.
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<(IpAddr, Mac)>, NetError> {
        let mut message = NeighbourMessage::default();
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        let answers = self
            .talk(RouteNetlinkMessage::GetNeighbour(message), NLM_F_REQUEST | NLM_F_DUMP)
            .map_err(|e| NetError::netlink("list neighbours", e))?;
        let read = |m| match m {
            RouteNetlinkMessage::NewNeighbour(n)
                if n.header.ifindex == index && n.header.state == NeighbourState::Permanent =>
            {
                read_neighbour(&n)
            }
            _ => None,
        };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// Makes a veth pair: one end here, the other in the namespace behind `netns`.
    pub fn add_veth(&mut self, here: &End<'_>, there: &End<'_>, netns: BorrowedFd<'_>) -> Result<(), NetError> {
        let mut peer = end(there);
        peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let mut message = end(here);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add veth pair {} - {}", here.name, there.name)
        })
    }

    /// Deletes a link; one that is gone already is no error.
    pub fn del_link(&mut self, name: &str) -> Result<(), NetError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let gone = self.change(RouteNetlinkMessage::DelLink(message), 0, || format!("delete link {name}"));
        ignore(gone, Errno::ENODEV)
    }

    /// Brings a link up with this MTU (0: leave it).
    pub fn set_up(&mut self, index: u32, mtu: u32) -> Result<(), NetError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        if mtu != 0 {
            message.attributes.push(LinkAttribute::Mtu(mtu));
        }
        self.change(RouteNetlinkMessage::SetLink(message), 0, || format!("bring up link {index} with mtu {mtu}"))
    }

    pub fn add_addr(&mut self, index: u32, addr: Cidr) -> Result<(), NetError> {
        let message = RouteNetlinkMessage::NewAddress(address(index, addr));
        let added = self.change(message, NLM_F_CREATE | NLM_F_EXCL, || format!("add address {addr} to link {index}"));
        ignore(added, Errno::EEXIST)
    }

    pub fn del_addr(&mut self, index: u32, addr: Cidr) -> Result<(), NetError> {
        let message = RouteNetlinkMessage::DelAddress(address(index, addr));
        let gone = self.change(message, 0, || format!("delete address {addr} from link {index}"));
        ignore(gone, Errno::EADDRNOTAVAIL)
    }

    /// Adds a route with our protocol number; one to the same destination is replaced.
    pub fn replace_route(&mut self, entry: &RouteEntry) -> Result<(), NetError> {
        self.change(RouteNetlinkMessage::NewRoute(route(entry)), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("add route {}", describe(entry))
        })
    }

    /// Adds a route with our protocol number; one to the same destination is an error.
    pub fn add_route(&mut self, entry: &RouteEntry) -> Result<(), NetError> {
        let added = self.change(RouteNetlinkMessage::NewRoute(route(entry)), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add route {}", describe(entry))
        });
        match added {
            Err(NetError::Netlink { source, .. }) if is(&source, Errno::EEXIST) => {
                Err(NetError::RouteTaken { dest: entry.dest })
            }
            other => other,
        }
    }

    /// Deletes a route of ours; one that is gone already is no error.
    pub fn del_route(&mut self, entry: &RouteEntry) -> Result<(), NetError> {
        let gone =
            self.change(RouteNetlinkMessage::DelRoute(route(entry)), 0, || format!("delete route {}", describe(entry)));
        ignore(gone, Errno::ESRCH)
    }

    /// Pins the link-layer address of a neighbour, so that nobody has to ask for it.
    pub fn pin_neighbour(&mut self, index: u32, addr: IpAddr, mac: Mac) -> Result<(), NetError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(Family::of(addr));
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(NeighbourAttribute::Destination(match addr {
            IpAddr::V4(a) => NeighbourAddress::Inet(a),
            IpAddr::V6(a) => NeighbourAddress::Inet6(a),
        }));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("add neighbour {addr} to link {index}")
        })
    }

    pub(crate) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: impl FnOnce() -> String,
    ) -> Result<(), NetError> {
        match self.talk(message, NLM_F_REQUEST | NLM_F_ACK | flags) {
            Ok(_) => Ok(()),
            Err(e) => Err(NetError::netlink(action(), e)),
        }
    }

    /// Sends one request and collects what comes back until the acknowledgement, the error or the end of the dump.
    pub(crate) fn talk(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        // A plain get (no acknowledgement, no dump) has exactly one answer.
        let single = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(m) => answers.push(m),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
            if single && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

pub(crate) fn ignore(result: Result<(), NetError>, errno: Errno) -> Result<(), NetError> {
    match result {
        Err(NetError::Netlink { source, .. }) if is(&source, errno) => Ok(()),
        other => other,
    }
}

pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn end(end: &End<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.to_vec()),
        LinkAttribute::Mtu(end.mtu),
    ];
    message
}

fn address(index: u32, addr: Cidr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(addr.family());
    message.header.prefix_len = addr.prefix();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(addr.addr()), AddressAttribute::Address(addr.addr())];
    message
}

fn route(entry: &RouteEntry) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(entry.dest.family()),
        destination_prefix_length: entry.dest.prefix(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        scope: if entry.via.is_none() { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        flags: if entry.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    if entry.dest.prefix() > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(entry.dest.network().addr())));
    }
    message.attributes.extend(entry.via.map(|via| RouteAttribute::Gateway(RouteAddress::from(via))));
    message.attributes.extend(entry.oif.map(RouteAttribute::Oif));
    message
}

fn describe(entry: &RouteEntry) -> String {
    let via = entry.via.map(|v| format!(" via {v}")).unwrap_or_default();
    let oif = entry.oif.map(|o| format!(" out of link {o}")).unwrap_or_default();
    format!("{}{via}{oif}", entry.dest)
}

pub(crate) fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = Mac::try_from(mac.as_slice()).ok(),
            _ => {}
        }
    }
    link
}

fn read_addr(message: &AddressMessage) -> Option<Cidr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has only the former.
            AddressAttribute::Local(addr) => return Cidr::new(*addr, message.header.prefix_len),
            AddressAttribute::Address(addr) => found = Cidr::new(*addr, message.header.prefix_len),
            _ => {}
        }
    }
    found
}

fn read_route(message: &RouteMessage) -> Option<RouteEntry> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut entry = RouteEntry {
        dest: Cidr::default_route(Family::V4),
        via: None,
        oif: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        protocol: header.protocol.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => {
                entry.dest = Cidr::new((*a).into(), header.destination_prefix_length)?;
            }
            RouteAttribute::Gateway(RouteAddress::Inet(a)) => entry.via = Some((*a).into()),
            RouteAttribute::Oif(oif) => entry.oif = Some(*oif),
            _ => {}
        }
    }
    Some(entry)
}

fn read_neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut addr, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => addr = Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => addr = Some(IpAddr::V6(*a)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    addr.zip(mac)
}
