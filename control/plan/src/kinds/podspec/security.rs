//! Rules for security contexts.

use k8s_openapi::api::core::v1::{PodSpec, SeccompProfile, SecurityContext};
use pintle_api::field::{FieldErrors, Path};

use super::ID_MAX;

const SECCOMP_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

fn id(value: Option<i64>, path: &Path, errors: &mut FieldErrors) {
    if let Some(id) = value.filter(|id| !(0..=ID_MAX).contains(id)) {
        errors.invalid(path, id, format!("must be between 0 and {ID_MAX}, inclusive"));
    }
}

/// The pod's own context and what must not be combined.
pub(super) fn validate_pod(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, why);
    }
    let Some(context) = &spec.security_context else { return };
    let path = path.child("securityContext");
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    id(context.fs_group, &path.child("fsGroup"), errors);
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &path.child("supplementalGroups").index(index), errors);
    }
    if let Some(policy) = context.fs_group_change_policy.as_deref() {
        errors.one_of(&path.child("fsGroupChangePolicy"), Some(policy), &["Always", "OnRootMismatch"]);
    }
    if let Some(policy) = context.supplemental_groups_policy.as_deref() {
        errors.one_of(&path.child("supplementalGroupsPolicy"), Some(policy), &["Merge", "Strict"]);
    }
    seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    sysctls(spec, &path.child("sysctls"), errors);
}

fn sysctls(spec: &PodSpec, path: &Path, errors: &mut FieldErrors) {
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    let mut seen = Vec::new();
    for (index, sysctl) in sysctls.enumerate() {
        let path = path.index(index).child("name");
        // Slashes and dots both separate; compare in one spelling.
        let dotted = sysctl.name.replace('/', ".");
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if sysctl.name.is_empty() {
            errors.required(&path, "");
        } else if sysctl.name.len() > 253 || !dotted.chars().all(letter) {
            errors.invalid(&path, &sysctl.name, "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$");
        } else if seen.contains(&dotted) {
            errors.duplicate(&path, &sysctl.name);
        }
        let host = |set: Option<bool>| set == Some(true);
        if host(spec.host_network) && dotted.starts_with("net.") {
            errors.invalid(&path, &sysctl.name, "may not be specified when 'hostNetwork' is true");
        }
        if host(spec.host_ipc) && (dotted.starts_with("kernel.shm") || dotted.starts_with("fs.mqueue.")) {
            errors.invalid(&path, &sysctl.name, "may not be specified when 'hostIPC' is true");
        }
        seen.push(dotted);
    }
}

/// A container's context.
pub(super) fn validate_container(context: &SecurityContext, path: &Path, errors: &mut FieldErrors) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile"), errors);
    if let Some(mount) = context.proc_mount.as_deref() {
        errors.one_of(&path.child("procMount"), Some(mount), &["Default", "Unmasked"]);
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(path, pintle_api::field::json(context), why);
        }
        let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
        if added.into_iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(path, pintle_api::field::json(context), why);
        }
    }
}

fn seccomp(profile: Option<&SeccompProfile>, path: &Path, errors: &mut FieldErrors) {
    let Some(profile) = profile else { return };
    errors.one_of(&path.child("type"), Some(&profile.type_), SECCOMP_TYPES);
    let file = profile.localhost_profile.as_deref().filter(|file| !file.is_empty());
    match (profile.type_.as_str(), file) {
        ("Localhost", None) => {
            errors.required(&path.child("localhostProfile"), "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(file)) => super::common::relative_path(file, &path.child("localhostProfile"), errors),
        (_, Some(file)) => {
            errors.invalid(&path.child("localhostProfile"), file, "can only be set when seccomp type is Localhost");
        }
        (_, None) => {}
    }
}
