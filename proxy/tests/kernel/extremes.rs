//! As much of something as the API lets through.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_nft::Family;
use pintle_proxy::backend::{Backend, Extent};
use pintle_proxy::kernel::Netlink;
use pintle_proxy::nft_backend::NftBackend;
use pintle_proxy_plan::{Change, Config};
use serde_json::{Value, json};

use crate::objects::{service, slice, web};
use crate::world::{NODE, ask, ask_from, serve, world};

fn backend() -> NftBackend<Netlink> {
    let range = |text: &str| vec![text.parse().unwrap()];
    let config = Config::new("here", range("10.42.0.0/16"), range("10.43.0.0/16"));
    NftBackend::new(config, &[Family::V4], Netlink::open().unwrap())
}

fn sync(backend: &mut NftBackend<Netlink>) -> Extent {
    let report = backend.sync();
    assert!(report.is_installed() && !report.wants_retry() && report.issues.is_empty(), "{report:?}");
    report.families[0].extent
}

/// Ports of a Service.
const EACH: u16 = 1000;

/// A Service that has the `n`th thousand of all node ports, and its slice.
fn node_ports(n: u16) -> (Service, EndpointSlice) {
    let ports = (n * EACH).max(1)..=(n * EACH).saturating_add(EACH - 1);
    let told: Vec<Value> =
        ports.clone().map(|n| json!({"name": format!("p{n}"), "port": n, "nodePort": n, "protocol": "TCP"})).collect();
    let served: Vec<Value> = ports.map(|n| json!({"name": format!("p{n}"), "port": 8080})).collect();
    let name = format!("many-{n}");
    let object = service(&name, &format!("10.43.1.{}", 1 + n), json!({"type": "NodePort", "ports": told}));
    let mut endpoints = web(&name, &["10.42.0.2@here"]);
    endpoints.ports = Some(serde_json::from_value(json!(served)).unwrap());
    (object, endpoints)
}

#[test]
fn every_node_port_there_is_leads_to_its_service() {
    let Some(world) = world("nftables") else { return };
    serve(&world.pod("10.42.0.2"), "10.42.0.2", 8080);
    let mut backend = backend();
    for (service, slice) in (0..=u16::MAX / EACH).map(node_ports) {
        backend.note(Change::Service(&service));
        backend.note(Change::Slice(&slice));
    }
    assert_eq!(sync(&mut backend), Extent::Full);
    assert_eq!(backend.counts(Family::V4).ports, usize::from(u16::MAX));
    for port in [1, 999, 1000, 30_000, 65_000, 65_535] {
        assert!(ask_from(&world.outside(), &format!("{NODE}:{port}")).unwrap().starts_with("10.42.0.2"), "{port}");
    }
    // Some of them less is a change of their size.
    backend.note(Change::ServiceGone(&node_ports(u16::MAX / EACH).0));
    assert_eq!(sync(&mut backend), Extent::Incremental);
    let refused = ask_from(&world.outside(), &format!("{NODE}:65535")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(ask_from(&world.outside(), &format!("{NODE}:64999")).is_ok());
}

#[test]
fn five_thousand_endpoints_of_one_service_come_and_go() {
    let Some(world) = world("nftables") else { return };
    serve(&world.pod("10.42.0.2"), "10.42.0.2", 8080);
    let mut backend = backend();
    let all: Vec<String> = (0..5000).map(|n| format!("10.42.{}.{}", 1 + n / 250, 1 + n % 250)).collect();
    backend.note(Change::Service(&service("web", "10.43.0.10", json!({}))));
    // As the API has them: at most a hundred in a slice.
    let slices = all.chunks(100).enumerate().map(|(n, some)| {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        let mut object = slice("web", ("http", "TCP", 8080), &some);
        object.metadata.name = Some(format!("web-{n}"));
        object
    });
    let slices: Vec<EndpointSlice> = slices.collect();
    slices.iter().for_each(|object| backend.note(Change::Slice(object)));
    assert_eq!(sync(&mut backend), Extent::Full);
    assert_eq!(backend.counts(Family::V4).servers, 5000);
    slices.iter().for_each(|object| backend.note(Change::SliceGone(object)));
    backend.note(Change::Slice(&web("web", &["10.42.0.2@here"])));
    assert_eq!(sync(&mut backend), Extent::Incremental);
    assert!(ask("10.43.0.10:80").unwrap().starts_with("10.42.0.2"));
}
