//! What the maps hold, byte by byte: the words in which programs and we speak. Addresses are 16 bytes, IPv4 mapped into
//! IPv6 (RFC 4291, 2.5.5.2), so that an IPv6 socket that speaks IPv4 needs nothing of its own; ports are big-endian,
//! all else is in the machine's own order.
//!
//! ```text
//! frontends  [addr 16][port 2][proto 1][0]                → [list 8][length 4][reach 4]
//! here       [addr 16]                                    → [addr 16]      the address of node ports' frontends
//! endpoints  [list 8][number 4][0 4]                      → [addr 16][port 2][0 2]
//! members    [list 8][addr 16][port 2][0 2]               → [1]            UDP only
//! peers      [socket 8][endpoint addr 16][port 2][0 2]    → [addr 16][port 2][0 2]
//! answers    the same, of unconnected UDP
//! flows      [socket 8][asked-for addr 16][port 2][0 2]   → [addr 16][port 2][0 2]
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pintle_nft::{Family, Proto};

use crate::endpoints::Backend;

/// A map. `peers`, `answers` and `flows` are filled by the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Where Services answer.
    Frontends,
    /// This machine's addresses that answer on node ports.
    Here,
    /// Lists of servers, each with its number.
    Endpoints,
    /// The same servers by their addresses, and those to whom only existing flows may go on.
    Members,
    /// What connected sockets asked for.
    Peers,
    /// What unconnected sockets asked for, by who answers.
    Answers,
    /// Who answers an unconnected socket, by what it asks for.
    Flows,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Frontends, Self::Here, Self::Endpoints, Self::Members, Self::Peers, Self::Answers, Self::Flows];

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontends => "pintle_front",
            Self::Here => "pintle_here",
            Self::Endpoints => "pintle_ends",
            Self::Members => "pintle_members",
            Self::Peers => "pintle_peers",
            Self::Answers => "pintle_answers",
            Self::Flows => "pintle_flows",
        }
    }

    /// Bytes of a key and of a value.
    #[must_use]
    pub fn bytes(self) -> (usize, usize) {
        match self {
            Self::Frontends => (20, 16),
            Self::Here => (16, 16),
            Self::Endpoints => (16, 20),
            Self::Members => (28, 1),
            Self::Peers | Self::Answers | Self::Flows => (28, 20),
        }
    }
}

/// A list of servers. Never changed but for its members: a change of servers is a new list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub u64);

/// Where a Service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The address; [`any`] for a node port.
    pub addr: IpAddr,
    /// Transport protocol.
    pub proto: Proto,
    /// Port.
    pub port: u16,
}

/// Where a frontend leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// To which list.
    pub list: ListId,
    /// How many servers it has; not 0.
    pub count: u32,
    /// Whose sockets.
    pub reach: Reach,
}

/// Whose sockets a frontend is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody's.
    Everybody,
    /// Those of the node's own network namespace.
    Node,
}

/// An entry that belongs to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// A server, to be drawn.
    Endpoint(ListId, u32, Backend),
    /// A server to whom existing flows may go on.
    Member(ListId, Backend),
}

/// The address by which node ports are found.
#[must_use]
pub fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The bytes of an address: of a key or a value of [`Table::Here`] alone.
#[must_use]
pub fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn place(server: &Backend) -> Vec<u8> {
    [&octets(server.addr)[..], &server.port.to_be_bytes(), &[0; 2]].concat()
}

impl At {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        [&octets(self.addr)[..], &self.port.to_be_bytes(), &[self.proto.number(), 0]].concat()
    }
}

impl Lead {
    /// Its value.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        let reach = u32::from(self.reach == Reach::Node);
        [&self.list.0.to_ne_bytes()[..], &self.count.to_ne_bytes(), &reach.to_ne_bytes()].concat()
    }
}

impl Element {
    /// Its table.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Endpoint(..) => Table::Endpoints,
            Self::Member(..) => Table::Members,
        }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Endpoint(list, number, _) => [&list.0.to_ne_bytes()[..], &number.to_ne_bytes(), &[0; 4]].concat(),
            Self::Member(list, server) => [&list.0.to_ne_bytes()[..], &place(server)].concat(),
        }
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::Endpoint(_, _, server) => place(server),
            Self::Member(..) => vec![1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_as_long_as_the_maps_say() {
        let server = Backend { addr: IpAddr::from([10, 42, 0, 2]), port: 0x1f90 };
        let at = At { addr: IpAddr::from([10, 43, 0, 1]), proto: Proto::Tcp, port: 443 };
        let lead = Lead { list: ListId(7), count: 3, reach: Reach::Node };
        assert_eq!((at.key().len(), lead.value().len()), Table::Frontends.bytes());
        for element in [Element::Endpoint(ListId(7), 1, server), Element::Member(ListId(7), server)] {
            assert_eq!((element.key().len(), element.value().len()), element.table().bytes(), "{element:?}");
        }
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 43, 0, 1];
        assert_eq!(at.key(), [&mapped[..], &[0x01, 0xbb, 6, 0]].concat());
        assert_eq!(place(&server)[12..], [10, 42, 0, 2, 0x1f, 0x90, 0, 0]);
        assert!(Table::ALL.iter().all(|t| t.name().len() <= 15));
    }
}
