//! What Kubernetes fills into a pod spec.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, ObjectFieldSelector, PodSpec,
    Probe, ResourceRequirements, Volume,
};

use pintle_api::quantity::Amount;

/// Mode of files from Secrets, ConfigMaps, downward API and projections.
const FILE_MODE: i32 = 0o644;
/// Life of a projected service account token.
const TOKEN_EXPIRATION_S: i64 = 3600;

fn set<T>(field: &mut Option<T>, value: T) {
    if field.is_none() {
        *field = Some(value);
    }
}

fn set_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// Defaults of a pod spec, for pods and templates alike.
pub(crate) fn fill(spec: &mut PodSpec) {
    set_text(&mut spec.dns_policy, "ClusterFirst");
    set_text(&mut spec.restart_policy, "Always");
    set_text(&mut spec.scheduler_name, "default-scheduler");
    set(&mut spec.termination_grace_period_seconds, 30);
    set(&mut spec.security_context, Default::default());
    // The old and the new name of the field mirror each other.
    if spec.service_account_name.as_deref().is_none_or(str::is_empty) {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    spec.service_account.clone_from(&spec.service_account_name);
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        fill_container(container, host_network);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        fill_ephemeral(container);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        fill_volume(volume);
    }
}

/// Requests that were left out take the limits' amounts. Pods only: a template keeps what its author wrote.
pub(crate) fn fill_requests(spec: &mut PodSpec) {
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for resources in containers.filter_map(|container| container.resources.as_mut()) {
        requests_from_limits(resources);
    }
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    for (name, limit) in resources.limits.iter().flatten() {
        resources.requests.get_or_insert_default().entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// Amounts are kept in canonical form (`0.5` as `500m`). Unreadable ones stay for validation to refuse.
fn canonical(resources: &mut ResourceRequirements) {
    let maps = [&mut resources.requests, &mut resources.limits];
    for quantity in maps.into_iter().flatten().flat_map(|map| map.values_mut()) {
        if let Ok(amount) = Amount::of(quantity) {
            *quantity = amount.to_quantity();
        }
    }
}

fn fill_container(container: &mut Container, host_network: bool) {
    container.resources.iter_mut().for_each(canonical);
    fill_image(&mut container.image_pull_policy, container.image.as_deref());
    fill_termination(&mut container.termination_message_path, &mut container.termination_message_policy);
    fill_ports(container.ports.as_deref_mut().unwrap_or(&mut []), host_network);
    fill_env(container.env.as_deref_mut().unwrap_or(&mut []));
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(fill_probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        fill_lifecycle(lifecycle);
    }
}

fn fill_ephemeral(container: &mut EphemeralContainer) {
    fill_image(&mut container.image_pull_policy, container.image.as_deref());
    fill_termination(&mut container.termination_message_path, &mut container.termination_message_policy);
    fill_env(container.env.as_deref_mut().unwrap_or(&mut []));
}

fn fill_image(policy: &mut Option<String>, image: Option<&str>) {
    set_text(policy, if is_latest(image.unwrap_or("")) { "Always" } else { "IfNotPresent" });
}

/// Whether an image reference means `latest`: neither digest nor another tag.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn fill_termination(path: &mut Option<String>, policy: &mut Option<String>) {
    set_text(path, "/dev/termination-log");
    set_text(policy, "File");
}

fn fill_ports(ports: &mut [ContainerPort], host_network: bool) {
    for port in ports {
        set_text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

fn fill_env(env: &mut [EnvVar]) {
    for source in env.iter_mut().filter_map(|var| var.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            fill_field_ref(field);
        }
    }
}

fn fill_field_ref(field: &mut ObjectFieldSelector) {
    set_text(&mut field.api_version, "v1");
}

fn fill_probe(probe: &mut Probe) {
    // Zero means unset in upstream's structures, so it takes the default as well.
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.unwrap_or(0) == 0 {
            *field = Some(value);
        }
    }
    if let Some(http) = &mut probe.http_get {
        fill_http(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        set(&mut grpc.service, String::new());
    }
}

fn fill_http(http: &mut HTTPGetAction) {
    set_text(&mut http.path, "/");
    set_text(&mut http.scheme, "HTTP");
}

fn fill_lifecycle(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        if let Some(http) = &mut handler.http_get {
            fill_http(http);
        }
    }
}

fn fill_volume(volume: &mut Volume) {
    let unset = Volume { name: volume.name.clone(), ..Volume::default() };
    if *volume == unset {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(secret) = &mut volume.secret {
        set(&mut secret.default_mode, FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        set(&mut config_map.default_mode, FILE_MODE);
    }
    if let Some(host_path) = &mut volume.host_path {
        set(&mut host_path.type_, String::new());
    }
    if let Some(image) = &mut volume.image {
        let reference = image.reference.clone();
        fill_image(&mut image.pull_policy, reference.as_deref());
    }
    if let Some(downward) = &mut volume.downward_api {
        set(&mut downward.default_mode, FILE_MODE);
        for item in downward.items.iter_mut().flatten() {
            item.field_ref.iter_mut().for_each(fill_field_ref);
        }
    }
    if let Some(projected) = &mut volume.projected {
        set(&mut projected.default_mode, FILE_MODE);
        for source in projected.sources.iter_mut().flatten() {
            if let Some(token) = &mut source.service_account_token {
                set(&mut token.expiration_seconds, TOKEN_EXPIRATION_S);
            }
            let items = source.downward_api.iter_mut().flat_map(|downward| downward.items.iter_mut().flatten());
            items.filter_map(|item| item.field_ref.as_mut()).for_each(fill_field_ref);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_become_canonical_and_nonsense_stays() {
        let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
        let limits = [("cpu", "0.5"), ("memory", "1024Mi"), ("x/y", "?")].map(|(k, v)| (k.to_owned(), quantity(v)));
        let mut resources = ResourceRequirements { limits: Some(limits.into()), ..ResourceRequirements::default() };
        canonical(&mut resources);
        let shown: Vec<String> = resources.limits.into_iter().flatten().map(|(_, quantity)| quantity.0).collect();
        assert_eq!(shown, ["500m", "1Gi", "?"]);
    }

    #[test]
    fn only_images_without_tag_or_digest_are_latest() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("host:5000/nginx", true),
            ("host:5000/nginx:1", false),
            ("nginx@sha256:abc", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
