//! Endpoints: the old, flat list of addresses behind a Service.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

/// How many addresses a row shows.
const SHOWN_MAX: usize = 3;

/// See the module.
pub struct EndpointsKind;

impl Kind for EndpointsKind {
    type Object = Endpoints;
    const NAMES: Names = Names { singular: "endpoints", short: &["ep"], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::text("Endpoints", "Ready addresses with their ports."), Column::AGE];

    fn default(object: &mut Endpoints) {
        let ports = object.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten());
        for port in ports {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(object: &Endpoints, errors: &mut FieldErrors) {
        for (index, subset) in object.subsets.iter().flatten().enumerate() {
            subset_rules(subset, &Path::new("subsets").index(index), errors);
        }
    }

    fn row(object: &Endpoints, now: Timestamp) -> Vec<Value> {
        vec![common::name_cell(&object.metadata), cell(object), common::age(&object.metadata, now)]
    }
}

fn subset_rules(subset: &EndpointSubset, path: &Path, errors: &mut FieldErrors) {
    let lists = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
    if lists.iter().all(|(_, list)| list.as_ref().is_none_or(Vec::is_empty)) {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (field, list) in lists {
        for (index, address) in list.iter().flatten().enumerate() {
            let path = path.child(field).index(index).child("ip");
            errors.invalid_each(&path, &address.ip, name::ip(&address.ip));
        }
    }
    let many = subset.ports.as_ref().is_some_and(|ports| ports.len() > 1);
    for (index, port) in subset.ports.iter().flatten().enumerate() {
        let path = path.child("ports").index(index);
        if many && port.name.as_deref().is_none_or(str::is_empty) {
            errors.required(&path.child("name"), "");
        }
        for message in name::port_number(port.port) {
            errors.invalid(&path.child("port"), port.port, message);
        }
    }
}

fn cell(endpoints: &Endpoints) -> Value {
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let addresses = || subset.addresses.iter().flatten().map(|address| address.ip.as_str());
        match subset.ports.as_deref() {
            None | Some([]) => all.extend(addresses().map(str::to_owned)),
            Some(ports) => {
                for port in ports {
                    all.extend(addresses().map(|ip| host_port(ip, port.port)));
                }
            }
        }
    }
    shortened(&all)
}

fn host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The first few and how many more, or `<none>`.
fn shortened(all: &[String]) -> Value {
    let shown = all.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN_MAX) {
        0 => common::or_none(Some(&shown)),
        more => format!("{shown} + {more} more...").into(),
    }
}
