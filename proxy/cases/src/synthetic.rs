//! A cluster of any size, for measurements: Services with one TCP port and one EndpointSlice each.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The ranges of such a cluster: pods, Services.
pub const RANGES: [&str; 2] = ["10.64.0.0/10", "10.128.0.0/12"];

fn meta(name: String) -> ObjectMeta {
    ObjectMeta {
        namespace: Some("bench".into()),
        name: Some(name),
        uid: Some("00000000-0000-0000-0000-000000000000".into()),
        ..ObjectMeta::default()
    }
}

/// The address `n` places after a base.
fn addr(base: u32, n: u32) -> String {
    Ipv4Addr::from(base + n).to_string()
}

/// The `n`th Service: ClusterIP `10.128.0.1 + n`, port 80.
#[must_use]
pub fn service(n: u32) -> Service {
    let ip = addr(0x0a80_0001, n);
    let port =
        ServicePort { name: Some("http".into()), port: 80, protocol: Some("TCP".into()), ..ServicePort::default() };
    let spec = ServiceSpec {
        type_: Some("ClusterIP".into()),
        cluster_ip: Some(ip.clone()),
        cluster_ips: Some(vec![ip]),
        ip_families: Some(vec!["IPv4".into()]),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    Service { metadata: meta(format!("service-{n}")), spec: Some(spec), status: None }
}

/// The same as a load balancer's: with node port `30000 + n mod 2768`, the address `100.64.0.1 + n` and external traffic
/// policy Local.
#[must_use]
pub fn balanced(n: u32) -> Service {
    let mut service = service(n);
    let ip = Some(addr(0x6440_0001, n));
    let ingress = LoadBalancerIngress { ip, ..LoadBalancerIngress::default() };
    let load_balancer = Some(LoadBalancerStatus { ingress: Some(vec![ingress]) });
    service.status = Some(ServiceStatus { load_balancer, ..ServiceStatus::default() });
    if let Some(spec) = &mut service.spec {
        spec.type_ = Some("LoadBalancer".into());
        spec.external_traffic_policy = Some("Local".into());
        spec.ports.iter_mut().flatten().for_each(|port| port.node_port = i32::try_from(30_000 + n % 2_768).ok());
    }
    service
}

/// Its slice: `count` ready endpoints, the first of which is the `from`th of the Service's own 4,096 addresses modulo
/// the pod range; every tenth is on the node `node-0`.
#[must_use]
pub fn slice(n: u32, count: u32, from: u32) -> EndpointSlice {
    let name = format!("service-{n}");
    let endpoint = |i: u32| Endpoint {
        addresses: vec![addr(0x0a40_0001, (n.wrapping_mul(64) + from + i) % 0x3f_0000)],
        conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
        node_name: Some(format!("node-{}", i % 10)),
        ..Endpoint::default()
    };
    let port = EndpointPort {
        name: Some("http".into()),
        port: Some(8080),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    };
    EndpointSlice {
        metadata: ObjectMeta {
            labels: Some(BTreeMap::from([("kubernetes.io/service-name".into(), name.clone())])),
            ..meta(format!("{name}-1"))
        },
        address_type: "IPv4".into(),
        endpoints: Some((0..count).map(endpoint).collect()),
        ports: Some(vec![port]),
    }
}
