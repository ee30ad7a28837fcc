//! The words controllers speak: kinds, keys, questions, plans.
//!
//! Owns plain data only. Does not own how a write is sent or how a question is answered: `control/src/controllers` does.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use serde::Serialize;
use serde_json::Value;

/// Whether a scope type means namespaces; lets [`KindRef::of`] be a constant.
pub trait Scoped {
    /// True for namespaced kinds.
    const NAMESPACED: bool;
}
impl Scoped for ClusterResourceScope {
    const NAMESPACED: bool = false;
}
impl Scoped for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

/// A kind and where it lives under `/api` and `/apis`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindRef {
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// Whether names are per namespace.
    pub namespaced: bool,
}

impl KindRef {
    /// The reference of a Rust type.
    pub const fn of<T>() -> KindRef
    where
        T: Resource,
        T::Scope: Scoped,
    {
        KindRef {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            plural: T::URL_PATH_SEGMENT,
            namespaced: T::Scope::NAMESPACED,
        }
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}
impl fmt::Debug for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an object is within its kind. `namespace` is empty for cluster-scoped objects.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Empty for cluster scope.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
}

impl Name {
    /// A name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Name {
        Name { namespace: namespace.into(), name: name.into() }
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a controller plans for: one object, or ([`Key::all`]) everything of a kind at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind.
    pub kind: KindRef,
    /// The object.
    pub name: Name,
}

impl Key {
    /// One object.
    pub fn new(kind: KindRef, name: Name) -> Key {
        Key { kind, name }
    }
    /// The key of controllers whose decisions depend on all objects of a kind (address allocation, scheduling).
    pub fn all(kind: KindRef) -> Key {
        Key { kind, name: Name::new("", "*") }
    }
}

/// A path below an object that a plan may put to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object itself.
    Main,
    /// `/status`.
    Status,
    /// `/approval` of certificate requests.
    Approval,
    /// `/finalize` of namespaces.
    Finalize,
}

impl Part {
    /// Path segment, empty for the object itself.
    pub fn segment(self) -> &'static str {
        match self {
            Part::Main => "",
            Part::Status => "status",
            Part::Approval => "approval",
            Part::Finalize => "finalize",
        }
    }
}

/// deleteOptions.propagationPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents go after the object.
    Background,
    /// Dependents go before the object.
    Foreground,
    /// Dependents stay.
    Orphan,
}

impl Propagation {
    /// As written in DeleteOptions.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// One request to the API server. Every put carries the revision it read, every patch and delete the uid.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// POST.
    Create {
        /// The kind.
        kind: KindRef,
        /// The whole object.
        object: Value,
    },
    /// PUT; metadata.resourceVersion in the object is the precondition.
    Put {
        /// The kind.
        kind: KindRef,
        /// Which path.
        part: Part,
        /// The whole object.
        object: Value,
    },
    /// JSON merge patch; carries metadata.uid and, where the change depends on what was read, metadata.resourceVersion.
    Patch {
        /// The kind.
        kind: KindRef,
        /// The object.
        name: Name,
        /// Which path.
        part: Part,
        /// The patch.
        patch: Value,
    },
    /// DELETE.
    Delete {
        /// The kind.
        kind: KindRef,
        /// The object.
        name: Name,
        /// Precondition.
        uid: String,
        /// Precondition, where the decision depends on the object's content.
        resource_version: Option<String>,
        /// gracePeriodSeconds.
        grace_s: Option<i64>,
        /// propagationPolicy.
        propagation: Option<Propagation>,
    },
    /// DELETE of a whole collection in a namespace.
    DeleteAll {
        /// The kind.
        kind: KindRef,
        /// The namespace.
        namespace: String,
    },
    /// POST pods/binding.
    Bind {
        /// The pod.
        name: Name,
        /// Precondition.
        uid: String,
        /// The node.
        node: String,
    },
    /// Sign the certificate request with the cluster's key and put the result to `/status`.
    Sign {
        /// The request as read: name, revision, spec.request.
        object: Value,
        /// How long the certificate lives.
        ttl_s: i64,
        /// Extended key usages.
        usage: KeyUse,
    },
}

/// What a signed certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// TLS client authentication.
    Client,
    /// TLS server authentication.
    Server,
}

/// An Event to record. `{name}` in the message stands for the name the server gave, `{error}` for what it answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Which object it is about.
    pub about: About,
    /// `Normal` or `Warning`.
    pub kind: NoteKind,
    /// CamelCase word.
    pub reason: &'static str,
    /// Sentence.
    pub message: String,
}

/// `Normal` or `Warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// As wanted.
    Normal,
    /// Somebody should look.
    Warning,
}

/// event.involvedObject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The kind.
    pub kind: KindRef,
    /// The object.
    pub name: Name,
    /// Its uid.
    pub uid: String,
    /// Its revision when the note was planned.
    pub resource_version: String,
}

/// A request with the Events that follow its success or failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The request.
    pub action: Action,
    /// Recorded after success.
    pub done: Option<Note>,
    /// Recorded after failure.
    pub failed: Option<Note>,
}

/// What to do for one key. Applied in order; the first failure ends it, and the key is planned anew after a back-off.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Requests in order.
    pub writes: Vec<Write>,
    /// When to plan again although nothing happened.
    pub requeue_at: Option<Timestamp>,
    /// Events that belong to no write.
    pub events: Vec<Note>,
}

impl Plan {
    /// Adds a write without Events.
    pub fn push(&mut self, action: Action) {
        self.writes.push(Write { action, done: None, failed: None });
    }
    /// Adds a write with the Event of its success.
    pub fn push_noted(&mut self, action: Action, done: Note) {
        self.writes.push(Write { action, done: Some(done), failed: None });
    }
    /// Asks to be planned again at `at` or before.
    pub fn wake(&mut self, at: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(at, |old| old.min(at)));
    }
    /// Nothing to write, nothing to say.
    pub fn is_quiet(&self) -> bool {
        self.writes.is_empty() && self.events.is_empty()
    }
}

/// What a plan must know that no cache holds; answered at the edge just before planning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The object as the server has it now.
    Read(Key),
    /// How many objects of this kind the namespace holds.
    Count(KindRef, String),
    /// What a PEM certificate request asks for.
    Csr(Vec<u8>),
}

/// The answers, by question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Question::Read`]; None is a 404, never a failure.
    Object(Option<Value>),
    /// To [`Question::Count`].
    Count(usize),
    /// To [`Question::Csr`]; None means it cannot be parsed or its own signature is wrong.
    Csr(Option<CsrSubject>),
}

/// What a certificate request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CsrSubject {
    /// CN.
    pub common_name: String,
    /// O, in order.
    pub organizations: Vec<String>,
    /// Subject alternative names: DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names: addresses, in text.
    pub addresses: Vec<String>,
    /// Whether there are subject alternative names of other sorts (e-mail, URI, …).
    pub other_names: bool,
}

/// All answers.
pub type Answers = BTreeMap<Question, Answer>;

/// Encodes an object with its apiVersion and kind.
pub fn encode<T: Serialize>(object: &T) -> Value {
    // Types of k8s-openapi are structs with string keys: they cannot fail to encode.
    serde_json::to_value(object).expect("API objects encode as JSON")
}
