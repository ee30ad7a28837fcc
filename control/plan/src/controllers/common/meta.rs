//! Owners, deletion and references.

use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::controllers::snapshot::name_of;
use crate::controllers::words::{About, Action, KindRef, Note, NoteKind, Part, Scoped};
use crate::kind::ApiObject;

/// The owner that manages the object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

/// The uid of the owner that manages the object.
pub fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    controller_of(meta).map(|o| o.uid.as_str())
}

/// Name of the managing owner if it is of this type.
pub fn controller_named<T: Resource>(meta: &ObjectMeta) -> Option<&str> {
    controller_of(meta).filter(|o| o.kind == T::KIND && o.api_version == T::API_VERSION).map(|o| o.name.as_str())
}

/// An owner reference that makes `owner` the manager.
pub fn controlled_by<T: ApiObject>(owner: &T) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        block_owner_deletion: Some(true),
        controller: Some(true),
        kind: T::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: uid(meta).to_owned(),
    }
}

/// metadata.uid, empty before the server gave one.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// metadata.name.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// metadata.namespace.
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// Whether deletion has begun.
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// An annotation's value.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A label's value.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// What an Event is about.
pub fn about<T: ApiObject>(object: &T) -> About
where
    T::Scope: Scoped,
{
    let meta = object.metadata();
    About {
        kind: KindRef::of::<T>(),
        name: name_of(meta),
        uid: uid(meta).to_owned(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
    }
}

/// A `Normal` note.
pub fn normal<T: ApiObject>(object: &T, reason: &'static str, message: impl Into<String>) -> Note
where
    T::Scope: Scoped,
{
    Note { about: about(object), kind: NoteKind::Normal, reason, message: message.into() }
}

/// A `Warning` note.
pub fn warning<T: ApiObject>(object: &T, reason: &'static str, message: impl Into<String>) -> Note
where
    T::Scope: Scoped,
{
    Note { about: about(object), kind: NoteKind::Warning, reason, message: message.into() }
}

/// Replaces ownerReferences and finalizers, if nobody changed the object meanwhile.
pub fn patch_links(kind: KindRef, meta: &ObjectMeta, owners: &[OwnerReference], finalizers: &[String]) -> Action {
    Action::Patch {
        kind,
        name: name_of(meta),
        part: Part::Main,
        patch: json!({"metadata": {
            "uid": uid(meta),
            "resourceVersion": meta.resource_version,
            "ownerReferences": owners,
            "finalizers": finalizers,
        }}),
    }
}

/// Adds `owner` to the object's owners.
pub fn adopt(kind: KindRef, meta: &ObjectMeta, owner: OwnerReference) -> Action {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.push(owner);
    patch_links(kind, meta, &owners, meta.finalizers.as_deref().unwrap_or_default())
}

/// Takes the owner with that uid away.
pub fn release(kind: KindRef, meta: &ObjectMeta, owner_uid: &str) -> Action {
    let owners: Vec<_> = meta.owner_references.iter().flatten().filter(|o| o.uid != owner_uid).cloned().collect();
    patch_links(kind, meta, &owners, meta.finalizers.as_deref().unwrap_or_default())
}

/// A deletion bound to the uid that was seen.
pub fn delete(kind: KindRef, meta: &ObjectMeta) -> Action {
    Action::Delete {
        kind,
        name: name_of(meta),
        uid: uid(meta).to_owned(),
        resource_version: None,
        grace_s: None,
        propagation: None,
    }
}
