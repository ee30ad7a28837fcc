//! What the API server knows of a kind, said once, in one file per kind.
//!
//! Owns: the trait every kind implements and the words it uses. The generic handlers in `control/src/serve`, discovery,
//! tables, OpenAPI and authorization all walk the registry; none of them knows a kind by name.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use pintle_api::field::FieldErrors;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bounds an API object's Rust type satisfies.
pub trait ApiObject:
    Resource
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + schemars::JsonSchema
    + Clone
    + Default
    + PartialEq
    + Send
    + Sync
    + 'static
{
}
impl<T> ApiObject for T where
    T: Resource
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + schemars::JsonSchema
        + Clone
        + Default
        + PartialEq
        + Send
        + Sync
        + 'static
{
}

/// Whether objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One name space for the whole cluster.
    Cluster,
    /// Names are unique per namespace.
    Namespaced,
}

/// Which rules an object's name obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain, the usual one.
    Subdomain,
    /// DNS-1123 label.
    Label,
    /// DNS-1035 label.
    Label1035,
    /// Anything that is one path segment (RBAC objects).
    PathSegment,
}

/// A kind's names beyond those its Rust type carries (group, version, kind, plural come from [`Resource`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// `deployment`.
    pub singular: &'static str,
    /// `deploy`.
    pub short: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
}

/// Paths below an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// get, update, patch of status alone.
    Status,
    /// autoscaling/v1 Scale.
    Scale,
    /// Pod: text, streamed.
    Log,
    /// Pod: WebSocket.
    Exec,
    /// Pod: WebSocket.
    Attach,
    /// Pod: WebSocket.
    PortForward,
    /// Pod: policy/v1 Eviction.
    Eviction,
    /// Pod: v1 Binding.
    Binding,
    /// ServiceAccount: authentication.k8s.io/v1 TokenRequest.
    Token,
    /// CertificateSigningRequest: the Approved and Denied conditions.
    Approval,
    /// Namespace: removal of spec.finalizers.
    Finalize,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// `Ready`.
    pub name: &'static str,
    /// OpenAPI type: string, integer, boolean, date.
    pub kind: &'static str,
    /// OpenAPI format: `name` for the Name column, else empty.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// `Name`, the first column of every kind.
    pub const NAME: Column = Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Name must be unique within a namespace.",
        priority: 0,
    };
    /// `Age`, computed from metadata.creationTimestamp.
    pub const AGE: Column = Column::text("Age", "Time since the object was created.");

    /// A column of text that is always shown.
    pub const fn text(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "string", format: "", description, priority: 0 }
    }
    /// A column of numbers that is always shown.
    pub const fn number(name: &'static str, description: &'static str) -> Column {
        Column { name, kind: "integer", format: "", description, priority: 0 }
    }
    /// The same, shown only with `-o wide`.
    #[must_use]
    pub const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }
}

/// What deleting an object does first. See [`Kind::delete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletePlan {
    /// Remove at once (unless finalizers hold it).
    Now,
    /// Set deletionTimestamp = now + `grace_s` and deletionGracePeriodSeconds, and wait for somebody to delete with 0.
    Graceful {
        /// Seconds.
        grace_s: i64,
    },
}

/// One kind of the API: names, defaults, rules, columns. Everything here is pure.
///
/// Order on a write: decode → `default` → admission → `default` again → `prepare_*` → `validate*` → encode → store.
/// `metadata` (name, generateName, uid, timestamps, generation, labels, owner references, finalizers) is prepared and
/// validated generically; a kind speaks only of its own fields.
pub trait Kind: Send + Sync + 'static {
    /// The Rust type.
    type Object: ApiObject;
    /// Names for discovery.
    const NAMES: Names;
    /// Namespaced or not.
    const SCOPE: Scope;
    /// Paths below an object, in discovery order.
    const SUBRESOURCES: &'static [Subresource] = &[];
    /// Table columns after none: `Name` first, `Age` where upstream has it.
    const COLUMNS: &'static [Column];
    /// Field selectors besides metadata.name and metadata.namespace.
    const FIELDS: &'static [&'static str] = &[];

    /// (group, plural) of the kind under whose keys the objects are kept, for a second view of the same objects.
    const STORED_AS: Option<(&'static str, &'static str)> = None;
    /// Which rules a name obeys.
    const NAME_RULE: NameRule = NameRule::Subdomain;

    /// Reads what is stored. Only a second view differs: it reads the other type and converts.
    fn read(json: &[u8]) -> Result<Self::Object, serde_json::Error> {
        serde_json::from_slice(json)
    }
    /// The object as it is stored. Only a second view differs.
    fn stored(object: &Self::Object) -> Vec<u8> {
        serde_json::to_vec(object).expect("API types have string keys and no failing serializers")
    }
    /// Fills what Kubernetes fills. Idempotent.
    fn default(_object: &mut Self::Object) {}
    /// Clears what a creator may not set (status, …).
    fn prepare_create(_object: &mut Self::Object) {}
    /// Restores what an updater may not change (status, …).
    fn prepare_update(_new: &mut Self::Object, _old: &Self::Object) {}
    /// Restores everything but status. Called for writes to `/status`.
    fn prepare_status(_new: &mut Self::Object, _old: &Self::Object) {}
    /// Whether generation is counted, and whether it rises: compares what users write (`spec`), not status.
    fn generation_changed(_new: &Self::Object, _old: &Self::Object) -> Option<bool> {
        None
    }
    /// The kind's own rules.
    fn validate(object: &Self::Object, errors: &mut FieldErrors);
    /// Rules over both sides (immutable fields); `validate(new)` has run already.
    fn validate_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut FieldErrors) {}
    /// Rules for writes to `/status`.
    fn validate_status(_new: &Self::Object, _old: &Self::Object, _errors: &mut FieldErrors) {}
    /// Cells in the order of [`Kind::COLUMNS`].
    fn row(object: &Self::Object, now: Timestamp) -> Vec<serde_json::Value>;
    /// Values in the order of [`Kind::FIELDS`].
    fn fields(_object: &Self::Object) -> Vec<String> {
        Vec::new()
    }
    /// How a deletion begins. `asked_grace_s` is DeleteOptions.gracePeriodSeconds.
    fn delete(_object: &Self::Object, _asked_grace_s: Option<i64>) -> DeletePlan {
        DeletePlan::Now
    }
    /// Told when a deletion begins: Namespace shows it in its phase.
    fn deletion_began(_object: &mut Self::Object) {}
    /// Whether something of the kind's own, besides metadata.finalizers, holds a deleted object (Namespace's
    /// spec.finalizers).
    fn is_held(_object: &Self::Object) -> bool {
        false
    }
    /// Reads (replicas wanted, replicas observed, selector) for `/scale`.
    fn scale(_object: &Self::Object) -> Option<Scale> {
        None
    }
    /// Writes the wanted replicas for `/scale`.
    fn set_scale(_object: &mut Self::Object, _replicas: i32) {}
}

/// What `/scale` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// spec.replicas.
    pub wanted: i32,
    /// status.replicas.
    pub observed: i32,
    /// status.selector in string form.
    pub selector: String,
}
