//! Row 11: Services and slices become rules, and a packet is walked through them.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_nft::trace::{Interface, Machine, Origin, Packet, summary, trace};
use pintle_nft::{Proto, text};
use pintle_proxy_plan::{Change, Config, Planner};

use crate::api::SERVICE_IP;
use crate::tale::Tale;

/// The proxy of one node.
pub struct Proxy(Planner);

impl Proxy {
    pub fn new(node: &str, ip: &str) -> Proxy {
        let range = |text: &str| vec![text.parse().unwrap()];
        let config = Config::new(node, range("10.42.0.0/16"), range("10.43.0.0/16"));
        Proxy(Planner::new(Config { node_addrs: vec![ip.parse().unwrap()], ..config }))
    }

    /// Takes in what there is and tells what the kernel is to be sent.
    pub fn update(&mut self, tale: &mut Tale, what: &str, services: &[Service], slices: &[EndpointSlice]) {
        services.iter().for_each(|service| self.0.note(Change::Service(service)));
        slices.iter().for_each(|slice| self.0.note(Change::Slice(slice)));
        let update = self.0.update();
        assert_eq!(update.issues, []);
        tale.say(format!("{what}:"));
        text::transaction(&update.transaction).lines().for_each(|line| tale.say(format!("  {line}")));
    }

    /// What may become of a packet to a port of the Service's address.
    pub fn ask(&self, tale: &mut Tale, whence: &str, source: &str, port: u16) {
        let packet = Packet {
            source: source.parse().unwrap(),
            destination: SERVICE_IP.parse().unwrap(),
            proto: Proto::Tcp,
            port,
            origin: Origin::Arriving,
            ingress: Interface::default(),
        };
        let fates = trace(&self.0.full(), &Machine::default(), packet);
        tale.say(format!("{source} ({whence}) → {SERVICE_IP}:{port} → {}", summary(&fates)));
    }
}
