//! What all pods' tasks share.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service};
use pintle_client::{Cache, Client, EventRecorder, Level, reference};
use pintle_kubelet_plan::containers::{Role, find, host_network};
use pintle_kubelet_plan::env::Facts;
use pintle_kubelet_plan::events::{Kind, field_path, kind};
use pintle_kubelet_plan::files::DnsSettings;
use pintle_kubelet_plan::refusals::Host;
use pintle_net::ipam::Ipam;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cgroup::Cgroups;
use crate::config::KubeletConfig;
use crate::images::Images;
use crate::objects::ObjectStore;
use crate::watch::Watcher;

/// What all pods' tasks share.
pub(crate) struct Context {
    pub(crate) config: KubeletConfig,
    pub(crate) client: Client,
    pub(crate) events: EventRecorder,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) objects: ObjectStore,
    pub(crate) services: Cache<Service>,
    /// `None` until the node has a pod CIDR.
    pub(crate) ipam: watch::Receiver<Option<Arc<Ipam>>>,
    pub(crate) cgroups: Cgroups,
    /// The node's part of what fields can say.
    pub(crate) facts: Facts,
    pub(crate) dns: DnsSettings,
    pub(crate) host: Host,
    pub(crate) watcher: Watcher,
    /// Ends pods' tasks with the kubelet; the pods go on.
    pub(crate) cancel: CancellationToken,
}

impl Context {
    /// What fields can say of a pod with these addresses.
    pub(crate) fn facts_of(&self, pod: &Pod, ips: &[String]) -> Facts {
        let pod_ips = if host_network(pod) { self.facts.host_ips.clone() } else { ips.to_vec() };
        Facts { pod_ips, ..self.facts.clone() }
    }

    /// Records an event about a pod, or about one of its containers.
    pub(crate) fn event(&self, pod: &Pod, container: Option<&Container>, reason: &str, message: impl Into<String>) {
        let mut about: ObjectReference = reference(pod);
        about.field_path = container.map(|c| {
            let init = find(pod, &c.name).is_some_and(|(role, _)| role != Role::Main);
            field_path(c, init)
        });
        let level = match kind(reason) {
            Kind::Normal => Level::Normal,
            Kind::Warning => Level::Warning,
        };
        self.events.record(&about, level, reason, message);
    }
}
