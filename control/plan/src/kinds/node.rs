//! Node: a machine, its taints and what it reports of itself.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope, Subresource};

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// See the module.
pub struct Nodes;

impl Kind for Nodes {
    type Object = Node;
    const NAMES: Names = Names { singular: "node", short: &["no"], categories: &[] };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Status", "Ready, NotReady or Unknown, and whether pods may be scheduled."),
        Column::text("Roles", "From labels node-role.kubernetes.io/*."),
        Column::AGE,
        Column::text("Version", "The kubelet's version."),
        Column::text("Internal-IP", "Address inside of the cluster.").wide(),
        Column::text("External-IP", "Address outside of the cluster.").wide(),
        Column::text("OS-Image", "Operating system.").wide(),
        Column::text("Kernel-Version", "Kernel.").wide(),
        Column::text("Container-Runtime", "Container runtime and its version.").wide(),
    ];
    const FIELDS: &'static [&'static str] = &["spec.unschedulable"];

    fn default(object: &mut Node) {
        if let Some(spec) = &mut object.spec {
            match (&spec.pod_cidr, &spec.pod_cidrs) {
                (Some(cidr), None) => spec.pod_cidrs = Some(vec![cidr.clone()]),
                (None, Some(cidrs)) => spec.pod_cidr = cidrs.first().cloned(),
                _ => {}
            }
        }
        if let Some(status) = &mut object.status
            && status.allocatable.is_none()
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_update(new: &mut Node, old: &Node) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut Node, old: &Node) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Node, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("taints");
        let mut seen = Vec::new();
        for (index, taint) in object.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).enumerate() {
            let path = path.index(index);
            errors.invalid_each(&path.child("key"), &taint.key, name::qualified(&taint.key));
            let value = taint.value.as_deref().unwrap_or("");
            errors.invalid_each(&path.child("value"), value, name::label_value(value));
            errors.one_of(&path.child("effect"), Some(&taint.effect), EFFECTS);
            let pair = (taint.key.as_str(), taint.effect.as_str());
            if seen.contains(&pair) {
                errors.duplicate(&path, format!("{{{}, {}}}", pair.0, pair.1));
            }
            seen.push(pair);
        }
    }

    fn validate_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
        let (none, path) = (NodeSpec::default(), Path::new("spec"));
        let (new, old) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
        if old.pod_cidrs.as_ref().is_some_and(|cidrs| !cidrs.is_empty()) && new.pod_cidrs != old.pod_cidrs {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&path.child("podCIDRs"), why);
        }
        if old.provider_id.is_some() && new.provider_id != old.provider_id {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&path.child("providerID"), why);
        }
    }

    fn row(object: &Node, now: Timestamp) -> Vec<Value> {
        let info = object.status.as_ref().and_then(|status| status.node_info.as_ref());
        let unknown = |text: Option<&str>| -> Value { text.filter(|t| !t.is_empty()).unwrap_or("<unknown>").into() };
        vec![
            common::name_cell(&object.metadata),
            status(object).into(),
            roles(object).into(),
            common::age(&object.metadata, now),
            info.map_or("", |info| info.kubelet_version.as_str()).into(),
            address(object, "InternalIP"),
            address(object, "ExternalIP"),
            unknown(info.map(|info| info.os_image.as_str())),
            unknown(info.map(|info| info.kernel_version.as_str())),
            unknown(info.map(|info| info.container_runtime_version.as_str())),
        ]
    }

    fn fields(object: &Node) -> Vec<String> {
        vec![unschedulable(object).to_string()]
    }
}

fn unschedulable(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

fn status(node: &Node) -> String {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let word = match ready.map(|condition| condition.status.as_str()) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    if unschedulable(node) { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(node: &Node) -> String {
    let roles: Vec<&str> = node
        .metadata
        .labels
        .iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { common::NONE.to_owned() } else { roles.join(",") }
}

fn address(node: &Node, kind: &str) -> Value {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let found = addresses.into_iter().find(|address| address.type_ == kind);
    common::or_none(found.map(|address| address.address.as_str()))
}
