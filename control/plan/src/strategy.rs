//! What happens to any object on a write, whatever its kind: metadata filled in, restored, validated; generation counted.
//!
//! Owns: the order of a write after decoding, and everything about `metadata` that is not a kind's business. Does not
//! own: admission (between `default` and `prepare_*`), resource versions (the store's), the clock and randomness.
//!
//! Create: `fill_new` → `Object::default` → admission → `Object::default` → `prepare_create` → `validate_create`.
//! Update: `Object::default` → admission → `Object::default` → `prepare_update` → `validate_update`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use pintle_api::field::FieldErrors;
use pintle_api::metadata::{self, Namespaced};
use pintle_api::status::{self, About};
use pintle_api::{name, time};

use crate::kind::{NameRule, Scope};
use crate::registry::{DynKind, Object};

/// Letters and digits that cannot spell words (apimachinery's util/rand).
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a generated suffix.
pub const SUFFIX_CHARS: usize = 5;

/// Which part of an object an update writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// All but status.
    Main,
    /// `/status`.
    Status,
    /// Another subresource whose handler has already put together the whole object: nothing is restored.
    Whole,
}

/// A name for `generateName`. `random` are five random bytes.
pub fn generated_name(prefix: &str, random: [u8; SUFFIX_CHARS]) -> String {
    let mut end = prefix.len().min(name::LABEL_BYTES_MAX - SUFFIX_CHARS);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let suffix = random.iter().map(|byte| char::from(SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()]));
    prefix[..end].chars().chain(suffix).collect()
}

/// Puts the server's part into a new object's metadata: uid, creationTimestamp; clears what only the server sets.
pub fn fill_new(object: &mut dyn Object, namespace: Option<&str>, uid: &str, now: Timestamp) {
    let cluster = object.kind().scope() == Scope::Cluster;
    let metadata = object.metadata_mut();
    if !cluster && metadata.namespace.as_deref().is_none_or(str::is_empty) {
        metadata.namespace = namespace.map(str::to_owned);
    }
    metadata.uid = Some(uid.to_owned());
    metadata.creation_timestamp = Some(time::time(now));
    metadata.deletion_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.self_link = None;
    metadata.resource_version = None;
    metadata.generation = None;
}

/// The kind's `prepare_create` and the first generation.
pub fn prepare_create(object: &mut dyn Object) {
    object.prepare_create();
    let counted = object.generation_changed(&*object.boxed_clone()).is_some();
    object.metadata_mut().generation = counted.then_some(1);
}

/// All rules for a new object; the error is the 422 to answer.
pub fn validate_create(object: &dyn Object) -> Result<(), Box<Status>> {
    let mut errors = FieldErrors::new();
    metadata::validate(object.metadata(), namespaced(object.kind()), name_rule(object.kind()), &mut errors);
    object.validate(&mut errors);
    verdict(object, &errors)
}

/// Restores what an updater may not change and counts the generation. The error is the 409 to answer.
pub fn prepare_update(new: &mut dyn Object, old: &dyn Object, target: Target) -> Result<(), Box<Status>> {
    check_uid(new, old)?;
    restore_metadata(new, old);
    match target {
        Target::Main => new.prepare_update(old),
        Target::Status => {
            new.prepare_status(old);
            new.metadata_mut().owner_references.clone_from(&old.metadata().owner_references);
        }
        Target::Whole => {}
    }
    let was = old.metadata().generation;
    new.metadata_mut().generation = match new.generation_changed(old) {
        Some(true) => Some(was.unwrap_or(0) + 1),
        Some(false) | None => was,
    };
    Ok(())
}

/// All rules for an update; the error is the 422 to answer.
pub fn validate_update(new: &dyn Object, old: &dyn Object, target: Target) -> Result<(), Box<Status>> {
    let mut errors = FieldErrors::new();
    metadata::validate_update(new.metadata(), old.metadata(), &mut errors);
    match target {
        Target::Main => {
            new.validate(&mut errors);
            new.validate_update(old, &mut errors);
        }
        Target::Status => new.validate_status(old, &mut errors),
        Target::Whole => new.validate(&mut errors),
    }
    verdict(new, &errors)
}

/// Marks an object as being deleted: waits for finalizers, or `grace_s` for somebody to end it. A shorter grace
/// replaces a longer one. Whether anything changed.
pub fn begin_deletion(object: &mut dyn Object, grace_s: i64, now: Timestamp) -> bool {
    let metadata = object.metadata_mut();
    let first = metadata.deletion_timestamp.is_none();
    if !first && metadata.deletion_grace_period_seconds.is_some_and(|was| was <= grace_s) {
        return false;
    }
    // Of two deletions the first decides when the grace began.
    let began = match (&metadata.deletion_timestamp, metadata.deletion_grace_period_seconds) {
        (Some(end), Some(was)) => end.0.as_second() - was,
        _ => now.as_second(),
    };
    let end = Timestamp::from_second(began + grace_s).unwrap_or(now);
    metadata.deletion_timestamp = Some(time::time(end));
    metadata.deletion_grace_period_seconds = Some(grace_s);
    if first && let Some(generation) = &mut metadata.generation {
        *generation += 1;
    }
    if first {
        object.deletion_began();
    }
    true
}

/// Whether nothing holds a deleted object back: no finalizer, no grace left to wait for.
pub fn may_go(object: &dyn Object) -> bool {
    let metadata = object.metadata();
    metadata.deletion_timestamp.is_some()
        && metadata.deletion_grace_period_seconds.unwrap_or(0) == 0
        && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        && !object.is_held()
}

fn check_uid(new: &dyn Object, old: &dyn Object) -> Result<(), Box<Status>> {
    let (asked, is) = (new.metadata().uid.as_deref().unwrap_or(""), old.metadata().uid.as_deref().unwrap_or(""));
    if asked.is_empty() || asked == is {
        return Ok(());
    }
    let about = new.kind().about(old.metadata().name.as_deref().unwrap_or(""));
    let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {is}");
    Err(status::conflict(about, &why))
}

fn restore_metadata(new: &mut dyn Object, old: &dyn Object) {
    let (new, old) = (new.metadata_mut(), old.metadata());
    if new.name.as_deref().is_none_or(str::is_empty) {
        new.name.clone_from(&old.name);
    }
    if new.namespace.as_deref().is_none_or(str::is_empty) {
        new.namespace.clone_from(&old.namespace);
    }
    new.uid.clone_from(&old.uid);
    new.generate_name.clone_from(&old.generate_name);
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.self_link = None;
}

fn verdict(object: &dyn Object, errors: &FieldErrors) -> Result<(), Box<Status>> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = object.metadata().name.as_deref().unwrap_or("");
    Err(status::invalid(About::new(object.kind().group(), object.kind().kind(), name), errors))
}

fn namespaced(kind: &dyn DynKind) -> Namespaced {
    match kind.scope() {
        Scope::Cluster => Namespaced::No,
        Scope::Namespaced => Namespaced::Yes,
    }
}

fn name_rule(kind: &dyn DynKind) -> metadata::NameRule {
    match kind.name_rule() {
        NameRule::Subdomain => name::dns1123_subdomain,
        NameRule::Label => name::dns1123_label,
        NameRule::Label1035 => name::dns1035_label,
        NameRule::PathSegment => name::path_segment,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::registry::by_kind;

    fn config_map(json: &str) -> Box<dyn Object> {
        by_kind("v1", "ConfigMap").unwrap().decode_request(json.as_bytes()).unwrap().object
    }

    #[test]
    fn generated_names_fit_a_label() {
        assert_eq!(generated_name("web-", [0, 1, 26, 27, 255]), "web-bc9bq");
        assert_eq!(generated_name(&"x".repeat(80), [0; 5]).len(), 63);
    }

    #[test]
    fn a_new_object_gets_the_servers_metadata_and_nothing_else_of_the_callers() {
        let mut object = config_map(r#"{"metadata":{"name":"a","uid":"mine","resourceVersion":"7","generation":4}}"#);
        fill_new(&mut *object, Some("default"), "u1", Timestamp::UNIX_EPOCH);
        object.default();
        prepare_create(&mut *object);
        assert_eq!(validate_create(&*object), Ok(()));
        insta::assert_snapshot!(format!("{object:?}"), @r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"creationTimestamp":"1970-01-01T00:00:00Z","name":"a","namespace":"default","uid":"u1"}}"#);
    }

    #[test]
    fn an_update_with_another_uid_is_a_conflict() {
        let old = config_map(r#"{"metadata":{"name":"a","uid":"u1"}}"#);
        let mut new = config_map(r#"{"metadata":{"name":"a","uid":"u2"}}"#);
        let error = prepare_update(&mut *new, &*old, Target::Main).unwrap_err();
        insta::assert_snapshot!(error.message.unwrap(), @r#"Operation cannot be fulfilled on configmaps "a": Precondition failed: UID in precondition: u2, UID in object meta: u1"#);
    }

    #[test]
    fn a_shorter_grace_replaces_a_longer_one() {
        let mut object = config_map(r#"{"metadata":{"name":"a"}}"#);
        let now = Timestamp::from_second(1000).unwrap();
        assert!(begin_deletion(&mut *object, 30, now));
        assert!(!begin_deletion(&mut *object, 40, now));
        assert!(!may_go(&*object));
        assert!(begin_deletion(&mut *object, 0, now));
        assert!(may_go(&*object));
        assert_eq!(object.metadata().deletion_timestamp, Some(time::time(now)));
    }
}
