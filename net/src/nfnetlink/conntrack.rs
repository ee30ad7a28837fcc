//! Connection tracking entries, listed and deleted by ctnetlink. Owns only what the proxy needs to make
//! flows forget where they no longer should lead.

use std::io;
use std::net::IpAddr;

use netlink_sys::Socket;
use nix::errno::Errno;
use pintle_nft::{Family, Flow, Proto};

use super::wire::{Attrs, Message, Writer, flag, nfproto};
use super::{NftError, dump, is, open_socket, receive, socket_error};

/// NFNL_SUBSYS_CTNETLINK, and its messages.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
/// IPS_SEEN_REPLY of linux/netfilter/nf_conntrack_common.h.
const SEEN_REPLY: u32 = 1 << 1;

/// A conversation with connection tracking in one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// Opens a conversation in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: open_socket()?.0, sequence: 0 })
    }

    /// The flows of a family that are wanted; there can be hundreds of thousands of others.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn flows(&mut self, family: Family, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, NftError> {
        self.sequence += 1;
        let mut flows = Vec::new();
        dump(
            &self.socket,
            GET,
            self.sequence,
            nfproto(family),
            |_| {},
            |message| {
                flows.extend(read(message).filter(&wanted));
            },
        )?;
        Ok(flows)
    }

    /// Deletes a flow, so that its next packet is translated anew; one that is gone already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, flow: &Flow) -> Result<(), NftError> {
        self.sequence += 1;
        let mut w = Writer::default();
        w.begin(DELETE, flag::ACK, self.sequence, nfproto(Family::of(flow.client.0)), 0);
        w.nested(TUPLE_ORIGINAL, |w| {
            w.nested(1, |w| {
                let (source, destination) = if flow.client.0.is_ipv4() { (1, 2) } else { (3, 4) };
                addr(w, source, flow.client.0);
                addr(w, destination, flow.frontend.0);
            });
            w.nested(2, |w| {
                w.u8(1, flow.proto.number());
                w.attr(2, &flow.client.1.to_be_bytes());
                w.attr(3, &flow.frontend.1.to_be_bytes());
            });
        });
        w.end();
        self.socket.send(&w.bytes, 0).map_err(|e| socket_error("delete a tracked flow", e))?;
        loop {
            let datagram = receive(&self.socket)?;
            let answer = Message::all(&datagram).find(|m| m.sequence == self.sequence).and_then(|m| m.errno());
            let Some(errno) = answer else { continue };
            let error = io::Error::from_raw_os_error(errno);
            if errno == 0 || is(&error, Errno::ENOENT) {
                return Ok(());
            }
            return Err(socket_error("delete a tracked flow", error));
        }
    }
}

fn addr(w: &mut Writer, kind: u16, addr: IpAddr) {
    match addr {
        IpAddr::V4(a) => w.attr(kind, &a.octets()),
        IpAddr::V6(a) => w.attr(kind, &a.octets()),
    }
}

struct Tuple {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    proto: Proto,
}

pub(super) fn read(message: &Message<'_>) -> Option<Flow> {
    let attrs = message.attrs();
    let original = tuple(attrs.nested(TUPLE_ORIGINAL)?)?;
    let reply = tuple(attrs.nested(TUPLE_REPLY)?)?;
    Some(Flow {
        client: original.source,
        frontend: original.destination,
        server: reply.source,
        proto: original.proto,
        is_answered: attrs.u32(STATUS).is_some_and(|status| status & SEEN_REPLY != 0),
    })
}

fn tuple(attrs: Attrs<'_>) -> Option<Tuple> {
    let (ip, proto) = (attrs.nested(1)?, attrs.nested(2)?);
    let addr = |v4: u16, v6: u16| {
        let v4 = ip.get(v4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
        v4.or_else(|| ip.get(v6).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from))
    };
    Some(Tuple {
        source: (addr(1, 3)?, proto.u16(2)?),
        destination: (addr(2, 4)?, proto.u16(3)?),
        proto: Proto::from_number(*proto.get(1)?.first()?)?,
    })
}
