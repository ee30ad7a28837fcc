//! The network of one pod: a named namespace at `<run-dir>/netns/<uid>` and a routed veth pair into it. No bridge:
//! traffic between two pods of a node is forwarded, and so meets the forward hooks where policy sits.
//!
//! ```text
//! pod:  eth0 10.42.0.5/32, default via 169.254.1.1 dev eth0 onlink, neighbour 169.254.1.1 pinned to the host end
//! host: <name of the pod's veth>, no address, route 10.42.0.5/32 dev veth, neighbour 10.42.0.5 pinned to the pod end
//! ```
//!
//! 169.254.1.1 answers nothing and exists nowhere: it is a next hop that every pod can share. With both neighbours
//! pinned, no ARP is ever sent and the host needs no proxy_arp.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use pintle_nft::{Cidr, Family};

use crate::device::{self, Conflict, Device, Gateway, Pair, Reach, Route, Step};
use crate::rt::{Mac, Rt};
use crate::{NetError, netns, sysctl};

/// What the names of our host-side interfaces begin with.
pub const VETH_PREFIX: &str = "pod";

/// The next hop in every pod.
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));

/// The address of every host end. All pods may share it: each veth is a link of its own.
const HOST_MAC: Mac = [0xee; 6];

/// The link of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// The pod's uid.
    pub uid: String,
    /// Where the named namespace is: `<run-dir>/netns/<uid>`.
    pub netns: PathBuf,
    /// The pod's address. IPv4 only so far.
    pub addr: IpAddr,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

impl PodLink {
    /// The link of a pod with the default MTU of 1500 bytes.
    #[must_use]
    pub fn new(run_dir: &Path, uid: &str, addr: IpAddr) -> Self {
        Self { uid: uid.to_owned(), netns: netns_path(run_dir, uid), addr, mtu: 1500 }
    }

    /// The name of the host end.
    #[must_use]
    pub fn host_name(&self) -> String {
        veth_name(&self.uid)
    }

    fn pair(&self) -> Result<Pair, NetError> {
        let IpAddr::V4(v4) = self.addr else { return Err(NetError::Ipv6 { addr: self.addr }) };
        let own = Cidr::host(self.addr);
        let [a, b, c, d] = v4.octets();
        let pod_mac = [0x0a, 0x58, a, b, c, d];
        let default =
            Route { dest: Cidr::default_route(Family::V4), via: Some(Gateway { addr: GATEWAY, reach: Reach::Onlink }) };
        Ok(Pair {
            host: Device {
                name: self.host_name(),
                mac: HOST_MAC,
                mtu: self.mtu,
                addrs: BTreeSet::new(),
                routes: BTreeSet::from([Route { dest: own, via: None }]),
                neighbours: BTreeSet::from([(self.addr, pod_mac)]),
            },
            inside: Device {
                name: "eth0".to_owned(),
                mac: pod_mac,
                mtu: self.mtu,
                addrs: BTreeSet::from([own]),
                routes: BTreeSet::from([default]),
                neighbours: BTreeSet::from([(GATEWAY, HOST_MAC)]),
            },
            conflict: Conflict::Replace,
        })
    }
}

/// Where a pod's namespace is: `<run-dir>/netns/<uid>`.
#[must_use]
pub fn netns_path(run_dir: &Path, uid: &str) -> PathBuf {
    run_dir.join("netns").join(uid)
}

/// The name of a pod's host-side interface. Names hold 15 bytes, uids are longer, so it carries a hash (64-bit FNV-1a,
/// cut to 48 bits).
#[must_use]
pub fn veth_name(uid: &str) -> String {
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{VETH_PREFIX}{:012x}", hash >> 16)
}

/// Makes the pod's namespace and link, or repairs what differs; a pod that has everything is left alone, so this is
/// also how a restarted kubelet adopts its pods. Returns the steps that were needed.
///
/// # Errors
/// What failed, on what. Calling it again continues where it stopped.
pub async fn ensure(link: &PodLink) -> Result<Vec<Step>, NetError> {
    let (pair, path) = (link.pair()?, link.netns.clone());
    netns::on_thread(move || {
        sysctl::enable_forwarding()?;
        let steps = device::ensure(&path, &pair)?;
        // As other runtimes do: a container may listen below 1024 and send ICMP echo without capabilities.
        sysctl::set("net.ipv4.ip_unprivileged_port_start", "0")?;
        sysctl::set("net.ipv4.ping_group_range", "0 2147483647")?;
        Ok(steps)
    })
    .await
}

/// Removes a pod's link and namespace; what is gone already is no error. When this returns, the pod's address is free
/// on this node. Processes still in the namespace keep it, unreachable, until they end.
///
/// # Errors
/// What could not be removed.
pub async fn remove(run_dir: &Path, uid: &str) -> Result<(), NetError> {
    let (path, name) = (netns_path(run_dir, uid), veth_name(uid));
    netns::on_thread(move || {
        Rt::open()?.del_link(&name)?;
        netns::remove(&path)
    })
    .await
}

/// The uids of the pods that have a namespace.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(run_dir: &Path) -> Result<Vec<String>, NetError> {
    let paths = netns::list(&run_dir.join("netns"), "")?;
    Ok(paths.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).collect())
}

/// Removes every pod's namespace and every host-side interface of ours in this namespace: the way back to nothing.
///
/// # Errors
/// What could not be removed.
pub async fn remove_all(run_dir: &Path) -> Result<(), NetError> {
    let dir = run_dir.join("netns");
    netns::on_thread(move || {
        let mut rt = Rt::open()?;
        for link in rt.links()?.into_iter().filter(|l| is_ours(&l.name, l.mac)) {
            rt.del_link(&link.name)?;
        }
        netns::remove_all(&dir, "").map(drop)
    })
    .await
}

fn is_ours(name: &str, mac: Option<Mac>) -> bool {
    let digits = name.strip_prefix(VETH_PREFIX);
    mac == Some(HOST_MAC) && digits.is_some_and(|d| d.len() == 12 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::device::{Observed, plan};

    fn link() -> PodLink {
        PodLink::new(Path::new("/run/pintle"), "0c6f1c3e-8a55-4f5a-9b57-3f7f8d3c7f10", "10.42.0.5".parse().unwrap())
    }

    fn as_observed(device: &Device) -> Observed {
        Observed {
            index: 7,
            mac: Some(device.mac),
            mtu: device.mtu,
            up: true,
            addrs: device.addrs.clone(),
            routes: device.routes.clone(),
            neighbours: device.neighbours.clone(),
        }
    }

    #[test]
    fn names_fit_an_interface_and_differ_by_pod() {
        let (a, b) = (veth_name("a"), veth_name("b"));
        assert!(a.len() == 15 && b.len() == 15 && a != b);
        assert!(is_ours(&a, Some(HOST_MAC)) && !is_ours(&a, None) && !is_ours("podman0", Some(HOST_MAC)));
    }

    #[test]
    fn a_pod_that_has_everything_needs_no_step() {
        let pair = link().pair().unwrap();
        let (host, inside) = (as_observed(&pair.host), as_observed(&pair.inside));
        assert_eq!(plan(&pair, Some(&host), Some(&inside)), []);
    }

    #[test]
    fn only_what_differs_is_repaired() {
        let pair = link().pair().unwrap();
        let mut host = as_observed(&pair.host);
        let mut inside = as_observed(&pair.inside);
        host.routes = BTreeSet::from([Route { dest: "10.42.0.9/32".parse().unwrap(), via: None }]);
        inside.mtu = 1400;
        let own: Cidr = "10.42.0.5/32".parse().unwrap();
        assert_eq!(
            plan(&pair, Some(&host), Some(&inside)),
            [
                Step::Up(device::Side::Inside),
                Step::DelRoute(device::Side::Host, Route { dest: "10.42.0.9/32".parse().unwrap(), via: None }),
                Step::AddRoute(device::Side::Host, Route { dest: own, via: None }),
            ]
        );
    }

    #[test]
    fn half_a_pair_is_made_anew() {
        let pair = link().pair().unwrap();
        let host = as_observed(&pair.host);
        let steps = plan(&pair, Some(&host), None);
        assert_eq!(steps[..2], [Step::DeleteHost, Step::CreatePair]);
        assert_eq!(plan(&pair, None, None)[0], Step::CreatePair);
    }

    #[test]
    fn an_ipv6_address_is_refused_with_a_reason() {
        let v6 = PodLink { addr: "fd00::5".parse().unwrap(), ..link() };
        assert_eq!(v6.pair().unwrap_err().to_string(), "address fd00::5 is IPv6, and pod links are IPv4 only so far");
    }
}
