//! Rules for containers: names, images, ports, mounts, resources.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EphemeralContainer, PodSpec, ResourceRequirements, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use pintle_api::pod::is_sidecar;
use pintle_api::quantity::Amount;

use super::{common, env, probes, security};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const PROPAGATIONS: &[&str] = &["None", "HostToContainer", "Bidirectional"];

/// All containers of a pod. `volumes` are the names that may be mounted.
pub(super) fn validate(spec: &PodSpec, volumes: &BTreeSet<String>, path: &Path, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    let host_network = spec.host_network == Some(true);
    if spec.containers.is_empty() {
        errors.required(&path.child("containers"), "");
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.child("containers").index(index);
        one(container, &mut names, volumes, &path, errors);
        ports(container.ports.as_deref().unwrap_or(&[]), host_network, &path.child("ports"), errors);
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.child("initContainers").index(index);
        one(container, &mut names, volumes, &path, errors);
        ports(container.ports.as_deref().unwrap_or(&[]), host_network, &path.child("ports"), errors);
        init_only(container, &path, errors);
    }
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        ephemeral(container, spec, &mut names, &path.child("ephemeralContainers").index(index), errors);
    }
    host_port_conflicts(spec, path, errors);
}

fn one(
    container: &Container,
    names: &mut BTreeSet<String>,
    volumes: &BTreeSet<String>,
    path: &Path,
    errors: &mut FieldErrors,
) {
    container_name(&container.name, names, path, errors);
    image(container.image.as_deref(), path, errors);
    errors.one_of(&path.child("imagePullPolicy"), container.image_pull_policy.as_deref(), PULL_POLICIES);
    let message_policy = container.termination_message_policy.as_deref();
    let path_policy = path.child("terminationMessagePolicy");
    errors.one_of(&path_policy, message_policy, &["File", "FallbackToLogsOnError"]);
    env::validate(container.env.as_deref().unwrap_or(&[]), &path.child("env"), errors);
    env::validate_from(container.env_from.as_deref().unwrap_or(&[]), &path.child("envFrom"), errors);
    mounts(container, volumes, &path.child("volumeMounts"), errors);
    if let Some(requirements) = &container.resources {
        resources(requirements, &path.child("resources"), errors);
    }
    probes::validate(container, path, errors);
    if let Some(context) = &container.security_context {
        security::validate_container(context, &path.child("securityContext"), errors);
    }
}

fn container_name(text: &str, names: &mut BTreeSet<String>, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("name");
    if text.is_empty() {
        errors.required(&path, "");
        return;
    }
    errors.invalid_each(&path, text, name::dns1123_label(text));
    if !names.insert(text.to_owned()) {
        errors.duplicate(&path, text);
    }
}

fn image(image: Option<&str>, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("image");
    match image {
        None | Some("") => errors.required(&path, ""),
        Some(text) if text.trim() != text => {
            errors.invalid(&path, text, "must not have leading or trailing whitespace");
        }
        Some(_) => {}
    }
}

/// What only containers that keep running may have.
fn init_only(container: &Container, path: &Path, errors: &mut FieldErrors) {
    if let Some(policy) = container.restart_policy.as_deref() {
        errors.one_of(&path.child("restartPolicy"), Some(policy), super::RESTART_POLICIES);
    }
    if is_sidecar(container) {
        return;
    }
    for (field, set) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if set {
            errors.forbidden(&path.child(field), "may not be set for init containers without restartPolicy=Always");
        }
    }
}

fn ephemeral(
    container: &EphemeralContainer,
    spec: &PodSpec,
    names: &mut BTreeSet<String>,
    path: &Path,
    errors: &mut FieldErrors,
) {
    container_name(&container.name, names, path, errors);
    image(container.image.as_deref(), path, errors);
    let target = container.target_container_name.as_deref().filter(|target| !target.is_empty());
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if let Some(target) = target
        && !all.any(|other| other.name == target)
    {
        errors.not_found(&path.child("targetContainerName"), target);
    }
    for (field, set) in [
        ("ports", container.ports.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
        ("resources", container.resources.as_ref().is_some_and(|r| *r != ResourceRequirements::default())),
    ] {
        if set {
            errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
        }
    }
}

fn ports(ports: &[ContainerPort], host_network: bool, path: &Path, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(text) = port.name.as_deref().filter(|text| !text.is_empty()) {
            let messages = name::port_name(text);
            if messages.is_empty() && !names.insert(text) {
                errors.duplicate(&path.child("name"), text);
            }
            errors.invalid_each(&path.child("name"), text, messages);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            port_range(port.container_port, &path.child("containerPort"), errors);
        }
        if let Some(host_port) = port.host_port.filter(|host_port| *host_port != 0) {
            port_range(host_port, &path.child("hostPort"), errors);
            if host_network && host_port != port.container_port {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&path.child("hostPort"), host_port, why);
            }
        }
        errors.one_of(&path.child("protocol"), port.protocol.as_deref(), PROTOCOLS);
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
            errors.invalid_each(&path.child("hostIP"), ip, name::ip(ip));
        }
    }
}

/// A port number in range.
pub(super) fn port_range(port: i32, path: &Path, errors: &mut FieldErrors) {
    for message in name::port_number(port) {
        errors.invalid(path, port, message);
    }
}

fn host_port_conflicts(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let mut taken = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = path.child("containers").index(index).child("ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let Some(host_port) = port.host_port.filter(|host_port| *host_port != 0) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let key = format!("{protocol}/{}/{host_port}", port.host_ip.as_deref().unwrap_or(""));
            if !taken.insert(key.clone()) {
                errors.duplicate(&path.index(index).child("hostPort"), key);
            }
        }
    }
}

fn mounts(container: &Container, volumes: &BTreeSet<String>, path: &Path, errors: &mut FieldErrors) {
    let privileged = container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
    let mut paths = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !volumes.contains(&mount.name) {
            errors.not_found(&path.child("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        } else if !paths.insert(mount.mount_path.as_str()) {
            errors.invalid(&path.child("mountPath"), &mount.mount_path, "must be unique");
        }
        sub_paths(mount, &path, errors);
        if let Some(mode) = mount.mount_propagation.as_deref() {
            errors.one_of(&path.child("mountPropagation"), Some(mode), PROPAGATIONS);
            if mode == "Bidirectional" && !privileged {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(&path.child("mountPropagation"), why);
            }
        }
    }
}

fn sub_paths(mount: &VolumeMount, path: &Path, errors: &mut FieldErrors) {
    let (plain, expression) = (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref());
    let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    if given(plain) && given(expression) {
        errors.invalid(
            &path.child("subPathExpr"),
            expression.unwrap_or(""),
            "subPathExpr and subPath are mutually exclusive",
        );
    }
    for (field, text) in [("subPath", plain), ("subPathExpr", expression)] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            common::relative_path(text, &path.child(field), errors);
        }
    }
}

/// Requests and limits.
pub(super) fn resources(resources: &ResourceRequirements, path: &Path, errors: &mut FieldErrors) {
    common::resource_list(resources.limits.as_ref(), &path.child("limits"), errors);
    common::resource_list(resources.requests.as_ref(), &path.child("requests"), errors);
    let empty = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    for (resource, request) in resources.requests.iter().flatten() {
        if let Some(limit) = limits.get(resource) {
            request_within(resource, request, limit, &path.child("requests"), errors);
        }
    }
}

fn request_within(resource: &str, request: &Quantity, limit: &Quantity, path: &Path, errors: &mut FieldErrors) {
    let (Ok(asked), Ok(most)) = (Amount::of(request), Amount::of(limit)) else { return };
    if common::is_extended_resource(resource) && asked != most {
        errors.invalid(path, &request.0, format!("must be equal to {resource} limit of {most}"));
    } else if asked > most {
        errors.invalid(path, &request.0, format!("must be less than or equal to {resource} limit of {most}"));
    }
}
