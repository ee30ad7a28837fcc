//! Security contexts as OCI words: users, capabilities, no_new_privs, seccomp, masked paths.
//!
//! Owns: how pod-level and container-level contexts combine. Does not own: their enforcement.

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext,
};
use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxSeccomp};

use crate::containers::{name, namespace, spec, uid};
use crate::env::ConfigError;
use crate::seccomp;
use crate::users::{Identity, resolve};

/// What containerd and Docker give a container that asks for nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// capabilities(7) of Linux 6.18.
const ALL_CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Whether the container runs privileged.
pub fn privileged(container: &Container) -> bool {
    own(container).and_then(|s| s.privileged).unwrap_or(false)
}

/// Whether the container's processes may never gain privileges.
pub fn no_new_privileges(container: &Container) -> bool {
    own(container).and_then(|s| s.allow_privilege_escalation) == Some(false)
}

/// Whether the root file system is read-only.
pub fn read_only_root(container: &Container) -> bool {
    own(container).and_then(|s| s.read_only_root_filesystem).unwrap_or(false)
}

/// Paths of /proc and /sys that are hidden and that are read-only.
pub fn proc_paths(container: &Container) -> (Vec<String>, Vec<String>) {
    let unmasked = own(container).and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    if unmasked || privileged(container) {
        return (Vec::new(), Vec::new());
    }
    (MASKED.map(str::to_owned).to_vec(), READ_ONLY.map(str::to_owned).to_vec())
}

/// The names, without `CAP_`, of the capabilities the container holds.
pub fn capability_names(container: &Container) -> BTreeSet<String> {
    let all = || ALL_CAPABILITIES.iter().map(|c| (*c).to_owned());
    if privileged(container) {
        return all().collect();
    }
    let mut held: BTreeSet<String> = DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    let Some(change) = own(container).and_then(|s| s.capabilities.as_ref()) else { return held };
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|c| c.to_uppercase().trim_start_matches("CAP_").to_owned()).collect()
    };
    let (add, drop) = (words(&change.add), words(&change.drop));
    let every = |list: &[String]| list.iter().any(|c| c == "ALL");
    if every(&add) {
        held.extend(all());
    }
    if every(&drop) {
        held.clear();
    }
    held.extend(add.into_iter().filter(|c| c != "ALL"));
    held.retain(|c| !drop.contains(c));
    held
}

/// The OCI capability sets; nothing inheritable, so that execve of a non-root process drops them.
pub fn capabilities(names: &BTreeSet<String>) -> Result<LinuxCapabilities, ConfigError> {
    let read = |name: &String| {
        let word = serde_json::Value::String(format!("CAP_{name}"));
        serde_json::from_value::<Capability>(word)
            .map_err(|_| ConfigError::Unsupported { what: format!("capability \"{name}\"") })
    };
    let set = names.iter().map(read).collect::<Result<std::collections::HashSet<_>, _>>()?;
    let mut out = LinuxCapabilities::default();
    out.set_bounding(Some(set.clone())).set_effective(Some(set.clone())).set_permitted(Some(set));
    out.set_inheritable(None).set_ambient(None);
    Ok(out)
}

/// The path of a `Localhost` seccomp profile below the kubelet's seccomp directory.
pub fn localhost_seccomp(pod: &Pod, container: &Container) -> Option<String> {
    let profile = seccomp_profile(pod, container)?;
    (profile.type_ == "Localhost").then(|| profile.localhost_profile.clone().unwrap_or_default())
}

/// The seccomp filter; `localhost` is the profile read for [`localhost_seccomp`].
pub fn seccomp_filter(pod: &Pod, container: &Container, localhost: Option<&LinuxSeccomp>) -> Option<LinuxSeccomp> {
    if privileged(container) {
        return None;
    }
    match seccomp_profile(pod, container)?.type_.as_str() {
        "RuntimeDefault" => Some(seccomp::runtime_default(&capability_names(container))),
        "Localhost" => localhost.cloned(),
        _ => None,
    }
}

/// Who the container runs as, from its contexts, the image's `USER` and the image's passwd and group files.
pub fn identity(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<Identity, ConfigError> {
    let pod_wide = pod_context(pod);
    let pick = |of_container: fn(&SecurityContext) -> Option<i64>, of_pod: fn(&PodSecurityContext) -> Option<i64>| {
        own(container).and_then(of_container).or_else(|| pod_wide.and_then(of_pod))
    };
    let user = pick(|s| s.run_as_user, |s| s.run_as_user);
    let primary = pick(|s| s.run_as_group, |s| s.run_as_group);
    let word = user.map_or_else(|| image_user.to_owned(), |u| u.to_string());
    let mut identity = resolve(&word, passwd, group)?;
    if let Some(gid) = primary {
        identity.gid = u32::try_from(gid).unwrap_or(u32::MAX);
    }
    let strict = pod_wide.and_then(|s| s.supplemental_groups_policy.as_deref()) == Some("Strict");
    if strict {
        identity.groups.clear();
    }
    let more = pod_wide.map(|s| s.supplemental_groups.iter().flatten().copied().chain(s.fs_group));
    for gid in more.into_iter().flatten().filter_map(|g| u32::try_from(g).ok()) {
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    let non_root = own(container)
        .and_then(|s| s.run_as_non_root)
        .or_else(|| pod_wide.and_then(|s| s.run_as_non_root))
        .unwrap_or(false);
    if non_root && identity.uid == 0 {
        let pod = format!("{}_{}({})", name(pod), namespace(pod), uid(pod));
        return Err(ConfigError::RunsAsRoot { pod, container: container.name.clone() });
    }
    Ok(identity)
}

/// The AppArmor profile that holds for a container: its own, its pod's, or the one of the annotation that was there
/// before the field.
pub fn apparmor_profile<'p>(pod: &'p Pod, container: &'p Container) -> Option<Cow<'p, AppArmorProfile>> {
    let field = own(container)
        .and_then(|s| s.app_armor_profile.as_ref())
        .or_else(|| pod_context(pod).and_then(|s| s.app_armor_profile.as_ref()));
    field.map(Cow::Borrowed).or_else(|| annotated_profile(pod, container).map(Cow::Owned))
}

fn annotated_profile(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let key = format!("container.apparmor.security.beta.kubernetes.io/{}", container.name);
    let word = pod.metadata.annotations.as_ref()?.get(&key)?;
    let profile = |type_: &str, name: Option<&str>| AppArmorProfile {
        type_: type_.to_owned(),
        localhost_profile: name.map(str::to_owned),
    };
    match (word.as_str(), word.strip_prefix("localhost/")) {
        ("runtime/default", _) => Some(profile("RuntimeDefault", None)),
        ("unconfined", _) => Some(profile("Unconfined", None)),
        (_, name) => name.map(|name| profile("Localhost", Some(name))),
    }
}

/// The name of the loaded profile the container's processes are confined by.
pub fn localhost_apparmor(pod: &Pod, container: &Container) -> Option<String> {
    let profile = apparmor_profile(pod, container).filter(|p| p.type_ == "Localhost")?;
    profile.localhost_profile.clone()
}

/// The group that owns the pod's volumes.
pub fn fs_group(pod: &Pod) -> Option<u32> {
    pod_context(pod)?.fs_group.and_then(|g| u32::try_from(g).ok())
}

/// The pod's sysctls.
pub fn sysctls(pod: &Pod) -> Vec<(String, String)> {
    let list = pod_context(pod).and_then(|s| s.sysctls.as_ref());
    list.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect()
}

fn own(container: &Container) -> Option<&SecurityContext> {
    container.security_context.as_ref()
}

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    spec(pod).security_context.as_ref()
}

fn seccomp_profile<'p>(pod: &'p Pod, container: &'p Container) -> Option<&'p SeccompProfile> {
    own(container)
        .and_then(|s| s.seccomp_profile.as_ref())
        .or_else(|| pod_context(pod).and_then(|s| s.seccomp_profile.as_ref()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn container(context: serde_json::Value) -> Container {
        serde_json::from_value(serde_json::json!({"name": "c", "securityContext": context})).unwrap()
    }

    #[test]
    fn capabilities_are_added_to_and_dropped_from_the_default_set() {
        let table = [
            (serde_json::json!({}), 14, true),
            (serde_json::json!({"capabilities": {"drop": ["ALL"]}}), 0, false),
            (serde_json::json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}), 1, true),
            (serde_json::json!({"capabilities": {"drop": ["CHOWN"], "add": ["SYS_TIME"]}}), 14, false),
            (serde_json::json!({"capabilities": {"add": ["ALL"]}}), 41, true),
            (serde_json::json!({"privileged": true}), 41, true),
        ];
        for (context, count, chown) in table {
            let names = capability_names(&container(context.clone()));
            assert_eq!((names.len(), names.contains("CHOWN")), (count, chown), "{context}");
            assert!(capabilities(&names).is_ok(), "{context}");
        }
    }

    #[test]
    fn a_container_that_must_not_be_root_is_refused_as_root() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"p","namespace":"d","uid":"u"},"spec":{"containers":[],
                "securityContext":{"runAsNonRoot":true,"fsGroup":7,"supplementalGroups":[5]}}}"#,
        )
        .unwrap();
        let plain = container(serde_json::json!({}));
        assert!(matches!(identity(&pod, &plain, "", "", ""), Err(ConfigError::RunsAsRoot { .. })));
        let user = container(serde_json::json!({"runAsUser": 1000, "runAsGroup": 3000}));
        let wanted = Identity { uid: 1000, gid: 3000, groups: vec![5, 7], home: None };
        assert_eq!(identity(&pod, &user, "", "", "").unwrap(), wanted);
    }
}
