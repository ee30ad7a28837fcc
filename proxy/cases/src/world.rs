//! The addresses of a case, for one family. Tests that make their own networks may make them otherwise.

use std::net::IpAddr;

use crate::{Client, Destination};

/// Where everybody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// `IPv4` or `IPv6`, as an EndpointSlice names it.
    pub address_type: &'static str,
    /// The pods of all nodes.
    pub pods: &'static str,
    /// Where ClusterIPs are allocated.
    pub services: &'static str,
    /// A range around [`World::outside`] that holds nobody else of ours.
    pub around_outside: &'static str,
    /// A pod on this node.
    pub pod: IpAddr,
    /// This node.
    pub node: IpAddr,
    /// Another node.
    pub other_node: IpAddr,
    /// A machine outside.
    pub outside: IpAddr,
    /// The Service's ClusterIP.
    pub cluster_ip: IpAddr,
    /// An address no Service has.
    pub unallocated: IpAddr,
    /// The Service's external address.
    pub external_ip: IpAddr,
    /// Its load balancer's.
    pub load_balancer: IpAddr,
    /// The address of a load balancer that translates by itself.
    pub proxied: IpAddr,
    /// The loopback address.
    pub loopback: IpAddr,
    here: IpAddr,
    there: IpAddr,
}

impl World {
    /// Our node's name.
    pub const NODE: &str = "here";
    /// Our node's zone.
    pub const ZONE: &str = "zone-a";
    /// What the names of pods' interfaces begin with.
    pub const POD_INTERFACES: &str = "veth";
    /// The Service's port.
    pub const PORT: u16 = 80;
    /// Its node port.
    pub const NODE_PORT: u16 = 30080;
    /// The port on which endpoints listen.
    pub const TARGET_PORT: u16 = 8080;
    /// A port nobody has.
    pub const OTHER_PORT: u16 = 81;

    /// IPv4.
    #[must_use]
    pub fn v4() -> Self {
        let a = |a, b, c, d| IpAddr::from([a, b, c, d]);
        Self {
            address_type: "IPv4",
            pods: "10.42.0.0/16",
            services: "10.43.0.0/16",
            around_outside: "203.0.113.0/24",
            pod: a(10, 42, 0, 200),
            node: a(192, 0, 2, 1),
            other_node: a(192, 0, 2, 2),
            outside: a(203, 0, 113, 5),
            cluster_ip: a(10, 43, 0, 10),
            unallocated: a(10, 43, 9, 9),
            external_ip: a(198, 51, 100, 1),
            load_balancer: a(198, 51, 100, 2),
            proxied: a(198, 51, 100, 3),
            loopback: a(127, 0, 0, 1),
            here: a(10, 42, 0, 0),
            there: a(10, 42, 1, 0),
        }
    }

    /// IPv6.
    #[must_use]
    pub fn v6() -> Self {
        let a = |net: u16, sub: u16, host: u16| IpAddr::from([0xfd00, net, sub, 0, 0, 0, 0, host]);
        Self {
            address_type: "IPv6",
            pods: "fd00:42::/32",
            services: "fd00:43::/32",
            around_outside: "fd00:203::/32",
            pod: a(0x42, 0, 200),
            node: a(0x192, 0, 1),
            other_node: a(0x192, 0, 2),
            outside: a(0x203, 0, 5),
            cluster_ip: a(0x43, 0, 0x10),
            unallocated: a(0x43, 9, 9),
            external_ip: a(0x198, 0, 1),
            load_balancer: a(0x198, 0, 2),
            proxied: a(0x198, 0, 3),
            loopback: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            here: a(0x42, 0, 0),
            there: a(0x42, 1, 0),
        }
    }

    /// The address of an endpoint: `a` is the first.
    #[must_use]
    pub fn endpoint(&self, name: char, here: bool) -> IpAddr {
        let number = name as u8 - b'a' + 2;
        match if here { self.here } else { self.there } {
            IpAddr::V4(net) => {
                let [a, b, c, _] = net.octets();
                IpAddr::from([a, b, c, number])
            }
            IpAddr::V6(net) => {
                let mut octets = net.octets();
                octets[15] = number;
                IpAddr::from(octets)
            }
        }
    }

    /// The source address of a client; `here` tells whether an endpoint is on this node.
    #[must_use]
    pub fn source(&self, client: Client, here: impl Fn(char) -> bool) -> IpAddr {
        match client {
            Client::Pod => self.pod,
            Client::Node => self.node,
            Client::OtherNode => self.other_node,
            Client::Outside => self.outside,
            Client::Endpoint(name) => self.endpoint(name, here(name)),
            Client::NodeAsLoadBalancer => self.load_balancer,
        }
    }

    /// The address and port of a destination.
    #[must_use]
    pub fn destination(&self, to: Destination, here: impl Fn(char) -> bool) -> (IpAddr, u16) {
        match to {
            Destination::ClusterIp => (self.cluster_ip, Self::PORT),
            Destination::ClusterIpOtherPort => (self.cluster_ip, Self::OTHER_PORT),
            Destination::Unallocated => (self.unallocated, Self::PORT),
            Destination::NodePort => (self.node, Self::NODE_PORT),
            Destination::NodePortOtherPort => (self.node, Self::OTHER_PORT),
            Destination::NodePortLoopback => (self.loopback, Self::NODE_PORT),
            Destination::ExternalIp => (self.external_ip, Self::PORT),
            Destination::LoadBalancer => (self.load_balancer, Self::PORT),
            Destination::LoadBalancerProxied => (self.proxied, Self::PORT),
            Destination::Endpoint(name) => (self.endpoint(name, here(name)), Self::TARGET_PORT),
        }
    }
}
