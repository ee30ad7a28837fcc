//! Objects that no API server would let through, and some that it would, made of any bytes. Whatever comes: no panic,
//! what follows is taken by a kernel, it ends where a full push would, and nothing is left to do then. Shared by the
//! fuzz target and the tests that replay its corpus.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_nft::{Family, Kernel, Op, diff, text};
use pintle_proxy_plan::{Change, Config, DetectLocal, Egress, Masquerade, NodePortAddresses, Planner};
use serde_json::{Value, json};

/// What happens to a proxy.
pub enum Happening {
    Service(Service),
    ServiceGone(Service),
    Slice(EndpointSlice),
    SliceGone(EndpointSlice),
    /// It does everything anew, in batches of this size.
    Load(usize),
    /// It does what follows.
    Update,
    /// So it does, and nothing stays fresh.
    Settle,
}

impl Happening {
    /// What it tells a planner, if it does.
    pub fn change(&self) -> Option<Change<'_>> {
        match self {
            Self::Service(object) => Some(Change::Service(object)),
            Self::ServiceGone(object) => Some(Change::ServiceGone(object)),
            Self::Slice(object) => Some(Change::Slice(object)),
            Self::SliceGone(object) => Some(Change::SliceGone(object)),
            Self::Load(_) | Self::Update | Self::Settle => None,
        }
    }
}

/// The configuration, the objects and the order of events that these bytes decide. After the last byte everything is
/// zero.
pub fn story(bytes: &[u8]) -> (Config, Vec<Happening>) {
    let mut bytes = Bytes(bytes.iter());
    let config = config(&mut bytes);
    let mut story = Vec::new();
    while !bytes.is_over() {
        story.push(match bytes.byte() % 12 {
            0..=3 => Happening::Service(service(&mut bytes)),
            4 => Happening::ServiceGone(service(&mut bytes)),
            5..=7 => Happening::Slice(slice(&mut bytes)),
            8 => Happening::SliceGone(slice(&mut bytes)),
            9 => Happening::Load(1 + usize::from(bytes.byte())),
            10 => Happening::Update,
            _ => Happening::Settle,
        });
    }
    story.push(Happening::Update);
    (config, story)
}

/// The same, to a proxy in mode nftables.
pub fn happen(bytes: &[u8]) {
    let (config, story) = story(bytes);
    let mut planner = Planner::new(config);
    let mut kernel = Kernel::default();
    load(&mut planner, &mut kernel, 50);
    for happening in &story {
        match happening {
            Happening::Load(batch) => load(&mut planner, &mut kernel, *batch),
            Happening::Update => update(&mut planner, &mut kernel),
            Happening::Settle => {
                planner.settle();
                update(&mut planner, &mut kernel);
            }
            told => told.change().into_iter().for_each(|change| planner.note(change)),
        }
    }
}

fn load(planner: &mut Planner, kernel: &mut Kernel, batch: usize) {
    planner.absorb();
    planner.load(batch).for_each(|part| commit(kernel, &part.ops()));
    is_as_planned(planner, kernel);
}

fn update(planner: &mut Planner, kernel: &mut Kernel) {
    planner.update().transaction.batches.iter().for_each(|ops| commit(kernel, ops));
    is_as_planned(planner, kernel);
}

fn commit(kernel: &mut Kernel, ops: &[Op]) {
    if let Err(refused) = kernel.commit(ops) {
        panic!("{refused}\n{}", ops.iter().map(|op| text::op(op) + "\n").collect::<String>());
    }
}

fn is_as_planned(planner: &mut Planner, kernel: &Kernel) {
    let wanted = planner.full();
    assert_eq!(kernel.ruleset(), &wanted);
    assert!(planner.update().transaction.is_empty());
    assert!(diff::diff(kernel.ruleset(), &wanted).is_empty());
}

/// Reads decisions from bytes.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn is_over(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    fn up_to<T>(&mut self, most: u8, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % (most + 1)).map(|_| each(self)).collect()
    }

    /// One of these words, or nothing for the empty one.
    fn word(&mut self, of: &[&'static str]) -> Value {
        match self.one(of) {
            "" => Value::Null,
            word => json!(word),
        }
    }

    /// A port, or what stands in its place.
    fn number(&mut self) -> i32 {
        let number = i32::from(self.byte());
        match number {
            0..160 => 79 + number % 4,
            160..220 => 30000 + number % 3,
            220..230 => 0,
            230..240 => 65534 + number % 3,
            _ => i32::from_ne_bytes([(); 4].map(|()| self.byte())),
        }
    }

    /// A text where an address, a range or a name belongs.
    fn text(&mut self) -> String {
        let n = self.byte();
        match n {
            0..100 => format!("10.43.0.{}", n % 6),
            100..150 => format!("10.42.0.{}", n % 6),
            150..180 => format!("fd00:43::{}", n % 4),
            180..190 => "010.043.000.001".to_owned(),
            190..200 => " 10.43.0.1 ".to_owned(),
            200..210 => "::ffff:10.43.0.1".to_owned(),
            210..220 => "224.0.0.1".to_owned(),
            220..225 => "255.255.255.255".to_owned(),
            225..230 => "None".to_owned(),
            _ => String::from_utf8_lossy(&self.up_to(9, Self::byte)).into_owned(),
        }
    }

    fn range(&mut self) -> String {
        let n = self.byte();
        match n {
            0..120 => format!("203.0.{}.0/{}", n % 3, self.byte() % 40),
            120..180 => format!("fd00::/{}", self.byte() % 140),
            _ => self.text(),
        }
    }
}

const PROTOCOLS: [&str; 6] = ["", "TCP", "UDP", "SCTP", "tcp", "GRE"];
const PORT_NAMES: [&str; 3] = ["", "http", "dns"];
const NAMES: [&str; 4] = ["a", "b", "c", ""];

fn config(bytes: &mut Bytes<'_>) -> Config {
    let ranges = |texts: [&str; 2]| texts.iter().filter_map(|t| t.parse().ok()).collect::<Vec<_>>();
    let cluster = if bytes.flag() { Vec::new() } else { ranges(["10.42.0.0/16", "fd00:42::/32"]) };
    let config = Config {
        family: if bytes.flag() { Family::V6 } else { Family::V4 },
        node_addrs: ["192.0.2.1", "fd00:192::1"].iter().filter_map(|t| t.parse().ok()).collect(),
        zone: bytes.flag().then(|| "zone-a".to_owned()),
        detect_local: match bytes.byte() % 4 {
            0 => DetectLocal::ClusterCidr,
            1 => DetectLocal::NodeCidr(ranges(["10.42.0.0/24", "10.42.1.0/24"])),
            2 => DetectLocal::BridgeInterface(bytes.text()),
            _ => DetectLocal::InterfaceNamePrefix(bytes.text()),
        },
        node_port_addresses: match bytes.byte() % 3 {
            0 => NodePortAddresses::All,
            1 => NodePortAddresses::Primary,
            _ => NodePortAddresses::In(ranges(["192.0.2.0/24", "0.0.0.0/0"])),
        },
        masquerade: if bytes.flag() { Masquerade::All } else { Masquerade::OffCluster },
        ..Config::new("here", cluster, ranges(["10.43.0.0/16", "fd00:43::/112"]))
    };
    let last = bytes.byte();
    let egress = [Egress::Masquerade, Egress::Leave][usize::from(last & 1)];
    Config { egress, fresh_from: [usize::MAX, 0][usize::from(last >> 1 & 1)], ..config }
}

fn port(bytes: &mut Bytes<'_>) -> Value {
    json!({
        "name": bytes.word(&PORT_NAMES), "port": bytes.number(), "protocol": bytes.word(&PROTOCOLS),
        "nodePort": bytes.flag().then(|| bytes.number()),
    })
}

fn service(bytes: &mut Bytes<'_>) -> Service {
    let addresses = |bytes: &mut Bytes<'_>| bytes.up_to(2, Bytes::text);
    let (cluster, outside, age) = (addresses(bytes), addresses(bytes), bytes.byte() % 3);
    let mode = if bytes.flag() { "Proxy" } else { "VIP" };
    let ingress: Vec<Value> = addresses(bytes).iter().map(|ip| json!({"ip": ip, "ipMode": mode})).collect();
    let label = if bytes.byte() > 240 { json!({"service.kubernetes.io/service-proxy-name": "x"}) } else { json!({}) };
    read(json!({
        "metadata": {
            "namespace": "d", "name": bytes.one(&NAMES), "labels": label,
            "creationTimestamp": format!("2026-01-0{}T00:00:00Z", age + 1),
        },
        "spec": {
            "type": bytes.word(&["", "ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName", "?"]),
            "clusterIP": cluster.first(), "clusterIPs": cluster, "externalIPs": outside,
            "loadBalancerSourceRanges": bytes.up_to(2, Bytes::range),
            "ports": bytes.up_to(3, port),
            "healthCheckNodePort": bytes.flag().then(|| bytes.number()),
            "externalTrafficPolicy": bytes.word(&["", "Local", "Cluster", "local"]),
            "internalTrafficPolicy": bytes.word(&["", "Local", "Cluster"]),
            "sessionAffinity": bytes.word(&["", "None", "ClientIP", "clientip"]),
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": bytes.flag().then(|| bytes.number())}},
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
}

fn endpoint(bytes: &mut Bytes<'_>) -> Value {
    let told = |bytes: &mut Bytes<'_>| [None, Some(true), Some(false)][usize::from(bytes.byte() % 3)];
    let hint = bytes.flag().then(|| json!({"forZones": [{"name": bytes.one(&["zone-a", "zone-z"])}]}));
    json!({
        "addresses": bytes.up_to(2, Bytes::text), "nodeName": bytes.word(&["", "here", "there"]), "hints": hint,
        "conditions": {"ready": told(bytes), "serving": told(bytes), "terminating": told(bytes)},
    })
}

fn slice(bytes: &mut Bytes<'_>) -> EndpointSlice {
    let owner = bytes.one(&NAMES);
    let number = bytes.byte() % 3;
    let labels =
        if bytes.byte() < 230 { json!({"kubernetes.io/service-name": bytes.one(&NAMES)}) } else { Value::Null };
    let port = |bytes: &mut Bytes<'_>| {
        let number = bytes.flag().then(|| bytes.number());
        json!({"name": bytes.word(&PORT_NAMES), "port": number, "protocol": bytes.word(&PROTOCOLS)})
    };
    read(json!({
        "metadata": {"namespace": "d", "name": format!("{owner}-{number}"), "labels": labels},
        "addressType": bytes.one(&["IPv4", "IPv4", "IPv6", "FQDN", "?"]),
        "ports": bytes.up_to(2, port),
        "endpoints": bytes.up_to(5, endpoint),
    }))
}

fn read<T: for<'a> k8s_openapi::serde::Deserialize<'a>>(object: Value) -> T {
    serde_json::from_value(object).expect("its fields are of their types")
}
