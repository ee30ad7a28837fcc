//! The containers of a pod in the order of their lives, with the role each plays.
//!
//! Owns: the mapping from spec to roles. Does not own: what happens to them (`life`).

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// The part a container plays in its pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to completion before the next starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the main containers, ends last.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// If its exit code is not 0.
    OnFailure,
    /// Not.
    Never,
}

/// The spec; a pod without one cannot be stored by an API server, so an empty one stands in.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    pod.spec.as_ref().unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
}

/// All containers with their roles: init containers and sidecars in order, then the main ones.
pub fn containers(pod: &Pod) -> impl Iterator<Item = (Role, &Container)> {
    let spec = spec(pod);
    let init = spec.init_containers.iter().flatten().map(|c| (init_role(c), c));
    init.chain(spec.containers.iter().map(|c| (Role::Main, c)))
}

/// The container of that name.
pub fn find<'p>(pod: &'p Pod, name: &str) -> Option<(Role, &'p Container)> {
    containers(pod).find(|(_, c)| c.name == name)
}

/// The pod's uid, or the empty string.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's namespace, or `default`.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// The pod's name, or the empty string.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Whether the pod lives in the node's network namespace.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// The restart policy that applies to a container in its role.
pub fn restart_policy(pod: &Pod, role: Role, container: &Container) -> RestartPolicy {
    if role == Role::Sidecar {
        return RestartPolicy::Always;
    }
    let word = container.restart_policy.as_deref().or(spec(pod).restart_policy.as_deref());
    match (word, role) {
        (Some("Never"), _) => RestartPolicy::Never,
        // An init container of an Always pod is retried until it succeeds, never rerun after success.
        (Some("OnFailure"), _) | (_, Role::Init) => RestartPolicy::OnFailure,
        (_, Role::Main | Role::Sidecar) => RestartPolicy::Always,
    }
}

/// Seconds a pod has to end: the grace of its deletion, else of its spec, else 30.
pub fn grace_s(pod: &Pod) -> i64 {
    let own = spec(pod).termination_grace_period_seconds.unwrap_or(30);
    pod.metadata.deletion_grace_period_seconds.unwrap_or(own).max(1)
}

fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}
