//! All kinds of the API server, and the adaptor that lets generic code work on any of them.
//!
//! Owns: erasure (`Kind` with its Rust type → `DynKind` and `Object`), lookup, and strict decoding. Does not own: what a
//! kind means (`kinds/*`), metadata common to all (`strategy`), HTTP.
//!
//! Erasure happens at the first opportunity: everything generic over a kind's type is a one-line method here, so each
//! further kind costs its own code and nothing else.

use std::any::Any;
use std::marker::PhantomData;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use k8s_openapi::{Metadata, Resource};
use pintle_api::field::FieldErrors;
use pintle_api::status::About;
use pintle_api::{decode, lenient, status};
use serde_json::Value;

use crate::kind::{Column, DeletePlan, Kind, NameRule, Names, Scale, Scope, Subresource};
use crate::kinds;

/// Every kind that is stored, in the order of discovery.
pub const KINDS: &[&dyn DynKind] = &[
    &Entry::<kinds::config_map::ConfigMaps>::NEW,
    &Entry::<kinds::endpoints::EndpointsKind>::NEW,
    &Entry::<kinds::event::Events>::NEW,
    &Entry::<kinds::namespace::Namespaces>::NEW,
    &Entry::<kinds::node::Nodes>::NEW,
    &Entry::<kinds::pod::Pods>::NEW,
    &Entry::<kinds::secret::Secrets>::NEW,
    &Entry::<kinds::service_account::ServiceAccounts>::NEW,
    &Entry::<kinds::service::Services>::NEW,
    &Entry::<kinds::controller_revision::ControllerRevisions>::NEW,
    &Entry::<kinds::daemon_set::DaemonSets>::NEW,
    &Entry::<kinds::deployment::Deployments>::NEW,
    &Entry::<kinds::replica_set::ReplicaSets>::NEW,
    &Entry::<kinds::job::Jobs>::NEW,
    &Entry::<kinds::certificate_signing_request::CertificateSigningRequests>::NEW,
    &Entry::<kinds::lease::Leases>::NEW,
    &Entry::<kinds::endpoint_slice::EndpointSlices>::NEW,
    &Entry::<kinds::events_event::EventsEvents>::NEW,
    &Entry::<kinds::priority_class::PriorityClasses>::NEW,
];

/// The kind at `/apis/GROUP/VERSION/…/PLURAL`; the group is empty for core.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static dyn DynKind> {
    KINDS.iter().copied().find(|k| k.group() == group && k.version() == version && k.plural() == plural)
}

/// The kind of an object's apiVersion and kind.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static dyn DynKind> {
    KINDS.iter().copied().find(|k| k.api_version() == api_version && k.kind() == kind)
}

/// The kind called `PLURAL.GROUP` in whatever version is registered, e.g. for authorization.
pub fn by_group_resource(group: &str, plural: &str) -> Option<&'static dyn DynKind> {
    KINDS.iter().copied().find(|k| k.group() == group && k.plural() == plural)
}

/// One kind, without its Rust type.
pub trait DynKind: Send + Sync {
    /// API group, empty for core.
    fn group(&self) -> &'static str;
    /// `v1`.
    fn version(&self) -> &'static str;
    /// `apps/v1`, or `v1` for core.
    fn api_version(&self) -> &'static str;
    /// `Deployment`.
    fn kind(&self) -> &'static str;
    /// `deployments`.
    fn plural(&self) -> &'static str;
    /// Singular, short names, categories.
    fn names(&self) -> Names;
    /// Namespaced or not.
    fn scope(&self) -> Scope;
    /// Which rules a name obeys.
    fn name_rule(&self) -> NameRule;
    /// Paths below an object.
    fn subresources(&self) -> &'static [Subresource];
    /// Table columns.
    fn columns(&self) -> &'static [Column];
    /// Field selectors besides metadata.name and metadata.namespace.
    fn field_names(&self) -> &'static [&'static str];
    /// Where objects are kept: (group, plural) of the kind whose keys they live under. Differs from (group(), plural())
    /// only for a second view of the same objects.
    fn stored_as(&self) -> (&'static str, &'static str);
    /// An object from JSON that is stored.
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error>;
    /// An object from JSON of this very kind. Requests go through [`dyn DynKind::decode_request`].
    fn decode_own(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error>;
    /// `io.k8s.api.apps.v1.Deployment`.
    fn schema_name(&self) -> String;
    /// Adds the kind's schema and all it refers to.
    fn schema(&self, generator: &mut schemars::SchemaGenerator);
}

/// What a request's body says, decoded.
pub struct Decoded {
    /// The object, not yet defaulted.
    pub object: Box<dyn Object>,
    /// Unknown and duplicate fields; the caller's `fieldValidation` decides whether they are an error.
    pub complaints: Vec<String>,
}

impl dyn DynKind + '_ {
    /// Whether this is a second view of objects stored as another kind: what is stored is not what to answer.
    pub fn is_view(&self) -> bool {
        self.stored_as() != (self.group(), self.plural())
    }

    /// `deployments.apps "name"` for answers about an object.
    pub fn about<'a>(&self, name: &'a str) -> About<'a> {
        About::new(self.group(), self.plural(), name)
    }

    /// An object from a request. Missing apiVersion and kind are taken from the path; others must match.
    /// Errors are the 400s to answer.
    pub fn decode_request(&self, body: &[u8]) -> Result<Decoded, Box<Status>> {
        self.check_type_meta(body)?;
        let object = self.decode_own(body).or_else(|error| {
            let second = lenient::forgiving(body).and_then(|body| self.decode_own(&body).ok());
            second.ok_or_else(|| self.cannot_be_handled(&decode::type_error(self.kind(), body, &error)))
        })?;
        let known: Value = serde_json::from_slice(&object.encode()).map_err(status::internal_error)?;
        let recode = |body: &[u8]| serde_json::from_slice(&self.decode_own(body).ok()?.encode()).ok();
        let complaints = decode::strict_complaints(body, &known, &recode);
        Ok(Decoded { object, complaints })
    }

    /// The 400 for `fieldValidation=Strict`, if there is anything to complain about.
    pub fn strict_error(&self, complaints: &[String]) -> Option<Box<Status>> {
        (!complaints.is_empty()).then(|| self.cannot_be_handled(&decode::strict_message(complaints)))
    }

    fn cannot_be_handled(&self, why: &str) -> Box<Status> {
        status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: {why}",
            self.version(),
            kind = self.kind()
        ))
    }

    fn check_type_meta(&self, body: &[u8]) -> Result<(), Box<Status>> {
        let (version, kind) = decode::type_meta(body)
            .map_err(|error| status::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
        if !version.is_empty() && version != self.api_version() {
            return Err(status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({})",
                self.api_version()
            )));
        }
        if !kind.is_empty() && kind != self.kind() {
            return Err(status::bad_request(format!(
                "the kind in the data ({kind}) does not match the expected kind ({})",
                self.kind()
            )));
        }
        Ok(())
    }
}

/// One object, without its Rust type. Methods that take an `old` need one of the same kind.
pub trait Object: Send + Sync {
    /// Its kind.
    fn kind(&self) -> &'static dyn DynKind;
    /// For `downcast_ref::<Pod>()`.
    fn as_any(&self) -> &dyn Any;
    /// For `downcast_mut::<Pod>()`.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// A copy.
    fn boxed_clone(&self) -> Box<dyn Object>;
    /// Metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// Metadata.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// JSON, apiVersion and kind first.
    fn encode(&self) -> Vec<u8>;
    /// JSON to store; differs from [`Object::encode`] only for a view.
    fn encode_stored(&self) -> Vec<u8>;
    /// Whether both say the same.
    fn equals(&self, other: &dyn Object) -> bool;
    /// [`Kind::default`].
    fn default(&mut self);
    /// [`Kind::prepare_create`].
    fn prepare_create(&mut self);
    /// [`Kind::prepare_update`].
    fn prepare_update(&mut self, old: &dyn Object);
    /// [`Kind::prepare_status`].
    fn prepare_status(&mut self, old: &dyn Object);
    /// [`Kind::generation_changed`].
    fn generation_changed(&self, old: &dyn Object) -> Option<bool>;
    /// [`Kind::validate`].
    fn validate(&self, errors: &mut FieldErrors);
    /// [`Kind::validate_update`].
    fn validate_update(&self, old: &dyn Object, errors: &mut FieldErrors);
    /// [`Kind::validate_status`].
    fn validate_status(&self, old: &dyn Object, errors: &mut FieldErrors);
    /// [`Kind::row`].
    fn row(&self, now: Timestamp) -> Vec<Value>;
    /// [`Kind::fields`], in the order of [`DynKind::field_names`].
    fn fields(&self) -> Vec<String>;
    /// [`Kind::delete`].
    fn delete(&self, asked_grace_s: Option<i64>) -> DeletePlan;
    /// [`Kind::deletion_began`].
    fn deletion_began(&mut self);
    /// [`Kind::is_held`].
    fn is_held(&self) -> bool;
    /// [`Kind::scale`].
    fn scale(&self) -> Option<Scale>;
    /// [`Kind::set_scale`].
    fn set_scale(&mut self, replicas: i32);
}

impl dyn Object + '_ {
    /// The typed object, if it is of that type.
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }
    /// The typed object, if it is of that type.
    pub fn downcast_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.as_any_mut().downcast_mut()
    }
    /// Value of a field selector's label (`metadata.name`, `spec.nodeName`, …), if the kind has it.
    pub fn field(&self, label: &str) -> Option<String> {
        match label {
            "metadata.name" => Some(self.metadata().name.clone().unwrap_or_default()),
            "metadata.namespace" => Some(self.metadata().namespace.clone().unwrap_or_default()),
            _ => {
                let index = self.kind().field_names().iter().position(|name| *name == label)?;
                self.fields().into_iter().nth(index)
            }
        }
    }
}

impl Clone for Box<dyn Object> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}

impl std::fmt::Debug for dyn Object + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.encode()))
    }
}

impl std::fmt::Debug for dyn DynKind + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind())
    }
}

/// Wraps a typed object, e.g. one made by the server itself.
pub fn object<K: Kind>(object: K::Object) -> Box<dyn Object> {
    Box::new(Typed::<K>(object))
}

struct Entry<K>(PhantomData<K>);

impl<K: Kind> Entry<K> {
    const NEW: Entry<K> = Entry(PhantomData);
}

impl<K: Kind> DynKind for Entry<K> {
    fn group(&self) -> &'static str {
        <K::Object as Resource>::GROUP
    }
    fn version(&self) -> &'static str {
        <K::Object as Resource>::VERSION
    }
    fn api_version(&self) -> &'static str {
        <K::Object as Resource>::API_VERSION
    }
    fn kind(&self) -> &'static str {
        <K::Object as Resource>::KIND
    }
    fn plural(&self) -> &'static str {
        <K::Object as Resource>::URL_PATH_SEGMENT
    }
    fn names(&self) -> Names {
        K::NAMES
    }
    fn scope(&self) -> Scope {
        K::SCOPE
    }
    fn name_rule(&self) -> NameRule {
        K::NAME_RULE
    }
    fn subresources(&self) -> &'static [Subresource] {
        K::SUBRESOURCES
    }
    fn columns(&self) -> &'static [Column] {
        K::COLUMNS
    }
    fn field_names(&self) -> &'static [&'static str] {
        K::FIELDS
    }
    fn stored_as(&self) -> (&'static str, &'static str) {
        K::STORED_AS.unwrap_or((self.group(), self.plural()))
    }
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        Ok(Box::new(Typed::<K>(K::read(json)?)))
    }
    fn decode_own(&self, json: &[u8]) -> Result<Box<dyn Object>, serde_json::Error> {
        let object: K::Object = serde_json::from_slice(json)?;
        Ok(Box::new(Typed::<K>(object)))
    }
    fn schema_name(&self) -> String {
        <K::Object as schemars::JsonSchema>::schema_name().into_owned()
    }
    fn schema(&self, generator: &mut schemars::SchemaGenerator) {
        generator.subschema_for::<K::Object>();
    }
}

struct Typed<K: Kind>(K::Object);

impl<K: Kind> Typed<K> {
    /// Generic code only ever compares objects that came from the same `DynKind`.
    fn same(other: &dyn Object) -> &K::Object {
        other.downcast_ref().expect("both objects are of the same kind")
    }
}

impl<K: Kind> Object for Typed<K> {
    fn kind(&self) -> &'static dyn DynKind {
        const { &Entry::<K>::NEW }
    }
    fn as_any(&self) -> &dyn Any {
        &self.0
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.0
    }
    fn boxed_clone(&self) -> Box<dyn Object> {
        Box::new(Typed::<K>(self.0.clone()))
    }
    fn metadata(&self) -> &ObjectMeta {
        self.0.metadata()
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        self.0.metadata_mut()
    }
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("API types have string keys and no failing serializers")
    }
    fn encode_stored(&self) -> Vec<u8> {
        K::stored(&self.0)
    }
    fn equals(&self, other: &dyn Object) -> bool {
        other.downcast_ref::<K::Object>() == Some(&self.0)
    }
    fn default(&mut self) {
        K::default(&mut self.0);
    }
    fn prepare_create(&mut self) {
        K::prepare_create(&mut self.0);
    }
    fn prepare_update(&mut self, old: &dyn Object) {
        K::prepare_update(&mut self.0, Self::same(old));
    }
    fn prepare_status(&mut self, old: &dyn Object) {
        K::prepare_status(&mut self.0, Self::same(old));
    }
    fn generation_changed(&self, old: &dyn Object) -> Option<bool> {
        K::generation_changed(&self.0, Self::same(old))
    }
    fn validate(&self, errors: &mut FieldErrors) {
        K::validate(&self.0, errors);
    }
    fn validate_update(&self, old: &dyn Object, errors: &mut FieldErrors) {
        K::validate_update(&self.0, Self::same(old), errors);
    }
    fn validate_status(&self, old: &dyn Object, errors: &mut FieldErrors) {
        K::validate_status(&self.0, Self::same(old), errors);
    }
    fn row(&self, now: Timestamp) -> Vec<Value> {
        K::row(&self.0, now)
    }
    fn fields(&self) -> Vec<String> {
        K::fields(&self.0)
    }
    fn delete(&self, asked_grace_s: Option<i64>) -> DeletePlan {
        K::delete(&self.0, asked_grace_s)
    }
    fn deletion_began(&mut self) {
        K::deletion_began(&mut self.0);
    }
    fn is_held(&self) -> bool {
        K::is_held(&self.0)
    }
    fn scale(&self) -> Option<Scale> {
        K::scale(&self.0)
    }
    fn set_scale(&mut self, replicas: i32) {
        K::set_scale(&mut self.0, replicas);
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
