//! What this crate asks of a Kubernetes type, and the few shapes that are not in k8s-openapi.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use k8s_openapi::{Metadata, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Any top-level API type of k8s-openapi.
pub trait Object:
    Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
}

/// What a cache holds: an object, or less of one, as long as it knows which it is of whose versions.
pub trait Held: DeserializeOwned + Send + Sync + 'static {
    /// The kind it is of.
    type Kind: Resource;

    /// Which object.
    fn key(&self) -> ObjectKey;

    /// See [`revision_of`].
    fn revision(&self) -> u64;

    /// Whether both are the same version of the same object, not only of one with the same name.
    fn is_same_version(&self, other: &Self) -> bool;

    /// Drops `metadata.managedFields`, if it has kept them.
    fn drop_managed_fields(&mut self);
}

impl<K: Object> Held for K {
    type Kind = K;

    fn key(&self) -> ObjectKey {
        ObjectKey::of(self)
    }

    fn revision(&self) -> u64 {
        revision_of(self)
    }

    fn is_same_version(&self, other: &Self) -> bool {
        let (a, b) = (self.metadata(), other.metadata());
        a.uid == b.uid && a.resource_version == b.resource_version && a.resource_version.is_some()
    }

    fn drop_managed_fields(&mut self) {
        self.metadata_mut().managed_fields = None;
    }
}

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectKey {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        let meta = object.metadata();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// `metadata.resourceVersion` as the number it is in etcd and in our store; 0 when absent or not a number.
pub fn revision_of<K: Metadata<Ty = ObjectMeta>>(object: &K) -> u64 {
    object.metadata().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A list answer, of any kind.
#[derive(Debug, Clone, Deserialize)]
pub struct List<K> {
    /// Revision, continue token, remaining count.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects; their `apiVersion` and `kind` are those of the list's type.
    #[serde(default = "Vec::new")]
    pub items: Vec<K>,
}

/// `meta.k8s.io/v1 PartialObjectMetadata`: what the garbage collector needs of an object of any kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialObject {
    /// `meta.k8s.io/v1` when asked for as metadata only, else the object's own.
    #[serde(default)]
    pub api_version: String,
    /// `PartialObjectMetadata` when asked for as metadata only, else the object's own.
    #[serde(default)]
    pub kind: String,
    /// The object's metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl Resource for PartialObject {
    const API_VERSION: &'static str = "meta.k8s.io/v1";
    const GROUP: &'static str = "meta.k8s.io";
    const KIND: &'static str = "PartialObjectMetadata";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = k8s_openapi::SubResourceScope;
}

impl Metadata for PartialObject {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
