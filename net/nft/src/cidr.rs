//! An address with a prefix length, as in `10.42.0.0/24`. It is the one network type of the crates below this one; it
//! owns parsing, printing and membership, and knows nothing about interfaces or routes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and its prefix length. Host bits are kept: `10.41.0.2/30` is an interface's address, and
/// [`Cidr::network`] gives the network it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an address range like 10.42.0.0/16")]
pub struct CidrError {
    /// The text as given.
    pub text: String,
}

impl Cidr {
    /// Makes a range; `None` when the prefix is longer than the address.
    #[must_use]
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(addr)).then_some(Self { addr, prefix })
    }

    /// One single address: `/32` or `/128`.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, prefix: bits(addr) }
    }

    /// Everything of one family: `0.0.0.0/0` or `::/0`, the destination of a default route.
    #[must_use]
    pub fn default_route(family: Family) -> Self {
        match family {
            Family::V4 => Self { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 },
            Family::V6 => Self { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 },
        }
    }

    /// The address as given, host bits included.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The family of the address.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.addr)
    }

    /// The same range with its host bits cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        let shift = u32::from(128 - self.prefix);
        let addr = match self.addr {
            IpAddr::V4(a) => {
                let keep = 32 - u32::from(self.prefix);
                IpAddr::V4(Ipv4Addr::from(
                    u32::from(a).checked_shr(keep).and_then(|n| n.checked_shl(keep)).unwrap_or(0),
                ))
            }
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(
                u128::from(a).checked_shr(shift).and_then(|n| n.checked_shl(shift)).unwrap_or(0),
            )),
        };
        Self { addr, prefix: self.prefix }
    }

    /// The highest address of the range (IPv4's broadcast address).
    #[must_use]
    pub fn last(&self) -> IpAddr {
        match self.network().addr {
            IpAddr::V4(a) => {
                let host = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(a) | host))
            }
            IpAddr::V6(a) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(a) | host))
            }
        }
    }

    /// Whether `addr` lies in the range. Another family never does.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.family() == Family::of(addr) && Self { addr, prefix: self.prefix }.network().addr == self.network().addr
    }

    /// The `n`th address counted from the network address; `None` beyond the range.
    #[must_use]
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let addr = match self.network().addr {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a).checked_add(u32::try_from(n).ok()?)?)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a).checked_add(u128::from(n))?)),
        };
        self.contains(addr).then_some(addr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (addr, prefix) = text.split_once('/')?;
            Self::new(addr.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| CidrError { text: text.to_owned() })
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

fn bits(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_range_knows_its_network_its_last_address_and_its_members() {
        for (text, network, last) in [
            ("10.41.0.2/30", "10.41.0.0/30", "10.41.0.3"),
            ("10.42.1.0/24", "10.42.1.0/24", "10.42.1.255"),
            ("1.2.3.4/0", "0.0.0.0/0", "255.255.255.255"),
            ("1.2.3.4/32", "1.2.3.4/32", "1.2.3.4"),
            ("fd00::5/64", "fd00::/64", "fd00::ffff:ffff:ffff:ffff"),
            ("fd00::5/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fd00::5/128", "fd00::5/128", "fd00::5"),
        ] {
            let cidr: Cidr = text.parse().unwrap();
            assert_eq!(cidr.network().to_string(), network);
            assert_eq!(cidr.last().to_string(), last);
            assert!(cidr.contains(cidr.addr()) && cidr.contains(cidr.last()));
            assert_eq!(cidr.to_string(), text);
        }
        let cidr: Cidr = "10.42.1.0/24".parse().unwrap();
        assert!(!cidr.contains("10.42.2.0".parse().unwrap()));
        assert!(!cidr.contains("::1".parse().unwrap()));
        assert_eq!(cidr.nth(255).unwrap().to_string(), "10.42.1.255");
        assert_eq!(cidr.nth(256), None);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "a/b", "010.0.0.0/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError { text: text.into() }));
        }
    }
}
