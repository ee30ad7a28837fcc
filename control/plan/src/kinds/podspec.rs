//! PodSpec, which pods and all workloads share: defaults and rules.
//!
//! Owns: the entry points and the spec's own fields; the parts are in the modules below. Does not own: what only pods
//! have (status, updates), admission (service accounts, priorities, default tolerations).

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::{metadata, name};

use super::common;

mod containers;
mod defaults;
mod env;
mod placement;
mod probes;
mod security;
mod volumes;

pub(crate) use defaults::{fill as default, fill_requests as default_requests};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
/// Largest user or group id, and largest activeDeadlineSeconds.
const ID_MAX: i64 = 2_147_483_647;

/// Defaults of a pod template.
pub(crate) fn default_template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        default(spec);
    }
}

/// Rules for a workload's template. `restart_policies` are those the workload allows.
pub(crate) fn validate_template(
    template: &PodTemplateSpec,
    path: &Path,
    restart_policies: &[&str],
    errors: &mut FieldErrors,
) {
    let meta = path.child("metadata");
    if let Some(metadata) = &template.metadata {
        metadata::labels(metadata.labels.iter().flatten(), &meta.child("labels"), errors);
        metadata::annotations(metadata.annotations.iter().flatten(), &meta.child("annotations"), errors);
    }
    let path = path.child("spec");
    let Some(spec) = &template.spec else {
        errors.required(&path.child("containers"), "");
        return;
    };
    validate(spec, &path, errors);
    let policy = spec.restart_policy.as_deref().unwrap_or("");
    if RESTART_POLICIES.contains(&policy) && !restart_policies.contains(&policy) {
        errors.not_supported(&path.child("restartPolicy"), policy, restart_policies);
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.forbidden(&path.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
    if spec.active_deadline_seconds.is_some() && restart_policies == ["Always"] {
        errors
            .forbidden(&path.child("activeDeadlineSeconds"), "activeDeadlineSeconds in pod template is not supported");
    }
}

/// Rules for any pod spec.
pub(crate) fn validate(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let volumes = volumes::validate(spec.volumes.as_deref().unwrap_or(&[]), &path.child("volumes"), errors);
    containers::validate(spec, &volumes, path, errors);
    policies(spec, path, errors);
    names(spec, path, errors);
    security::validate_pod(spec, path, errors);
    placement::validate(spec, path, errors);
    dns(spec, path, errors);
    host_aliases(spec, path, errors);
    gates(spec, path, errors);
    common::resource_list(spec.overhead.as_ref(), &path.child("overhead"), errors);
    if let Some(resources) = &spec.resources {
        containers::resources(resources, &path.child("resources"), errors);
    }
}

fn policies(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    errors.one_of(&path.child("restartPolicy"), spec.restart_policy.as_deref(), RESTART_POLICIES);
    errors.one_of(&path.child("dnsPolicy"), spec.dns_policy.as_deref(), DNS_POLICIES);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=ID_MAX).contains(&seconds)
    {
        let path = path.child("activeDeadlineSeconds");
        errors.invalid(&path, seconds, format!("must be between 1 and {ID_MAX}, inclusive"));
    }
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|seconds| *seconds < 0) {
        errors.non_negative(&path.child("terminationGracePeriodSeconds"), seconds);
    }
    if let Some(os) = &spec.os {
        errors.one_of(&path.child("os").child("name"), Some(&os.name), &["linux", "windows"]);
    }
    if let Some(policy) = &spec.preemption_policy {
        errors.one_of(&path.child("preemptionPolicy"), Some(policy), &["PreemptLowerPriority", "Never"]);
    }
}

fn names(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    type Rule = fn(&str) -> Vec<String>;
    let fields: [(&str, Option<&str>, Rule); 7] = [
        ("serviceAccountName", spec.service_account_name.as_deref(), name::dns1123_subdomain),
        ("nodeName", spec.node_name.as_deref(), name::dns1123_subdomain),
        ("hostname", spec.hostname.as_deref(), name::dns1123_label),
        ("subdomain", spec.subdomain.as_deref(), name::dns1123_label),
        ("priorityClassName", spec.priority_class_name.as_deref(), name::dns1123_subdomain),
        ("runtimeClassName", spec.runtime_class_name.as_deref(), name::dns1123_subdomain),
        ("schedulerName", spec.scheduler_name.as_deref(), name::dns1123_subdomain),
    ];
    for (field, value, rule) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            errors.invalid_each(&path.child(field), value, rule(value));
        }
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            errors.required(&path.child("imagePullSecrets").index(index).child("name"), "");
        }
    }
    metadata::labels(spec.node_selector.iter().flatten(), &path.child("nodeSelector"), errors);
}

fn dns(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("dnsConfig");
    let servers = spec.dns_config.iter().flat_map(|config| config.nameservers.iter().flatten());
    let count = servers.clone().count();
    if spec.dns_policy.as_deref() == Some("None") && count == 0 {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        let path = if spec.dns_config.is_some() { path.child("nameservers") } else { path.clone() };
        errors.required(&path, why);
    }
    if count > 3 {
        errors.invalid(&path.child("nameservers"), count, "must not have more than 3 nameservers");
    }
    for (index, server) in servers.enumerate() {
        errors.invalid_each(&path.child("nameservers").index(index), server, name::ip(server));
    }
    let searches = spec.dns_config.iter().flat_map(|config| config.searches.iter().flatten());
    for (index, search) in searches.enumerate() {
        let bare = search.trim_end_matches('.');
        if !bare.is_empty() {
            let underscores = bare.replace('_', "-");
            let messages = name::dns1123_subdomain(&underscores);
            errors.invalid_each(&path.child("searches").index(index), search, messages);
        }
    }
    let options = spec.dns_config.iter().flat_map(|config| config.options.iter().flatten());
    for (index, option) in options.enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn host_aliases(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(index);
        errors.invalid_each(&path.child("ip"), &alias.ip, name::ip(&alias.ip));
        for (index, host) in alias.hostnames.iter().flatten().enumerate() {
            errors.invalid_each(&path.child("hostnames").index(index), host, name::dns1123_subdomain(host));
        }
    }
}

fn gates(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        errors.invalid_each(&path, &gate.condition_type, name::qualified(&gate.condition_type));
    }
    let mut seen = Vec::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let path = path.child("schedulingGates").index(index);
        errors.invalid_each(&path, &gate.name, name::qualified(&gate.name));
        if seen.contains(&&gate.name) {
            errors.duplicate(&path, &gate.name);
        }
        seen.push(&gate.name);
    }
}

#[cfg(test)]
mod tests;
