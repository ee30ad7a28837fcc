//! Addresses that are this machine's without being any interface's, and ranges whose other addresses lead nowhere.
//!
//! An address is a route of type `local` in the table of that name ([`ip-route(8)`]): the kernel then takes packets to
//! it in, refuses what nobody listens for, and never picks it as a source by itself, which it does with an interface's
//! address. Ours carry our protocol number, by which all of them are found again, and a metric of their own, by which
//! they stand beside the same address of an interface, whoever was first.
//!
//! [`ip-route(8)`]: https://man7.org/linux/man-pages/man8/ip-route.8.html

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use pintle_nft::{Cidr, Family};

use crate::rt::{self, Link, Rt};
use crate::{NetError, ROUTE_PROTOCOL};

/// `RT_TABLE_LOCAL` of linux/rtnetlink.h.
const TABLE_LOCAL: u8 = 255;
/// Other routes to the same destination come first: an interface's own, or one by which somebody else has the range.
const METRIC: u32 = 4096;

/// One route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// An address is this machine's.
    Local(IpAddr),
    /// What is sent to other addresses of a range is dropped. Senders on this machine get an error (EINVAL).
    Discard(Cidr),
}

impl Entry {
    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.dest().family()
    }

    fn dest(&self) -> Cidr {
        match self {
            Self::Local(addr) => Cidr::host(*addr),
            Self::Discard(range) => range.network(),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(addr) => write!(f, "address {addr} of this machine"),
            Self::Discard(range) => write!(f, "route that drops packets to {range}"),
        }
    }
}

/// Where packets to an address go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// They stay here.
    Here,
    /// Out of this interface.
    Out(String),
    /// Nowhere.
    None,
}

/// A conversation about them, in the namespace of the thread that opened it.
pub struct Hosts {
    rt: Rt,
    loopback: Link,
}

impl Hosts {
    /// Opens it.
    ///
    /// # Errors
    /// When there is no rtnetlink, or no loopback interface.
    pub fn open() -> Result<Self, NetError> {
        let mut rt = Rt::open()?;
        let none = || NetError::netlink("find link lo", Errno::ENODEV.into());
        let loopback = rt.link("lo")?.ok_or_else(none)?;
        Ok(Self { rt, loopback })
    }

    /// All routes of ours, of this process and of those before it.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn ours(&mut self) -> Result<BTreeSet<Entry>, NetError> {
        let mut ours = BTreeSet::new();
        for family in [Family::V4, Family::V6] {
            for (table, kind) in [(TABLE_LOCAL, RouteType::Local), (RouteHeader::RT_TABLE_MAIN, RouteType::BlackHole)] {
                ours.extend(self.list(family, table, kind)?);
            }
        }
        Ok(ours)
    }

    fn list(&mut self, family: Family, table: u8, kind: RouteType) -> Result<Vec<Entry>, NetError> {
        let mut message = RouteMessage::default();
        message.header.address_family = rt::family(family);
        message.header.table = table;
        message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
        message.header.kind = kind;
        let answers = match self.rt.talk(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST | NLM_F_DUMP) {
            // A table without any route, or a machine without IPv6.
            Err(e) if [Errno::ENOENT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP].iter().any(|n| rt::is(&e, *n)) => vec![],
            other => other.map_err(|e| NetError::netlink("list routes", e))?,
        };
        let read = |m| if let RouteNetlinkMessage::NewRoute(r) = m { read(&r, table, kind) } else { None };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    /// Adds one; one that is there already is no error. Loopback, by which they lead, is brought up if it is not.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn add(&mut self, entry: Entry) -> Result<(), NetError> {
        if !self.loopback.up {
            self.rt.set_up(self.loopback.index, 0)?;
            self.loopback.up = true;
        }
        let message = RouteNetlinkMessage::NewRoute(route(&entry, self.loopback.index));
        let added = self.rt.change(message, NLM_F_CREATE | NLM_F_EXCL, || format!("add {entry}"));
        rt::ignore(added, Errno::EEXIST)
    }

    /// Removes one; one that is gone already is no error.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn remove(&mut self, entry: Entry) -> Result<(), NetError> {
        let message = RouteNetlinkMessage::DelRoute(route(&entry, self.loopback.index));
        rt::ignore(self.rt.change(message, 0, || format!("remove {entry}")), Errno::ESRCH)
    }

    /// Every address of this machine's interfaces.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn interface_addrs(&mut self) -> Result<Vec<IpAddr>, NetError> {
        Ok(self.rt.addrs(None)?.into_iter().map(|a| a.addr()).collect())
    }

    /// Where packets to an address go now.
    ///
    /// # Errors
    /// When the kernel cannot be asked; no route is an answer.
    pub fn way_to(&mut self, addr: IpAddr) -> Result<Way, NetError> {
        let mut message = RouteMessage::default();
        message.header.address_family = rt::family(Family::of(addr));
        message.header.destination_prefix_length = Cidr::host(addr).prefix();
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(addr)));
        let failed = |e: io::Error| NetError::netlink(format!("look up the route to {addr}"), e);
        let answers = match self.rt.talk(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST) {
            Err(e) if e.kind() == io::ErrorKind::NetworkUnreachable || e.kind() == io::ErrorKind::HostUnreachable => {
                return Ok(Way::None);
            }
            other => other.map_err(failed)?,
        };
        let Some(RouteNetlinkMessage::NewRoute(found)) = answers.into_iter().next() else { return Ok(Way::None) };
        if found.header.kind == RouteType::Local {
            return Ok(Way::Here);
        }
        let oif = found.attributes.iter().find_map(|a| if let RouteAttribute::Oif(n) = a { Some(*n) } else { None });
        match oif {
            Some(index) => Ok(self.interface_name(index)?.map_or(Way::None, Way::Out)),
            None => Ok(Way::None),
        }
    }

    fn interface_name(&mut self, index: u32) -> Result<Option<String>, NetError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.rt.talk(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST) {
            Ok(answers) => Ok(answers.into_iter().find_map(|m| match m {
                RouteNetlinkMessage::NewLink(l) => Some(rt::read_link(&l).name),
                _ => None,
            })),
            Err(e) if rt::is(&e, Errno::ENODEV) => Ok(None),
            Err(e) => Err(NetError::netlink(format!("look up link {index}"), e)),
        }
    }
}

fn route(entry: &Entry, loopback: u32) -> RouteMessage {
    let dest = entry.dest();
    let (table, kind, scope) = match entry {
        Entry::Local(_) => (TABLE_LOCAL, RouteType::Local, RouteScope::Host),
        Entry::Discard(_) => (RouteHeader::RT_TABLE_MAIN, RouteType::BlackHole, RouteScope::Universe),
    };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: rt::family(dest.family()),
        destination_prefix_length: dest.prefix(),
        table,
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        scope,
        kind,
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Destination(RouteAddress::from(dest.addr())), RouteAttribute::Priority(METRIC)];
    message.attributes.extend(matches!(entry, Entry::Local(_)).then_some(RouteAttribute::Oif(loopback)));
    message
}

/// Older kernels do not filter a listing: what is ours is told here.
fn read(message: &RouteMessage, table: u8, kind: RouteType) -> Option<Entry> {
    let header = &message.header;
    let ours = header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL) && header.table == table && header.kind == kind;
    let has_gateway = message.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(_)));
    if !ours || has_gateway || header.address_family == AddressFamily::Unspec {
        return None;
    }
    let dest = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    })?;
    let dest = Cidr::new(dest, header.destination_prefix_length)?;
    Some(if kind == RouteType::Local { Entry::Local(dest.addr()) } else { Entry::Discard(dest) })
}
