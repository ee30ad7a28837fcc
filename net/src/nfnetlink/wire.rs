//! Netlink messages as bytes: a writer with nested attributes, and a reader that survives whatever it is given.

use pintle_nft::Family;

/// Bytes of a netlink message header (struct nlmsghdr).
pub const HEADER: usize = 16;
/// Bytes of the header all netfilter messages begin with (struct nfgenmsg).
const NFGEN: usize = 4;
const NESTED: u16 = 0x8000;

/// Flags of linux/netlink.h.
pub mod flag {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const DUMP: u16 = 0x300;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// Message types below 16 belong to netlink itself.
pub mod control {
    pub const ERROR: u16 = 2;
    pub const DONE: u16 = 3;
}

/// The address family number of the kernel's netfilter messages.
pub fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Messages under construction, one after the other in one buffer.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
    message: usize,
}

/// A nested attribute that is open.
pub struct Nest(usize);

impl Writer {
    /// Begins a message; the one before must be finished.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) {
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    /// Writes the finished message's length.
    pub fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.message).unwrap_or(u32::MAX);
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds flags to the message begun last.
    pub fn add_flags(&mut self, flags: u16) {
        let at = self.message + 6;
        let now = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(now | flags).to_ne_bytes());
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub fn u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn u64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Writes a nested attribute.
    pub fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let nest = self.open(kind);
        content(self);
        self.close(&nest);
    }

    fn open(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.attr(kind | NESTED, &[]);
        Nest(at)
    }

    fn close(&mut self, nest: &Nest) {
        let length = u16::try_from(self.bytes.len() - nest.0).unwrap_or(u16::MAX);
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A received message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    /// The port of the socket whose request caused it, in notifications.
    pub port: u32,
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The messages of a datagram; what is malformed ends it.
    pub fn all(datagram: &'a [u8]) -> impl Iterator<Item = Message<'a>> {
        let mut rest = datagram;
        std::iter::from_fn(move || {
            let length = u32_at(rest, 0)? as usize;
            let body = rest.get(HEADER..length)?;
            let message = Message { kind: u16_at(rest, 4)?, sequence: u32_at(rest, 8)?, port: u32_at(rest, 12)?, body };
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some(message)
        })
    }

    /// The error number of an error message, positive; 0 for an acknowledgement, `None` for other messages.
    pub fn errno(&self) -> Option<i32> {
        if self.kind != control::ERROR {
            return None;
        }
        let raw = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        Some(raw.saturating_neg())
    }

    pub fn attrs(&self) -> Attrs<'a> {
        Attrs(self.body.get(NFGEN..).unwrap_or_default())
    }

    pub fn family(&self) -> Option<u8> {
        self.body.first().copied()
    }
}

/// The attributes of a message or of a nested attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    pub fn nested(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    pub fn u16(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }
}

impl<'a> IntoIterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = AttrIter<'a>;

    fn into_iter(self) -> AttrIter<'a> {
        AttrIter(self.0)
    }
}

/// Iterates over attributes; what is malformed ends it.
pub struct AttrIter<'a>(&'a [u8]);

impl<'a> Iterator for AttrIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut w = Writer::default();
        w.begin(0x0a06, flag::CREATE, 7, 2, 0);
        w.text(1, "pintle");
        w.nested(4, |w| {
            w.u32(1, 5);
            w.u8(2, 9);
        });
        w.end();
        w.begin(control::ERROR, 0, 8, 0, 0);
        w.end();
        let messages: Vec<Message<'_>> = Message::all(&w.bytes).collect();
        assert_eq!(messages.len(), 2);
        let attrs = messages[0].attrs();
        assert_eq!((messages[0].kind, messages[0].sequence, attrs.text(1)), (0x0a06, 7, Some("pintle")));
        assert_eq!(attrs.nested(4).and_then(|n| n.u32(1)), Some(5));
        assert_eq!(messages[1].errno(), Some(0));
    }
}
