//! Objects on their way into and out of the store. Owns: keys, decoding, encoding with the revision's place marked.
//! Does not own: what happens to them in between.

use std::sync::Arc;

use bytes::Bytes;
use pintle_api::status;
use pintle_control_plan::kind::Scope;
use pintle_control_plan::registry::{DynKind, Object};
use pintle_store::Value;

use super::answer::Failure;

/// Below which prefix a kind's objects lie, in one namespace or (empty) in all: `apps/deployments/default/`.
pub fn prefix(kind: &dyn DynKind, namespace: &str) -> String {
    let (group, plural) = kind.stored_as();
    let group = if group.is_empty() { "core" } else { group };
    if namespace.is_empty() || kind.scope() == Scope::Cluster {
        return format!("{group}/{plural}/");
    }
    format!("{group}/{plural}/{namespace}/")
}

/// An object's key: `core/pods/default/web-1`. Names hold no slash, so a key says its parts unambiguously.
pub fn key(kind: &dyn DynKind, namespace: &str, name: &str) -> Arc<str> {
    let mut key = prefix(kind, namespace);
    key.push_str(name);
    key.into()
}

/// What is stored, as an object.
///
/// # Errors
/// 500 if it cannot be read; that is a fault of ours.
pub fn decode(kind: &dyn DynKind, bytes: &[u8]) -> Result<Box<dyn Object>, Failure> {
    kind.decode(bytes)
        .map_err(|error| status::internal_error(format!("a stored {} is unreadable: {error}", kind.kind())).into())
}

/// An object as it is to be stored: the revision will be written between the quotes of `metadata.resourceVersion`.
pub fn encode(mut object: Box<dyn Object>) -> Value {
    // A random word, so that no annotation can be mistaken for the place.
    let mark = format!("{:016x}", rand::random::<u64>());
    object.metadata_mut().resource_version = Some(mark.clone());
    let mut bytes = object.encode_stored();
    let quoted = format!("\"resourceVersion\":\"{mark}\"");
    let Some(found) = bytes.windows(quoted.len()).position(|window| window == quoted.as_bytes()) else {
        return Value::plain(bytes);
    };
    let at = found + quoted.len() - 1 - mark.len();
    bytes.drain(at..at + mark.len());
    Value { bytes: Bytes::from(bytes), stamp_at: Some(at) }
}

/// A name, or nothing, of an object's metadata.
pub fn name_of(object: &dyn Object) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}
