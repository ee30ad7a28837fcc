//! What sets hold and registers carry: short byte strings with a known sequence of types. Owns their layout, which is
//! the kernel's: every part begins at a multiple of four bytes; addresses and ports are big-endian, marks and counts
//! are in the machine's order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest value: two IPv6 addresses.
const CAPACITY: usize = 32;

/// A value of at most 32 bytes, held without allocation: a ruleset has hundreds of thousands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Value {
    bytes: [u8; CAPACITY],
    length: u8,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("0x")?;
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Value {
    /// The empty value, to append parts to.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }

    /// The bytes, padding included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Appends bytes, padded to a multiple of four. Beyond 32 bytes a value is cut: no key we know is longer.
    #[must_use]
    pub fn with(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.length).next_multiple_of(4);
        let end = (start + part.len()).min(CAPACITY);
        self.bytes[start..end].copy_from_slice(&part[..end - start]);
        // A single part shorter than four bytes keeps its own length, as the kernel wants for a plain comparison.
        self.length = u8::try_from(if start == 0 { end } else { end.next_multiple_of(4) }).unwrap_or(32);
        self
    }

    /// Appends an address, 4 or 16 bytes.
    #[must_use]
    pub fn addr(self, addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => self.with(&a.octets()),
            IpAddr::V6(a) => self.with(&a.octets()),
        }
    }

    /// Appends a transport protocol number.
    #[must_use]
    pub fn proto(self, proto: Proto) -> Self {
        self.padded().with(&[proto.number()]).padded()
    }

    /// Appends a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.padded().with(&port.to_be_bytes()).padded()
    }

    /// Appends a 32-bit number in the machine's order: a mark, or a position drawn by `numgen`.
    #[must_use]
    pub fn number(self, number: u32) -> Self {
        self.with(&number.to_ne_bytes())
    }

    fn padded(mut self) -> Self {
        self.length = self.length.next_multiple_of(4);
        self
    }
}

/// `IFNAMSIZ`: an interface's name with its closing zero.
const IFNAME_LEN: usize = 16;

/// An interface's name as the kernel compares it: whole, filled with zeros. What is too long is cut.
#[must_use]
pub fn interface_name(name: &str) -> Value {
    let mut bytes = [0; IFNAME_LEN];
    let cut = name.len().min(IFNAME_LEN - 1);
    bytes[..cut].copy_from_slice(&name.as_bytes()[..cut]);
    Value::new().with(&bytes)
}

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Proto {
    /// The IANA protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// nft's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// The type of one part of a key or of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// An IPv4 address.
    Ipv4Addr,
    /// An IPv6 address.
    Ipv6Addr,
    /// A transport protocol number.
    InetProto,
    /// A port.
    InetService,
    /// A 32-bit number.
    Mark,
    /// An interface's name.
    IfName,
}

impl DataType {
    /// Bytes in a set's key or data, padding included.
    #[must_use]
    pub const fn padded_len(self) -> usize {
        match self {
            Self::Ipv6Addr | Self::IfName => 16,
            Self::Ipv4Addr | Self::InetProto | Self::InetService | Self::Mark => 4,
        }
    }

    /// The number by which nft knows the type. The kernel stores it and makes nothing of it; `nft list` does.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::IfName => 41,
        }
    }

    /// nft's name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::IfName => "ifname",
        }
    }

    fn show(self, bytes: &[u8]) -> String {
        let word = |b: &[u8]| b.get(..4).and_then(|b| <[u8; 4]>::try_from(b).ok()).unwrap_or_default();
        match self {
            Self::Ipv4Addr => Ipv4Addr::from(word(bytes)).to_string(),
            Self::Ipv6Addr => {
                Ipv6Addr::from(bytes.get(..16).and_then(|b| <[u8; 16]>::try_from(b).ok()).unwrap_or_default())
                    .to_string()
            }
            Self::InetProto => {
                let number = bytes.first().copied().unwrap_or(0);
                Proto::from_number(number).map_or_else(|| number.to_string(), |p| p.name().to_owned())
            }
            Self::InetService => u16::from_be_bytes([word(bytes)[0], word(bytes)[1]]).to_string(),
            Self::Mark => u32::from_ne_bytes(word(bytes)).to_string(),
            Self::IfName => {
                let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
                // What is shorter than a whole name is what names begin with.
                let rest = if bytes.len() < IFNAME_LEN { "*" } else { "" };
                format!("\"{}{rest}\"", String::from_utf8_lossy(name))
            }
        }
    }
}

/// Shows a value as nft would: its parts joined by ` . `.
#[must_use]
pub fn show(types: &[DataType], value: &Value) -> String {
    let mut text = String::new();
    let mut rest = value.as_bytes();
    for ty in types {
        if !text.is_empty() {
            text.push_str(" . ");
        }
        text.push_str(&ty.show(rest));
        rest = rest.get(ty.padded_len()..).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_key_is_laid_out_in_words_and_shown_in_parts() {
        let key = Value::new().addr("10.43.0.1".parse().unwrap()).proto(Proto::Tcp).port(443).number(7);
        let seven = if cfg!(target_endian = "little") { "07000000" } else { "00000007" };
        assert_eq!(format!("{key:?}"), format!("0x0a2b00010600000001bb0000{seven}"));
        let types = [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService, DataType::Mark];
        assert_eq!(show(&types, &key), "10.43.0.1 . tcp . 443 . 7");
        let v6 = Value::new().addr("fd00::1".parse().unwrap()).port(53);
        assert_eq!(show(&[DataType::Ipv6Addr, DataType::InetService], &v6), "fd00::1 . 53");
    }
}
