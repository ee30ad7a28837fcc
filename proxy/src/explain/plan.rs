//! What would be programmed, as data.

use std::net::SocketAddr;

use pintle_nft::Family;
use pintle_proxy_plan::ServiceName;
use pintle_proxy_plan::endpoints::Backend;
use pintle_proxy_plan::map::Served;
use pintle_proxy_plan::service::Via;
use serde_json::{Value, json};

/// A Service of a family: where it answers and who serves.
pub fn service(family: Family, name: &ServiceName, served: &Served) -> Value {
    let servers = |servers: &[Backend]| -> Vec<String> {
        servers.iter().map(|s| SocketAddr::new(s.addr, s.port).to_string()).collect()
    };
    let ports = served.ports().map(|(port, selection)| {
        let frontends = served.frontends(port).map(|f| json!({"via": via(f.via), "at": f.at.to_string()}));
        json!({
            "name": port.name,
            "protocol": port.proto.name(),
            "port": port.port,
            "answersAt": frontends.collect::<Vec<_>>(),
            "servers": servers(&selection.cluster),
            "serversOfThisNode": servers(&selection.local),
        })
    });
    json!({
        "namespace": name.namespace,
        "name": name.name,
        "family": family_name(family),
        "ports": ports.collect::<Vec<_>>(),
        "heldByOthers": served.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn via(via: Via) -> &'static str {
    match via {
        Via::ClusterIp => "clusterIP",
        Via::ExternalIp => "externalIP",
        Via::LoadBalancer => "loadBalancer",
        Via::NodePort => "nodePort",
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
