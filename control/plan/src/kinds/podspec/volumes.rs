//! Rules for volumes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, Volume};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use pintle_api::quantity::Amount;

use super::common;

const HOST_PATH_TYPES: &[&str] =
    &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// All volumes; answers the names that containers may mount.
pub(super) fn validate(volumes: &[Volume], path: &Path, errors: &mut FieldErrors) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        if volume.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.invalid_each(&path.child("name"), &volume.name, name::dns1123_label(&volume.name));
        }
        if !names.insert(volume.name.clone()) {
            errors.duplicate(&path.child("name"), &volume.name);
        }
        match source_count(volume) {
            0 => errors.required(&path, "must specify a volume type"),
            1 => {}
            _ => errors.forbidden(&path, "may not specify more than 1 volume type"),
        }
        files(volume, &path, errors);
        places(volume, &path, errors);
        if let Some(projected) = &volume.projected {
            projection(projected, &path.child("projected"), errors);
        }
    }
    names
}

/// The encoding has one key per source beside the name; counting them covers all thirty types.
fn source_count(volume: &Volume) -> usize {
    pintle_api::field::json(volume).as_object().map_or(0, |object| object.len() - 1)
}

fn mode(mode: Option<i32>, path: &Path, errors: &mut FieldErrors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn items(items: Option<&Vec<KeyToPath>>, path: &Path, errors: &mut FieldErrors) {
    for (index, item) in items.into_iter().flatten().enumerate() {
        let path = path.child("items").index(index);
        if item.key.is_empty() {
            errors.required(&path.child("key"), "");
        }
        if item.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            common::relative_path(&item.path, &path.child("path"), errors);
        }
        mode(item.mode, &path.child("mode"), errors);
    }
}

/// Volumes made of files: Secrets, ConfigMaps, the downward API.
fn files(volume: &Volume, path: &Path, errors: &mut FieldErrors) {
    if let Some(secret) = &volume.secret {
        let path = path.child("secret");
        if secret.secret_name.as_deref().is_none_or(str::is_empty) {
            errors.required(&path.child("secretName"), "");
        }
        mode(secret.default_mode, &path.child("defaultMode"), errors);
        items(secret.items.as_ref(), &path, errors);
    }
    if let Some(config_map) = &volume.config_map {
        let path = path.child("configMap");
        if config_map.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        mode(config_map.default_mode, &path.child("defaultMode"), errors);
        items(config_map.items.as_ref(), &path, errors);
    }
    if let Some(downward) = &volume.downward_api {
        let path = path.child("downwardAPI");
        mode(downward.default_mode, &path.child("defaultMode"), errors);
        downward_items(downward.items.as_ref(), &path, errors);
    }
}

fn downward_items(items: Option<&Vec<DownwardAPIVolumeFile>>, path: &Path, errors: &mut FieldErrors) {
    for (index, item) in items.into_iter().flatten().enumerate() {
        let path = path.child("items").index(index);
        if item.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            common::relative_path(&item.path, &path.child("path"), errors);
        }
        match (&item.field_ref, &item.resource_field_ref) {
            (None, None) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
            (Some(_), Some(_)) => {
                errors.invalid(&path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
            (None, Some(resource)) if resource.container_name.as_deref().is_none_or(str::is_empty) => {
                errors.required(&path.child("resourceFieldRef").child("containerName"), "");
            }
            _ => {}
        }
        mode(item.mode, &path.child("mode"), errors);
    }
}

/// Volumes that are somewhere else: paths, claims, servers, memory.
fn places(volume: &Volume, path: &Path, errors: &mut FieldErrors) {
    if let Some(host) = &volume.host_path {
        let path = path.child("hostPath");
        if host.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else if host.path.split('/').any(|step| step == "..") {
            errors.invalid(&path.child("path"), &host.path, "must not contain '..'");
        }
        let kind = host.type_.as_deref().unwrap_or("");
        if !HOST_PATH_TYPES.contains(&kind) {
            errors.not_supported(&path.child("type"), kind, HOST_PATH_TYPES);
        }
    }
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref()) {
        let path = path.child("emptyDir").child("sizeLimit");
        match Amount::of(limit) {
            Ok(amount) if amount.is_negative() => {
                errors.forbidden(&path, "SizeLimit field must be a valid resource quantity");
            }
            Ok(_) => {}
            Err(error) => errors.invalid(&path, &limit.0, error.to_string()),
        }
    }
    if let Some(claim) = &volume.persistent_volume_claim
        && claim.claim_name.is_empty()
    {
        errors.required(&path.child("persistentVolumeClaim").child("claimName"), "");
    }
    if let Some(nfs) = &volume.nfs {
        let path = path.child("nfs");
        if nfs.server.is_empty() {
            errors.required(&path.child("server"), "");
        }
        if nfs.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else if !nfs.path.starts_with('/') {
            errors.invalid(&path.child("path"), &nfs.path, "must be an absolute path");
        }
    }
    if let Some(image) = &volume.image
        && image.reference.as_deref().is_none_or(str::is_empty)
    {
        errors.required(&path.child("image").child("reference"), "");
    }
}

fn projection(projected: &ProjectedVolumeSource, path: &Path, errors: &mut FieldErrors) {
    mode(projected.default_mode, &path.child("defaultMode"), errors);
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let path = path.child("sources").index(index);
        let count = pintle_api::field::json(source).as_object().map_or(0, serde_json::Map::len);
        if count > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type per source");
        }
        if let Some(secret) = &source.secret {
            if secret.name.is_empty() {
                errors.required(&path.child("secret").child("name"), "");
            }
            items(secret.items.as_ref(), &path.child("secret"), errors);
        }
        if let Some(map) = &source.config_map {
            if map.name.is_empty() {
                errors.required(&path.child("configMap").child("name"), "");
            }
            items(map.items.as_ref(), &path.child("configMap"), errors);
        }
        if let Some(downward) = &source.downward_api {
            downward_items(downward.items.as_ref(), &path.child("downwardAPI"), errors);
        }
        if let Some(token) = &source.service_account_token {
            let path = path.child("serviceAccountToken");
            if token.path.is_empty() {
                errors.required(&path.child("path"), "");
            } else {
                common::relative_path(&token.path, &path.child("path"), errors);
            }
            let expiration_s = token.expiration_seconds.unwrap_or(3600);
            if expiration_s < 600 {
                let why = "may not specify a duration less than 10 minutes";
                errors.invalid(&path.child("expirationSeconds"), expiration_s, why);
            }
        }
    }
}
