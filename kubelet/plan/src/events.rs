//! The words of events.
//!
//! Owns: reasons' types and how pods and containers are named in messages. Does not own: recording them.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::containers::{name, namespace, uid};

/// Whether an event reports trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All is well.
    Normal,
    /// Something is not.
    Warning,
}

/// `name_namespace(uid)`.
pub fn pod_words(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The involved object's field path of a container.
pub fn field_path(container: &Container, init: bool) -> String {
    let list = if init { "initContainers" } else { "containers" };
    format!("spec.{list}{{{}}}", container.name)
}

/// The kind that goes with a reason.
pub fn kind(reason: &str) -> Kind {
    match reason {
        "Pulled" | "Created" | "Started" | "Killing" | "Starting" | "NodeReady" | "SandboxChanged" => Kind::Normal,
        _ => Kind::Warning,
    }
}
