//! EndpointSlice: up to a thousand endpoints behind a Service.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const SHOWN_MAX: usize = 3;

/// See the module.
pub struct EndpointSlices;

impl Kind for EndpointSlices {
    type Object = EndpointSlice;
    const NAMES: Names = Names { singular: "endpointslice", short: &[], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("AddressType", "IPv4, IPv6 or FQDN."),
        Column::text("Ports", "Port numbers."),
        Column::text("Endpoints", "Addresses."),
        Column::AGE,
    ];

    fn default(object: &mut EndpointSlice) {
        for port in object.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn generation_changed(new: &EndpointSlice, old: &EndpointSlice) -> Option<bool> {
        Some(new.endpoints != old.endpoints || new.ports != old.ports || new.address_type != old.address_type)
    }

    fn validate(object: &EndpointSlice, errors: &mut FieldErrors) {
        errors.one_of(&Path::new("addressType"), Some(&object.address_type), &["FQDN", "IPv4", "IPv6"]);
        let (endpoints, ports) = (object.endpoints.as_deref().unwrap_or(&[]), object.ports.as_deref().unwrap_or(&[]));
        if endpoints.len() > ENDPOINTS_MAX {
            errors.too_many(&Path::new("endpoints"), endpoints.len(), ENDPOINTS_MAX);
        }
        if ports.len() > PORTS_MAX {
            errors.too_many(&Path::new("ports"), ports.len(), PORTS_MAX);
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let path = Path::new("endpoints").index(index).child("addresses");
            match endpoint.addresses.len() {
                0 => errors.required(&path, "must contain at least 1 address"),
                count if count > ADDRESSES_MAX => errors.too_many(&path, count, ADDRESSES_MAX),
                _ => {}
            }
            for (index, address) in endpoint.addresses.iter().enumerate() {
                let messages = match object.address_type.as_str() {
                    "FQDN" => name::dns1123_subdomain(address),
                    _ => name::ip(address),
                };
                errors.invalid_each(&path.index(index), address, messages);
            }
        }
        let mut names = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let path = Path::new("ports").index(index);
            let text = port.name.as_deref().unwrap_or("");
            if !text.is_empty() {
                errors.invalid_each(&path.child("name"), text, name::dns1123_label(text));
            }
            if names.contains(&text) {
                errors.duplicate(&path.child("name"), text);
            }
            names.push(text);
            errors.one_of(&path.child("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        }
    }

    fn validate_update(new: &EndpointSlice, old: &EndpointSlice, errors: &mut FieldErrors) {
        errors.immutable(&Path::new("addressType"), &new.address_type, &old.address_type);
    }

    fn row(object: &EndpointSlice, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = object
            .ports
            .iter()
            .flatten()
            .map(|port| port.port.map_or_else(|| "*".to_owned(), |port| port.to_string()))
            .collect();
        let addresses: Vec<String> =
            object.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
        vec![
            common::name_cell(&object.metadata),
            object.address_type.clone().into(),
            shortened(&ports),
            shortened(&addresses),
            common::age(&object.metadata, now),
        ]
    }
}

/// The first few and how many more, or `<unset>`.
fn shortened(all: &[String]) -> Value {
    let shown = all.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    match all.len() {
        0 => "<unset>".into(),
        count if count > SHOWN_MAX => format!("{shown} + {} more...", count - SHOWN_MAX).into(),
        _ => shown.into(),
    }
}
