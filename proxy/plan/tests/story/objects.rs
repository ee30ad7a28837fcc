//! API objects in one line each.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// A Service in namespace `d` with one TCP port 80 named `http`; `spec` is merged over the defaults.
pub fn service(name: &str, cluster_ip: &str, spec: Value) -> Service {
    let mut object = json!({
        "metadata": {"namespace": "d", "name": name},
        "spec": {"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    });
    for (key, value) in spec.as_object().cloned().unwrap_or_default() {
        if key == "ingress" {
            object["status"] = json!({"loadBalancer": {"ingress": value}});
        } else {
            object["spec"][key] = value;
        }
    }
    serde_json::from_value(object).unwrap()
}

/// A slice of a Service with one port. An endpoint reads `address[@node][!state]`, where state is `unready`,
/// `leaving` (terminating and serving) or `gone` (terminating only).
pub fn slice(service: &str, port: (&str, &str, u16), endpoints: &[&str]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints.iter().map(|text| endpoint(text)).collect();
    let family =
        if endpoints.first().is_some_and(|e| e["addresses"][0].to_string().contains("::")) { "IPv6" } else { "IPv4" };
    let object = json!({
        "addressType": family,
        "metadata": {
            "namespace": "d",
            "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": port.0, "protocol": port.1, "port": port.2}],
        "endpoints": endpoints,
    });
    serde_json::from_value(object).unwrap()
}

/// A slice for the default port, whose servers listen on 8080.
pub fn web(service: &str, endpoints: &[&str]) -> EndpointSlice {
    slice(service, ("http", "TCP", 8080), endpoints)
}

fn endpoint(text: &str) -> Value {
    let (rest, state) = text.split_once('!').unwrap_or((text, "ready"));
    let (addr, node) = rest.split_once('@').unwrap_or((rest, "other"));
    let (ready, serving, terminating) = match state {
        "ready" => (true, true, false),
        "unready" => (false, false, false),
        "leaving" => (false, true, true),
        _ => (false, false, true),
    };
    json!({
        "addresses": [addr],
        "nodeName": node,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
    })
}
