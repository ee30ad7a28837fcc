//! The link of `pintle up`: the node's own namespace, and one veth pair by which the host reaches it. On the host it
//! adds one interface and the routes to the cluster's ranges through it, and nothing else; a route somebody else has
//! to one of these ranges is refused, never replaced.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use pintle_nft::{Cidr, Family};

use crate::device::{self, Conflict, Device, Gateway, Pair, Reach, Route, Step};
use crate::rt::{Mac, Rt};
use crate::{NetError, netns};

const HOST_MAC: Mac = [0x0a, 0x70, 0x69, 0x6e, 0x00, 0x01];
const NODE_MAC: Mac = [0x0a, 0x70, 0x69, 0x6e, 0x00, 0x02];

/// What the link looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLink {
    /// Where the node's namespace is bind-mounted.
    pub netns: PathBuf,
    /// The host's interface.
    pub host_name: String,
    /// The host's address on the link.
    pub host_addr: Cidr,
    /// The node's interface.
    pub node_name: String,
    /// The node's address on the link.
    pub node_addr: Cidr,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// The ranges the host reaches through the node: pods and Services.
    pub ranges: Vec<Cidr>,
}

impl NodeLink {
    fn pair(&self) -> Pair {
        let through = |dest: Cidr, addr: IpAddr| Route { dest, via: Some(Gateway { addr, reach: Reach::Routed }) };
        let to_node = self.ranges.iter().map(|r| through(r.network(), self.node_addr.addr())).collect();
        Pair {
            host: Device {
                name: self.host_name.clone(),
                mac: HOST_MAC,
                mtu: self.mtu,
                addrs: BTreeSet::from([self.host_addr]),
                routes: to_node,
                neighbours: BTreeSet::new(),
            },
            inside: Device {
                name: self.node_name.clone(),
                mac: NODE_MAC,
                mtu: self.mtu,
                addrs: BTreeSet::from([self.node_addr]),
                routes: BTreeSet::from([through(Cidr::default_route(Family::V4), self.host_addr.addr())]),
                neighbours: BTreeSet::new(),
            },
            conflict: Conflict::Refuse,
        }
    }
}

/// Makes the node's namespace and link, or repairs what differs. Returns the steps that were needed.
///
/// # Errors
/// What failed, on what; [`NetError::RouteTaken`] when the host uses one of the ranges otherwise.
pub async fn ensure(link: &NodeLink) -> Result<Vec<Step>, NetError> {
    let (pair, path) = (link.pair(), link.netns.clone());
    netns::on_thread(move || device::ensure(&path, &pair)).await
}

/// Removes the link, its routes with it, and the namespace. What is gone already is no error.
///
/// # Errors
/// What could not be removed.
pub async fn remove(link: &NodeLink) -> Result<(), NetError> {
    let (path, name) = (link.netns.clone(), link.host_name.clone());
    netns::on_thread(move || {
        Rt::open()?.del_link(&name)?;
        netns::remove(&path)
    })
    .await
}
