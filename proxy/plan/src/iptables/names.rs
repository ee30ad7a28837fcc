//! The names of a Service's chains, as kube-proxy makes them, so that whoever knows its rules finds their way in ours: a
//! kind, and 16 digits of base 32 from the SHA-256 of what the chain is for.

use pintle_nft::Proto;
use sha2::{Digest as _, Sha256};

use crate::endpoints::Backend;
use crate::service::ServiceName;

/// All servers of a port.
pub const SERVICE: &str = "KUBE-SVC-";
/// A port's servers on this node.
pub const SERVICE_LOCAL: &str = "KUBE-SVL-";
/// What comes from outside the cluster.
pub const EXTERNAL: &str = "KUBE-EXT-";
/// Who may speak to a load balancer's addresses.
pub const FIREWALL: &str = "KUBE-FW-";
/// One server.
pub const ENDPOINT: &str = "KUBE-SEP-";
/// The kinds of chains that belong to one Service; the last is of older kube-proxies.
pub const KINDS: [&str; 6] = [SERVICE, SERVICE_LOCAL, EXTERNAL, FIREWALL, ENDPOINT, "KUBE-XLB-"];

/// A port of a Service, in whose name chains are called.
#[derive(Clone, Debug)]
pub struct PortId {
    /// `namespace/name:port`, or `namespace/name` for a port without a name.
    pub title: String,
    proto: Proto,
    hash: String,
}

impl PortId {
    /// That of a port.
    #[must_use]
    pub fn new(service: &ServiceName, port: &str, proto: Proto) -> Self {
        let title = if port.is_empty() { service.to_string() } else { format!("{service}:{port}") };
        let hash = hash(&[&title, proto.name()]);
        Self { title, proto, hash }
    }

    /// Its chain of a kind.
    #[must_use]
    pub fn chain(&self, kind: &str) -> String {
        format!("{kind}{}", self.hash)
    }

    /// The chain of one of its servers.
    #[must_use]
    pub fn endpoint(&self, server: &Backend) -> String {
        format!("{ENDPOINT}{}", hash(&[&self.title, self.proto.name(), &server.to_string()]))
    }
}

fn hash(parts: &[&str]) -> String {
    let digest = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    // Sixteen digits of five bits are the first ten bytes.
    let bits = digest.iter().take(10).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let digit = |n: u32| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> (75 - 5 * n) & 31) as usize]);
    (0..16).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_called_as_kube_proxy_calls_them() {
        let name = |name: &str| ServiceName { namespace: name.replace("svc", "ns"), name: name.into() };
        let first = PortId::new(&name("svc1"), "p80", Proto::Tcp);
        assert_eq!(first.chain(SERVICE), "KUBE-SVC-XPGD46QRK7WJZT7O");
        let server = Backend { addr: [10, 180, 0, 1].into(), port: 80 };
        assert_eq!(first.endpoint(&server), "KUBE-SEP-SXIVWICOYRO3J4NJ");
        assert_eq!(PortId::new(&name("svc2"), "p80", Proto::Tcp).chain(EXTERNAL), "KUBE-EXT-GNZBNJ2PO5MGZ6GT");
        assert_eq!(PortId::new(&name("svc5"), "p80", Proto::Tcp).chain(FIREWALL), "KUBE-FW-NUKIZ6OKUXPJNT4C");
    }
}
