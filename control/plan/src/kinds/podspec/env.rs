//! Rules for environment variables.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env`.
pub(super) fn validate(env: &[EnvVar], path: &Path, errors: &mut FieldErrors) {
    for (index, var) in env.iter().enumerate() {
        let path = path.index(index);
        if var.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_each(&path.child("name"), &var.name, name::env_name(&var.name));
        }
        if let Some(from) = &var.value_from {
            source(var, from, &path.child("valueFrom"), errors);
        }
    }
}

fn source(var: &EnvVar, from: &EnvVarSource, path: &Path, errors: &mut FieldErrors) {
    let given = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    let count = given.iter().filter(|given| **given).count();
    let has_value = var.value.as_deref().is_some_and(|value| !value.is_empty());
    match count {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if has_value => errors.invalid(path, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
    if let Some(field) = &from.field_ref {
        field_ref(field, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &from.resource_field_ref {
        let path = path.child("resourceFieldRef").child("resource");
        if resource.resource.is_empty() {
            errors.required(&path, "");
        } else if !RESOURCES.contains(&resource.resource.as_str()) && !resource.resource.contains("hugepages-") {
            errors.not_supported(&path, &resource.resource, RESOURCES);
        }
    }
    if let Some(key) = &from.config_map_key_ref {
        key_ref(&key.name, &key.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &from.secret_key_ref {
        key_ref(&key.name, &key.key, &path.child("secretKeyRef"), errors);
    }
}

fn key_ref(object: &str, key: &str, path: &Path, errors: &mut FieldErrors) {
    if object.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        errors.invalid_each(&path.child("key"), key, name::config_key(key));
    }
}

fn field_ref(field: &ObjectFieldSelector, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("fieldPath");
    if field.field_path.is_empty() {
        errors.required(&path, "");
        return;
    }
    match subscript(&field.field_path) {
        Some(("metadata.labels" | "metadata.annotations", key)) => {
            errors.invalid_each(&path, key, name::qualified(key));
        }
        Some((base, _)) => errors.invalid(&path, base, "does not support subscript"),
        None if !FIELDS.contains(&field.field_path.as_str()) => {
            errors.not_supported(&path, &field.field_path, FIELDS);
        }
        None => {}
    }
}

/// `metadata.labels['key']` as (`metadata.labels`, `key`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// `envFrom`.
pub(super) fn validate_from(from: &[EnvFromSource], path: &Path, errors: &mut FieldErrors) {
    for (index, source) in from.iter().enumerate() {
        let path = path.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            errors.invalid_each(&path.child("prefix"), prefix, name::env_name(prefix));
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            (Some(_), Some(_)) => errors.invalid(&path, "", "may not have more than one field specified at a time"),
            (Some(map), None) if map.name.is_empty() => {
                errors.required(&path.child("configMapRef").child("name"), "");
            }
            (None, Some(secret)) if secret.name.is_empty() => {
                errors.required(&path.child("secretRef").child("name"), "");
            }
            _ => {}
        }
    }
}
