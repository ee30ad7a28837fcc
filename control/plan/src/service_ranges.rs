//! The ranges from which Services get their virtual addresses and node ports.
//!
//! Owns: reading them, what lies inside, which part is left to those who choose for themselves. Does not own: what is
//! taken (that is what the stored Services say).

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// `--service-cidr` and `--service-node-port-range`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRanges {
    network: u32,
    prefix: u32,
    node_ports: RangeInclusive<u16>,
}

/// A range that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not an IPv4 network.
    #[error("--service-cidr {text:?} is not an IPv4 network such as 10.43.0.0/16")]
    Cidr {
        /// As given.
        text: String,
    },
    /// Bits below the prefix.
    #[error("--service-cidr {text} names an address within a network; the network is {network}")]
    HostBits {
        /// As given.
        text: String,
        /// What was probably meant.
        network: String,
    },
    /// Too small or too large.
    #[error("--service-cidr {text}: the prefix has to be between /8 and /29")]
    Prefix {
        /// As given.
        text: String,
    },
    /// Not a range of ports.
    #[error("--service-node-port-range {text:?} is not a range of ports such as 30000-32767")]
    Ports {
        /// As given.
        text: String,
    },
}

impl Default for ServiceRanges {
    /// 10.43.0.0/16 and 30000-32767.
    fn default() -> Self {
        let network = u32::from(Ipv4Addr::new(10, 43, 0, 0));
        Self { network, prefix: 16, node_ports: 30_000..=32_767 }
    }
}

impl ServiceRanges {
    /// Reads the two flags. Ports are `first-last`, `first+more` or one port, as kube-apiserver reads them.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn parse(cidr: &str, node_ports: &str) -> Result<Self, RangeError> {
        let (network, prefix) = network(cidr)?;
        let node_ports = ports(node_ports).ok_or_else(|| RangeError::Ports { text: node_ports.to_owned() })?;
        Ok(Self { network, prefix, node_ports })
    }

    /// The address of Service `kubernetes`: the first.
    pub fn kubernetes(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Whether a Service may have this address: neither the network's own nor its broadcast address.
    pub fn holds_address(&self, address: Ipv4Addr) -> bool {
        (1..=self.addresses()).contains(&u32::from(address).wrapping_sub(self.network))
    }

    /// Whether a Service may have this node port.
    pub fn holds_port(&self, port: i32) -> bool {
        u16::try_from(port).is_ok_and(|port| self.node_ports.contains(&port))
    }

    /// Every address but that of `kubernetes`, in the order in which they are tried; `random` answers a number below its
    /// argument. Those that people choose themselves (the first 1/16, at most 256) come last, so that a Service with
    /// an address of its own seldom finds it taken (upstream: KEP-3070).
    pub fn addresses_to_try(&self, random: &mut dyn FnMut(u32) -> u32) -> impl Iterator<Item = Ipv4Addr> + use<'_> {
        let reserved = if self.addresses() < 16 { 0 } else { (self.addresses() / 16).clamp(16, 256) };
        let order = around(reserved + 1, self.addresses(), random).chain(around(1, reserved, random));
        order.map(|host| self.address(host)).filter(|address| *address != self.kubernetes())
    }

    /// Every node port, in the order in which they are tried; as with addresses, the first 1/32 (16 to 128) come last
    /// (upstream: KEP-3668).
    pub fn ports_to_try(&self, random: &mut dyn FnMut(u32) -> u32) -> impl Iterator<Item = i32> + use<> {
        let (first, last) = (u32::from(*self.node_ports.start()), u32::from(*self.node_ports.end()));
        let all = last - first + 1;
        let reserved = if all <= 16 { 0 } else { (all / 32).clamp(16, 128).min(all) };
        let order = around(first + reserved, last, random).chain(around(first, first + reserved - 1, random));
        order.filter_map(|port| i32::try_from(port).ok())
    }

    /// `10.43.0.0/16`.
    pub fn cidr(&self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }

    /// `30000-32767`.
    pub fn node_ports(&self) -> String {
        format!("{}-{}", self.node_ports.start(), self.node_ports.end())
    }

    fn address(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.network + host)
    }

    /// How many addresses Services can have.
    fn addresses(&self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }
}

impl fmt::Display for ServiceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and node ports {}", self.cidr(), self.node_ports())
    }
}

/// The numbers `first..=last` beginning somewhere, round to where they began.
fn around(first: u32, last: u32, random: &mut dyn FnMut(u32) -> u32) -> impl Iterator<Item = u32> + use<> {
    let count = (last + 1).saturating_sub(first);
    let start = if count == 0 { 0 } else { random(count) };
    (0..count).map(move |step| first + (start + step) % count)
}

fn network(text: &str) -> Result<(u32, u32), RangeError> {
    let parts = text.split_once('/').and_then(|(a, p)| Some((a.parse::<Ipv4Addr>().ok()?, p.parse::<u32>().ok()?)));
    let Some((address, prefix)) = parts.filter(|(_, prefix)| *prefix <= 32) else {
        return Err(RangeError::Cidr { text: text.to_owned() });
    };
    if !(8..=29).contains(&prefix) {
        return Err(RangeError::Prefix { text: text.to_owned() });
    }
    let network = u32::from(address) & (u32::MAX << (32 - prefix));
    if network != u32::from(address) {
        let network = format!("{}/{prefix}", Ipv4Addr::from(network));
        return Err(RangeError::HostBits { text: text.to_owned(), network });
    }
    Ok((network, prefix))
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        (port(first)?, port(last)?)
    } else if let Some((first, more)) = text.split_once('+') {
        let first = port(first)?;
        (first, first.checked_add(more.trim().parse().ok()?)?)
    } else {
        (port(text)?, port(text)?)
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ranges_are_read_or_refused_with_the_reason() {
        let lines: Vec<String> = [
            ("10.43.0.0/16", "30000-32767"),
            ("172.16.0.0/29", "8000+10"),
            ("10.0.0.0/8", "30000"),
            ("10.43.0.1/16", "30000-32767"),
            ("10.43.0.0", "30000-32767"),
            ("fd00::/108", "30000-32767"),
            ("10.43.0.0/30", "30000-32767"),
            ("10.43.0.0/40", "30000-32767"),
            ("10.43.0.0/16", "32767-30000"),
            ("10.43.0.0/16", "0-10"),
            ("10.43.0.0/16", "65000+1000"),
        ]
        .into_iter()
        .map(|(cidr, ports)| match ServiceRanges::parse(cidr, ports) {
            Ok(ranges) => format!("{ranges}, kubernetes {}", ranges.kubernetes()),
            Err(error) => error.to_string(),
        })
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        10.43.0.0/16 and node ports 30000-32767, kubernetes 10.43.0.1
        172.16.0.0/29 and node ports 8000-8010, kubernetes 172.16.0.1
        10.0.0.0/8 and node ports 30000-30000, kubernetes 10.0.0.1
        --service-cidr 10.43.0.1/16 names an address within a network; the network is 10.43.0.0/16
        --service-cidr "10.43.0.0" is not an IPv4 network such as 10.43.0.0/16
        --service-cidr "fd00::/108" is not an IPv4 network such as 10.43.0.0/16
        --service-cidr 10.43.0.0/30: the prefix has to be between /8 and /29
        --service-cidr "10.43.0.0/40" is not an IPv4 network such as 10.43.0.0/16
        --service-node-port-range "32767-30000" is not a range of ports such as 30000-32767
        --service-node-port-range "0-10" is not a range of ports such as 30000-32767
        --service-node-port-range "65000+1000" is not a range of ports such as 30000-32767
        "#);
    }

    #[test]
    fn every_address_and_port_is_tried_exactly_once_and_none_outside() {
        for (cidr, ports) in [("10.9.0.0/29", "40-40"), ("10.9.0.0/27", "40-56"), ("10.9.0.0/20", "30000-32767")] {
            let ranges = ServiceRanges::parse(cidr, ports).unwrap();
            for random in [0_u32, 3, 7, u32::MAX] {
                let addresses: Vec<_> = ranges.addresses_to_try(&mut |below| random % below).collect();
                let distinct: HashSet<_> = addresses.iter().copied().collect();
                assert_eq!(distinct.len(), addresses.len(), "{cidr}");
                assert_eq!(addresses.len(), ranges.addresses() as usize - 1, "{cidr}");
                assert!(addresses.iter().all(|a| ranges.holds_address(*a)), "{cidr}");
                let tried: Vec<_> = ranges.ports_to_try(&mut |below| random % below).collect();
                assert_eq!(tried.iter().collect::<HashSet<_>>().len(), ranges.node_ports.len(), "{ports}");
                assert!(tried.iter().all(|port| ranges.holds_port(*port)), "{ports}");
            }
        }
    }

    #[test]
    fn addresses_people_choose_for_themselves_are_given_out_last() {
        let ranges = ServiceRanges::default();
        let tried: Vec<_> = ranges.addresses_to_try(&mut |_| 0).collect();
        assert_eq!(tried[0], Ipv4Addr::new(10, 43, 1, 1));
        assert_eq!(*tried.last().unwrap(), Ipv4Addr::new(10, 43, 1, 0));
        assert_eq!(ranges.ports_to_try(&mut |_| 0).next(), Some(30_086));
    }
}
