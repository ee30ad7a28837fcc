//! The pods behind a Service, and the ports they answer on.

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{labels, meta, pods};
use crate::controllers::snapshot::{Change, Snapshot, name_of};
use crate::controllers::words::{Key, KindRef};

/// A resolved port of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// servicePort.name; empty where the Service has one unnamed port.
    pub name: String,
    /// Number in the pod.
    pub port: i32,
    /// TCP, UDP, SCTP.
    pub protocol: String,
    /// servicePort.appProtocol.
    pub app_protocol: Option<String>,
}

/// Whether this controller fills the Service's endpoints: it has a selector and is not a mere alias.
pub fn is_selected(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| {
        s.selector.as_ref().is_some_and(|x| !x.is_empty()) && s.type_.as_deref() != Some("ExternalName")
    })
}

/// Whether the Service has no virtual IP.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

/// Pods of the Service that have an address and have not ended, in order of name.
pub fn of<'a>(service: &'a Service, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Pod> {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    snapshot.list_in::<Pod>(meta::namespace(&service.metadata)).filter(move |pod| {
        selector.is_some_and(|s| labels::contains(s, pod.metadata.labels.as_ref()))
            && !pods::is_finished(pod)
            && !addresses(pod).is_empty()
    })
}

/// The pod's addresses, primary first.
pub fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if all.is_empty() { status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect() } else { all }
}

/// The Service's ports as numbers in this pod, sorted; named ports that the pod does not have are left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let wanted = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let mut ports: Vec<Port> = wanted.filter_map(|p| resolve(p, pod)).collect();
    ports.sort();
    ports
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(name)) => named(pod, name, &protocol)?,
    };
    let name = port.name.clone().unwrap_or_default();
    Some(Port { name, port: number, protocol, app_protocol: port.app_protocol.clone() })
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let in_container = |c: &Container| {
        let mut ports = c.ports.iter().flatten();
        ports
            .find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
            .map(|p| p.container_port)
    };
    spec.containers.iter().chain(sidecars).find_map(in_container)
}

/// Keys of the Services a change concerns: the Service itself, and for a pod every Service that selects or selected it.
pub fn services(change: &Change, snapshot: &Snapshot) -> Vec<Key> {
    let kind = KindRef::of::<Service>();
    if change.key.kind == kind {
        return vec![change.key.clone()];
    }
    let Some((old, new)) = change.of::<Pod>() else { return Vec::new() };
    if old.zip(new).is_some_and(|(old, new)| looks(old) == looks(new)) {
        return Vec::new();
    }
    let touched = |s: &&Service| {
        let selector = s.spec.as_ref().and_then(|x| x.selector.as_ref()).filter(|x| !x.is_empty());
        selector.is_some_and(|x| change.metas().any(|m| labels::contains(x, m.labels.as_ref())))
    };
    let namespace = meta::namespace(change.meta());
    snapshot.list_in::<Service>(namespace).filter(touched).map(|s| Key::new(kind, name_of(&s.metadata))).collect()
}

/// All of a pod that endpoints show.
fn looks(pod: &Pod) -> impl PartialEq + '_ {
    (
        (pod.metadata.labels.as_ref(), meta::uid(&pod.metadata), meta::is_deleting(&pod.metadata)),
        (pods::is_ready(pod), pods::is_finished(pod), addresses(pod), pods::node(pod)),
    )
}
