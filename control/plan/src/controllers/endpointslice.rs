//! EndpointSlice: the addresses behind each Service that has a selector.
//!
//! Owns slices labelled as managed by this controller. Slices of others, and Services without a selector, are not
//! touched; slices of a deleted Service are the garbage collector's (they are owned by it).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::common::{backends, claim, meta, pods};
use super::{Change, Controller, Key, KindRef, Name, Plan, Snapshot, View};

/// Endpoints per slice.
const SLICE_MAX: usize = 100;
/// Which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who writes a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
/// Marks objects of headless Services.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The controller.
pub struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpoint-slice-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Service>(), KindRef::of::<EndpointSlice>(), KindRef::of::<Pod>(), KindRef::of::<Node>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let service = KindRef::of::<Service>();
        if let Some((_, _)) = change.of::<EndpointSlice>() {
            let meta = change.meta();
            let name = meta::label(meta, SERVICE_NAME).filter(|_| meta::label(meta, MANAGED_BY) == Some(US));
            return name.map(|n| Key::new(service, Name::new(meta::namespace(meta), n))).into_iter().collect();
        }
        if let Some((old, new)) = change.of::<Node>() {
            let zone = |n: Option<&Node>| n.and_then(|n| meta::label(&n.metadata, ZONE).map(str::to_owned));
            return if zone(old) == zone(new) { Vec::new() } else { snapshot.keys(service).collect() };
        }
        backends::services(change, snapshot)
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(service) = view.snapshot.get::<Service>(&key.name) else { return plan };
        if meta::is_deleting(&service.metadata) || !backends::is_selected(service) {
            return plan;
        }
        let mut groups = wanted(service, view.snapshot);
        let existing: Vec<&EndpointSlice> = ours(service, view.snapshot);
        for slice in &existing {
            groups.entry(Group::of(slice)).or_default();
        }
        // One empty slice says that the Service is known and has nothing; slices of unused groups go.
        let keep = placeholder(service, &groups);
        if let Some(group) = &keep {
            groups.entry(group.clone()).or_default();
        }
        for (group, endpoints) in groups {
            let slices = existing.iter().copied().filter(|s| Group::of(s) == group).collect();
            fill(service, &group, endpoints, slices, keep.as_ref() == Some(&group), &mut plan);
        }
        plan
    }
}

/// Slices are split by address family and by the set of ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    address_type: String,
    ports: Vec<backends::Port>,
}

impl Group {
    fn of(slice: &EndpointSlice) -> Group {
        let mut ports: Vec<_> = slice.ports.iter().flatten().map(port_of).collect();
        ports.sort();
        Group { address_type: slice.address_type.clone(), ports }
    }
    fn endpoint_ports(&self) -> Vec<EndpointPort> {
        let port = |p: &backends::Port| EndpointPort {
            name: Some(p.name.clone()),
            port: Some(p.port),
            protocol: Some(p.protocol.clone()),
            app_protocol: p.app_protocol.clone(),
        };
        self.ports.iter().map(port).collect()
    }
}

fn port_of(p: &EndpointPort) -> backends::Port {
    backends::Port {
        name: p.name.clone().unwrap_or_default(),
        port: p.port.unwrap_or(0),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: p.app_protocol.clone(),
    }
}

fn families(service: &Service) -> Vec<&str> {
    let families: Vec<&str> =
        service.spec.iter().flat_map(|s| s.ip_families.iter().flatten()).map(String::as_str).collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

fn is_of(address: &str, family: &str) -> bool {
    address.contains(':') == (family == "IPv6")
}

/// The endpoints the Service should have, by group, keyed by pod uid.
fn wanted(service: &Service, snapshot: &Snapshot) -> BTreeMap<Group, BTreeMap<String, Endpoint>> {
    let mut groups: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for pod in backends::of(service, snapshot) {
        for family in families(service) {
            let Some(address) = backends::addresses(pod).into_iter().find(|a| is_of(a, family)) else { continue };
            let group = Group { address_type: family.to_owned(), ports: backends::ports(service, pod) };
            let endpoint = endpoint(service, pod, address, snapshot);
            groups.entry(group).or_default().insert(meta::uid(&pod.metadata).to_owned(), endpoint);
        }
    }
    groups
}

fn endpoint(service: &Service, pod: &Pod, address: &str, snapshot: &Snapshot) -> Endpoint {
    let unready_too = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
    let (serving, terminating) = (pods::is_ready(pod), meta::is_deleting(&pod.metadata));
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|s| s.subdomain.as_deref());
    let node = pods::node(pod);
    let zone = node.and_then(|n| snapshot.get::<Node>(&Name::new("", n)));
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(unready_too || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec
            .and_then(|s| s.hostname.clone())
            .filter(|h| !h.is_empty() && subdomain == service.metadata.name.as_deref()),
        node_name: node.map(str::to_owned),
        target_ref: Some(reference(pod)),
        zone: zone.and_then(|n| meta::label(&n.metadata, ZONE)).map(str::to_owned),
        ..Endpoint::default()
    }
}

/// A reference to a pod, as endpoints carry it.
pub(super) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn ours<'a>(service: &Service, snapshot: &'a Snapshot) -> Vec<&'a EndpointSlice> {
    snapshot
        .owned::<EndpointSlice>(meta::uid(&service.metadata))
        .filter(|s| {
            meta::label(&s.metadata, MANAGED_BY) == Some(US)
                && meta::label(&s.metadata, SERVICE_NAME) == service.metadata.name.as_deref()
                && !meta::is_deleting(&s.metadata)
        })
        .collect()
}

/// The group that keeps one slice although nothing is in it: the one that exists, else one without ports.
fn placeholder(service: &Service, groups: &BTreeMap<Group, BTreeMap<String, Endpoint>>) -> Option<Group> {
    if groups.values().any(|g| !g.is_empty()) {
        return None;
    }
    groups.keys().next().cloned().or_else(|| {
        let family = families(service).first().copied().unwrap_or("IPv4").to_owned();
        Some(Group { address_type: family, ports: Vec::new() })
    })
}

/// Brings the slices of one group to hold exactly `endpoints`: those in place stay in place, the rest fills the
/// fullest slices first, and what is left over gets new slices.
fn fill(
    service: &Service,
    group: &Group,
    mut endpoints: BTreeMap<String, Endpoint>,
    slices: Vec<&EndpointSlice>,
    keep: bool,
    plan: &mut Plan,
) {
    let mut seen = BTreeSet::new();
    let mut contents: Vec<(&EndpointSlice, Vec<Endpoint>)> = slices
        .into_iter()
        .map(|slice| {
            let uids = slice.endpoints.iter().flatten().filter_map(|e| e.target_ref.as_ref()?.uid.clone());
            let kept = uids.filter(|uid| seen.insert(uid.clone())).filter_map(|uid| endpoints.remove(&uid)).collect();
            (slice, kept)
        })
        .collect();
    contents.sort_by_key(|(slice, kept)| (std::cmp::Reverse(kept.len()), slice.metadata.name.clone()));
    let mut rest = endpoints.into_values();
    for (_, kept) in &mut contents {
        let room = SLICE_MAX.saturating_sub(kept.len());
        kept.extend(rest.by_ref().take(room));
    }
    let mut keep = keep;
    for (slice, kept) in contents {
        if kept.is_empty() && !keep {
            plan.push(meta::delete(KindRef::of::<EndpointSlice>(), &slice.metadata));
            continue;
        }
        keep = false;
        let wanted = slice_of(service, group, kept, slice.metadata.clone());
        if differs(slice, &wanted) {
            plan.push(claim::put(&wanted));
        }
    }
    let rest: Vec<Endpoint> = rest.collect();
    let create = |endpoints: &[Endpoint]| claim::create(&slice_of(service, group, endpoints.to_vec(), fresh(service)));
    if rest.is_empty() && keep {
        plan.push(create(&[]));
    }
    rest.chunks(SLICE_MAX).for_each(|chunk| plan.push(create(chunk)));
}

/// Whether a slice must be written; absent and empty lists are the same to a reader.
fn differs(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    let endpoints = |s: &EndpointSlice| s.endpoints.clone().unwrap_or_default();
    endpoints(old) != endpoints(new) || old.metadata.labels != new.metadata.labels
}

fn fresh(service: &Service) -> ObjectMeta {
    ObjectMeta {
        generate_name: Some(format!("{}-", meta::name(&service.metadata))),
        namespace: service.metadata.namespace.clone(),
        owner_references: Some(vec![meta::controlled_by(service)]),
        ..ObjectMeta::default()
    }
}

fn slice_of(service: &Service, group: &Group, endpoints: Vec<Endpoint>, mut metadata: ObjectMeta) -> EndpointSlice {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), meta::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    metadata.labels = Some(labels);
    EndpointSlice {
        metadata,
        address_type: group.address_type.clone(),
        endpoints: Some(endpoints),
        ports: Some(group.endpoint_ports()),
    }
}
