//! What a pod may ask for that this node does not do: found before anything is made, named by its field.
//!
//! Owns: which fields, and the sentence. A field that is listed here is refused, never ignored. Does not own: refusals
//! that follow from the node being full (`admission`), from volumes (`volumes`) or environments (`env`).
//!
//! Two kinds, as Kubernetes has them: what the node can never grant ends the pod (`admission`: AppArmor, sysctls,
//! another operating system), what is missing here holds the pod back, so that its controller does not make ever more.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, Probe};

use crate::containers::{containers, host_network, spec};
use crate::env::ConfigError;
use crate::security;

/// What the host's kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Host {
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
}

type Check = fn(&Pod, Host) -> Option<String>;

const CHECKS: [Check; 9] = [
    user_namespace,
    host_port,
    default_apparmor_profile,
    selinux_options,
    resource_claims,
    block_devices,
    restart_of_all,
    ephemeral_containers,
    http2_probes,
];

/// The first thing of the pod that this node does not do.
pub fn refusal(pod: &Pod, host: Host) -> Option<ConfigError> {
    CHECKS.iter().find_map(|check| check(pod, host)).map(|what| ConfigError::Unsupported { what })
}

/// A container as field paths name it.
pub(crate) fn place(pod: &Pod, container: &Container) -> String {
    let init = spec(pod).init_containers.iter().flatten().any(|c| c.name == container.name);
    let list = if init { "initContainers" } else { "containers" };
    format!("spec.{list}[{}]", container.name)
}

fn user_namespace(pod: &Pod, _: Host) -> Option<String> {
    (spec(pod).host_users == Some(false)).then(|| "spec.hostUsers: false (a user namespace for the pod)".to_owned())
}

fn host_port(pod: &Pod, _: Host) -> Option<String> {
    if host_network(pod) {
        return None;
    }
    let asks = |c: &Container| c.ports.iter().flatten().find_map(|p| p.host_port.filter(|port| *port > 0));
    let (container, port) = containers(pod).find_map(|(_, c)| Some((c, asks(c)?)))?;
    Some(format!("{}.ports[].hostPort: {port} (use a Service of type NodePort, or hostNetwork)", place(pod, container)))
}

/// Profiles are enforced by name; a default one is made by none of our programs.
fn default_apparmor_profile(pod: &Pod, host: Host) -> Option<String> {
    let (container, _) = containers(pod)
        .filter_map(|(_, c)| Some((c, security::apparmor_profile(pod, c)?)))
        .find(|(_, profile)| host.apparmor && profile.type_ == "RuntimeDefault")?;
    let at = place(pod, container);
    Some(format!("{at}.securityContext.appArmorProfile: RuntimeDefault (name a loaded profile with Localhost)"))
}

/// Without SELinux the options have no meaning and no effect, as on every Kubernetes node; with it, silence would lie.
fn selinux_options(pod: &Pod, host: Host) -> Option<String> {
    if !host.selinux {
        return None;
    }
    let of_pod = spec(pod).security_context.as_ref().is_some_and(|s| s.se_linux_options.is_some());
    if of_pod {
        return Some("spec.securityContext.seLinuxOptions".to_owned());
    }
    let asks = |c: &Container| c.security_context.as_ref().is_some_and(|s| s.se_linux_options.is_some());
    let (_, container) = containers(pod).find(|(_, c)| asks(c))?;
    Some(format!("{}.securityContext.seLinuxOptions", place(pod, container)))
}

fn resource_claims(pod: &Pod, _: Host) -> Option<String> {
    if let Some(claim) = spec(pod).resource_claims.iter().flatten().next() {
        return Some(format!("spec.resourceClaims[{}] (dynamic resource allocation)", claim.name));
    }
    let asks = |c: &Container| c.resources.as_ref()?.claims.as_ref()?.first().map(|claim| claim.name.clone());
    let (container, claim) = containers(pod).find_map(|(_, c)| Some((c, asks(c)?)))?;
    Some(format!("{}.resources.claims[{claim}] (dynamic resource allocation)", place(pod, container)))
}

fn block_devices(pod: &Pod, _: Host) -> Option<String> {
    let asks = |c: &Container| c.volume_devices.iter().flatten().next().map(|d| d.name.clone());
    let (container, device) = containers(pod).find_map(|(_, c)| Some((c, asks(c)?)))?;
    Some(format!("{}.volumeDevices[{device}]", place(pod, container)))
}

fn restart_of_all(pod: &Pod, _: Host) -> Option<String> {
    let asks = |c: &Container| c.restart_policy_rules.iter().flatten().any(|r| r.action != "Restart");
    let (_, container) = containers(pod).find(|(_, c)| asks(c))?;
    Some(format!("{}.restartPolicyRules with another action than Restart", place(pod, container)))
}

fn ephemeral_containers(pod: &Pod, _: Host) -> Option<String> {
    let first = spec(pod).ephemeral_containers.iter().flatten().next()?;
    Some(format!("spec.ephemeralContainers[{}]", first.name))
}

fn http2_probes(pod: &Pod, _: Host) -> Option<String> {
    let protocol = |probe: &Option<Probe>| {
        let word = probe.as_ref()?.http_get.as_ref()?.protocol.clone()?;
        (!word.is_empty() && !word.starts_with("HTTP1") && !word.starts_with("HTTP/1")).then_some(word)
    };
    containers(pod).find_map(|(_, c)| {
        let probes = [
            ("startupProbe", &c.startup_probe),
            ("readinessProbe", &c.readiness_probe),
            ("livenessProbe", &c.liveness_probe),
        ];
        let (field, word) = probes.into_iter().find_map(|(field, probe)| Some((field, protocol(probe)?)))?;
        Some(format!("{}.{field}.httpGet.protocol: {word}", place(pod, c)))
    })
}

/// Whether a profile confines.
pub(crate) fn confines(profile: &AppArmorProfile) -> bool {
    profile.type_ != "Unconfined"
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn told(spec: serde_json::Value, host: Host) -> String {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        refusal(&pod, host).map_or_else(|| "taken".to_owned(), |e| e.to_string())
    }

    #[test]
    fn what_this_node_does_not_do_is_named_by_its_field() {
        let with = |c: serde_json::Value| {
            let mut container = json!({"name": "web", "image": "b"});
            container.as_object_mut().unwrap().extend(c.as_object().unwrap().clone());
            json!({"containers": [container]})
        };
        let plain = Host::default();
        let confined = Host { apparmor: true, selinux: true };
        let lines = [
            told(with(json!({})), confined),
            told(json!({"hostUsers": false, "containers": []}), plain),
            told(json!({"hostUsers": true, "containers": []}), plain),
            told(with(json!({"ports": [{"containerPort": 80, "hostPort": 8080}]})), plain),
            told(with(json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}})), confined),
            told(with(json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}})), confined),
            told(with(json!({"securityContext": {"seLinuxOptions": {"level": "s0:c1"}}})), confined),
            told(with(json!({"securityContext": {"seLinuxOptions": {"level": "s0:c1"}}})), plain),
            told(json!({"resourceClaims": [{"name": "gpu"}], "containers": []}), plain),
            told(with(json!({"volumeDevices": [{"name": "disk", "devicePath": "/dev/x"}]})), plain),
            told(with(json!({"restartPolicyRules": [{"action": "RestartAllContainers"}]})), plain),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        taken
        spec.hostUsers: false (a user namespace for the pod) is not supported on this node
        taken
        spec.containers[web].ports[].hostPort: 8080 (use a Service of type NodePort, or hostNetwork) is not supported on this node
        spec.containers[web].securityContext.appArmorProfile: RuntimeDefault (name a loaded profile with Localhost) is not supported on this node
        taken
        spec.containers[web].securityContext.seLinuxOptions is not supported on this node
        taken
        spec.resourceClaims[gpu] (dynamic resource allocation) is not supported on this node
        spec.containers[web].volumeDevices[disk] is not supported on this node
        spec.containers[web].restartPolicyRules with another action than Restart is not supported on this node
        ");
    }
}
