//! The API objects of a case.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::{Case, Endpoint, State, World};

/// The name of every case's Service, in namespace `d`.
const NAME: &str = "web";

impl Case {
    /// The Service, for one transport protocol (`TCP`, `UDP`, `SCTP`).
    ///
    /// # Panics
    /// Never, but for a broken table.
    #[must_use]
    pub fn service(&self, world: &World, protocol: &str) -> Service {
        let kind = self.service.first().map_or("ClusterIP", String::as_str);
        let mut port = json!({"name": "http", "port": World::PORT, "protocol": protocol});
        if self.has("nodePort") {
            port["nodePort"] = json!(World::NODE_PORT);
        }
        let mut spec = json!({"type": kind, "ports": [port]});
        let address = if self.has("headless") { "None".to_owned() } else { world.cluster_ip.to_string() };
        if kind == "ExternalName" {
            spec["externalName"] = json!("example.org");
        } else {
            spec["clusterIP"] = json!(address);
            spec["clusterIPs"] = json!([address]);
            spec["ipFamilies"] = json!([world.address_type]);
        }
        for (word, field, value) in [
            ("external=Local", "externalTrafficPolicy", json!("Local")),
            ("internal=Local", "internalTrafficPolicy", json!("Local")),
            ("affinity", "sessionAffinity", json!("ClientIP")),
            ("externalIP", "externalIPs", json!([world.external_ip])),
        ] {
            if self.has(word) {
                spec[field] = value;
            }
        }
        if let Some(ranges) = self.service.iter().find_map(|w| w.strip_prefix("ranges=")) {
            spec["loadBalancerSourceRanges"] = ranges.split(',').map(|r| range(world, r)).collect();
        }
        let mut ingress = Vec::new();
        if self.has("lb") {
            ingress.push(json!({"ip": world.load_balancer, "ipMode": "VIP"}));
        }
        if self.has("lb-proxied") {
            ingress.push(json!({"ip": world.proxied, "ipMode": "Proxy"}));
        }
        let mut metadata = json!({"namespace": "d", "name": NAME, "uid": "00000000-0000-0000-0000-000000000001"});
        if self.has("labelled") {
            metadata["labels"] = json!({"service.kubernetes.io/service-proxy-name": "another"});
        }
        let status = json!({"loadBalancer": {"ingress": ingress}});
        read(json!({"metadata": metadata, "spec": spec, "status": status}))
    }

    /// Its EndpointSlice, for one transport protocol.
    ///
    /// # Panics
    /// Never, but for a broken table.
    #[must_use]
    pub fn slice(&self, world: &World, protocol: &str) -> EndpointSlice {
        read(json!({
            "addressType": world.address_type,
            "metadata": {
                "namespace": "d", "name": format!("{NAME}-1"), "labels": {"kubernetes.io/service-name": NAME},
            },
            "ports": [{"name": "http", "protocol": protocol, "port": World::TARGET_PORT}],
            "endpoints": self.endpoints.iter().map(|e| endpoint(world, e)).collect::<Vec<_>>(),
        }))
    }

    /// Whether an endpoint is on this node.
    #[must_use]
    pub fn is_here(&self, name: char) -> bool {
        self.endpoints.iter().any(|e| e.name == name && e.here)
    }
}

fn endpoint(world: &World, endpoint: &Endpoint) -> Value {
    let mut object = json!({
        "addresses": [world.endpoint(endpoint.name, endpoint.here)],
        "nodeName": if endpoint.here { World::NODE } else { "elsewhere" },
    });
    let conditions =
        |ready, serving, terminating| json!({"ready": ready, "serving": serving, "terminating": terminating});
    match endpoint.state {
        // Unset means ready.
        State::Ready => {}
        State::Unready => object["conditions"] = conditions(false, false, false),
        State::Leaving => object["conditions"] = conditions(false, true, true),
        State::Serving => object["conditions"] = conditions(false, true, false),
        State::Gone => object["conditions"] = conditions(false, false, true),
    }
    for hint in &endpoint.hints {
        let (field, name) = match hint.as_str() {
            "zone-us" => ("forZones", World::ZONE),
            "zone-other" => ("forZones", "zone-z"),
            "node-us" => ("forNodes", World::NODE),
            _ => ("forNodes", "elsewhere"),
        };
        object["hints"][field] = json!([{"name": name}]);
    }
    object
}

fn range(world: &World, word: &str) -> Value {
    let host = |addr: std::net::IpAddr| format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 });
    json!(match word {
        "outside" => world.around_outside.to_owned(),
        "node" => host(world.node),
        "pods" => world.pods.to_owned(),
        "nonsense" => "203.0.113.0/200".to_owned(),
        // Nobody of ours.
        _ => host(world.unallocated),
    })
}

fn read<T: for<'a> k8s_openapi::serde::Deserialize<'a>>(object: Value) -> T {
    serde_json::from_value(object).expect("the objects of a case are well formed")
}
