//! Field numbers of the messages of every kind that is served, as flat tables, one file a subject.
//!
//! Owns: the facts (generated.proto of k8s.io/api, v1.35: numbers never change, later fields are not here). `Inline`
//! marks what is a message on the wire and part of its parent in JSON; `Zero` marks numbers and switches whose zero
//! says nothing because Go sends it always.

mod apps;
mod batch;
mod cluster;
mod common;
mod containers;
mod meta;
mod node;
mod placement;
mod pod;
mod pod_status;
mod service;
mod volumes;

use super::Field;
use apps::{APPS_CONTROLLER_REVISION, APPS_DAEMON_SET, APPS_DEPLOYMENT, APPS_REPLICA_SET};
use batch::BATCH_JOB;
use cluster::{CERTIFICATES_CERTIFICATE_SIGNING_REQUEST, COORDINATION_LEASE, SCHEDULING_PRIORITY_CLASS};
use common::{CORE_CONFIG_MAP, CORE_EVENT, CORE_NAMESPACE, CORE_SECRET, CORE_SERVICE_ACCOUNT};
use node::CORE_NODE;
use pod::CORE_POD;
use service::{CORE_ENDPOINTS, CORE_SERVICE, DISCOVERY_ENDPOINT_SLICE};

/// The message of a kind; None if it is not served.
pub(super) fn of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match (api_version, kind) {
        ("v1", "ConfigMap") => CORE_CONFIG_MAP,
        ("v1", "Endpoints") => CORE_ENDPOINTS,
        ("v1", "Event") => CORE_EVENT,
        ("v1", "Namespace") => CORE_NAMESPACE,
        ("v1", "Node") => CORE_NODE,
        ("v1", "Pod") => CORE_POD,
        ("v1", "Secret") => CORE_SECRET,
        ("v1", "Service") => CORE_SERVICE,
        ("v1", "ServiceAccount") => CORE_SERVICE_ACCOUNT,
        ("apps/v1", "ControllerRevision") => APPS_CONTROLLER_REVISION,
        ("apps/v1", "DaemonSet") => APPS_DAEMON_SET,
        ("apps/v1", "Deployment") => APPS_DEPLOYMENT,
        ("apps/v1", "ReplicaSet") => APPS_REPLICA_SET,
        ("batch/v1", "Job") => BATCH_JOB,
        ("certificates.k8s.io/v1", "CertificateSigningRequest") => CERTIFICATES_CERTIFICATE_SIGNING_REQUEST,
        ("coordination.k8s.io/v1", "Lease") => COORDINATION_LEASE,
        ("discovery.k8s.io/v1", "EndpointSlice") => DISCOVERY_ENDPOINT_SLICE,
        ("scheduling.k8s.io/v1", "PriorityClass") => SCHEDULING_PRIORITY_CLASS,
        _ => return None,
    })
}
