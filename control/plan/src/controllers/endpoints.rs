//! Endpoints: the older view of what EndpointSlices say, for clients that still read it.
//!
//! Owns Endpoints labelled as managed by this controller. Endpoints of Services without a selector are somebody else's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::common::{backends, claim, meta, pods};
use super::endpointslice::{HEADLESS, reference};
use super::{Change, Controller, Key, KindRef, Plan, Snapshot, View};

/// Addresses per object; more are left out, and the annotation says so.
const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const US: &str = "endpoint-controller";

/// The controller.
pub struct EndpointsMirror;

impl Controller for EndpointsMirror {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Service>(), KindRef::of::<Endpoints>(), KindRef::of::<Pod>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        if change.key.kind == KindRef::of::<Endpoints>() {
            return vec![Key::new(KindRef::of::<Service>(), change.key.name.clone())];
        }
        backends::services(change, snapshot)
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let existing = view.snapshot.get::<Endpoints>(&key.name);
        let managed = existing.filter(|e| meta::label(&e.metadata, MANAGED_BY) == Some(US));
        let Some(service) = view.snapshot.get::<Service>(&key.name) else {
            if let Some(orphan) = managed {
                plan.push(meta::delete(KindRef::of::<Endpoints>(), &orphan.metadata));
            }
            return plan;
        };
        if meta::is_deleting(&service.metadata) || !backends::is_selected(service) {
            return plan;
        }
        let wanted = endpoints(service, view.snapshot, existing);
        match existing {
            None => plan.push(claim::create(&wanted)),
            Some(old) if differs(old, &wanted) => plan.push(claim::put(&wanted)),
            Some(_) => {}
        }
        plan
    }
}

fn differs(old: &Endpoints, new: &Endpoints) -> bool {
    old.subsets.clone().unwrap_or_default() != new.subsets.clone().unwrap_or_default()
        || old.metadata.labels != new.metadata.labels
        || old.metadata.annotations != new.metadata.annotations
}

/// Ready and not ready addresses of one set of ports.
type Sides = (Vec<EndpointAddress>, Vec<EndpointAddress>);

fn endpoints(service: &Service, snapshot: &Snapshot, existing: Option<&Endpoints>) -> Endpoints {
    let unready_too = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
    let mut sets: BTreeMap<Vec<backends::Port>, Sides> = BTreeMap::new();
    let alive = |p: &&Pod| unready_too || !meta::is_deleting(&p.metadata);
    let members: Vec<&Pod> = backends::of(service, snapshot).filter(alive).collect();
    let over = members.len() > ADDRESSES_MAX;
    for pod in members.into_iter().take(ADDRESSES_MAX) {
        let ports = backends::ports(service, pod);
        let Some(address) = backends::addresses(pod).first().map(|ip| address(service, pod, ip)) else { continue };
        let sides = sets.entry(ports).or_default();
        let side = if unready_too || pods::is_ready(pod) { &mut sides.0 } else { &mut sides.1 };
        side.push(address);
    }
    let subsets: Vec<EndpointSubset> = sets.into_iter().map(|(ports, sides)| subset(&ports, sides)).collect();
    Endpoints { metadata: metadata(service, existing, over), subsets: (!subsets.is_empty()).then_some(subsets) }
}

fn metadata(service: &Service, existing: Option<&Endpoints>, over: bool) -> ObjectMeta {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let mut metadata = existing.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |e| e.metadata.clone(),
    );
    metadata.labels = Some(labels);
    if over {
        metadata.annotations.get_or_insert_default().insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    metadata
}

fn address(service: &Service, pod: &Pod, ip: &str) -> EndpointAddress {
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|s| s.subdomain.as_deref());
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: spec
            .and_then(|s| s.hostname.clone())
            .filter(|h| !h.is_empty() && subdomain == service.metadata.name.as_deref()),
        node_name: pods::node(pod).map(str::to_owned),
        target_ref: Some(reference(pod)),
    }
}

fn subset(ports: &[backends::Port], (mut ready, mut unready): Sides) -> EndpointSubset {
    ready.sort_by(|a, b| a.ip.cmp(&b.ip));
    unready.sort_by(|a, b| a.ip.cmp(&b.ip));
    let port = |p: &backends::Port| EndpointPort {
        name: Some(p.name.clone()).filter(|n| !n.is_empty()),
        port: p.port,
        protocol: Some(p.protocol.clone()),
        app_protocol: p.app_protocol.clone(),
    };
    EndpointSubset {
        addresses: (!ready.is_empty()).then_some(ready),
        not_ready_addresses: (!unready.is_empty()).then_some(unready),
        ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
    }
}
