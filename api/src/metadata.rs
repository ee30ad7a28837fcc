//! Rules over `metadata`, the same for every kind.
//!
//! Owns: names, generateName, labels, annotations, finalizers, ownerReferences, and what an update may not change.
//! Does not own: filling metadata in (uid, timestamps, generation).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::field::{FieldErrors, Path};
use crate::name;

/// Keys and values of all annotations together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Names the rule for `metadata.name`, e.g. [`name::dns1123_subdomain`].
pub type NameRule = fn(&str) -> Vec<String>;

/// Whether an object must, or must not, have a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaced {
    /// Must have one.
    Yes,
    /// Must not.
    No,
}

/// Everything about the metadata of a new object. `name` is already generated.
pub fn validate(metadata: &ObjectMeta, namespaced: Namespaced, rule: NameRule, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    if let Some(prefix) = metadata.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) {
        // The suffix makes a trailing dash fine.
        let text = format!("{}a", prefix);
        errors.invalid_each(&path.child("generateName"), prefix, rule(&text));
    }
    match metadata.name.as_deref() {
        None | Some("") => errors.required(&path.child("name"), "name or generateName is required"),
        Some(text) => errors.invalid_each(&path.child("name"), text, rule(text)),
    }
    let namespace = metadata.namespace.as_deref().unwrap_or("");
    match (namespaced, namespace) {
        (Namespaced::Yes, "") => errors.required(&path.child("namespace"), ""),
        (Namespaced::Yes, text) => errors.invalid_each(&path.child("namespace"), text, name::dns1123_label(text)),
        (Namespaced::No, "") => {}
        (Namespaced::No, _) => {
            errors.forbidden(&path.child("namespace"), "not allowed on this type");
        }
    }
    accessories(metadata, &path, errors);
}

/// Labels, annotations, finalizers, owners: what pod templates share with objects (the latter two only on objects).
fn accessories(metadata: &ObjectMeta, path: &Path, errors: &mut FieldErrors) {
    if let Some(generation) = metadata.generation.filter(|generation| *generation < 0) {
        errors.non_negative(&path.child("generation"), generation);
    }
    labels(metadata.labels.iter().flatten(), &path.child("labels"), errors);
    annotations(metadata.annotations.iter().flatten(), &path.child("annotations"), errors);
    owners(metadata.owner_references.as_deref().unwrap_or(&[]), &path.child("ownerReferences"), errors);
    for (index, finalizer) in metadata.finalizers.iter().flatten().enumerate() {
        let path = path.child("finalizers").index(index);
        errors.invalid_each(&path, finalizer, name::qualified(finalizer));
    }
}

/// Keys are qualified names, values label values.
pub fn labels<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in labels {
        errors.invalid_each(path, key, name::qualified(key));
        errors.invalid_each(path, value, name::label_value(value));
    }
}

/// Keys are qualified names (in any case), all of it not too large.
pub fn annotations<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
    path: &Path,
    errors: &mut FieldErrors,
) {
    let mut total = 0;
    for (key, value) in annotations {
        errors.invalid_each(path, key, name::qualified(&key.to_ascii_lowercase()));
        total += key.len() + value.len();
    }
    if total > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(owners: &[OwnerReference], path: &Path, errors: &mut FieldErrors) {
    let mut controller: Option<&OwnerReference> = None;
    for (index, owner) in owners.iter().enumerate() {
        let path = path.index(index);
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            if value.is_empty() {
                errors.invalid(&path.child(field), value, "must not be empty");
            }
        }
        if owner.controller == Some(true) {
            if let Some(first) = controller {
                errors.invalid(
                    &path.child("controller"),
                    true,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                        first.kind, first.name, owner.kind, owner.name
                    ),
                );
            } else {
                controller = Some(owner);
            }
        }
    }
}

/// What an update may not change, and what a deleted object may not gain.
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    errors.immutable(&path.child("name"), &new.name, &old.name);
    errors.immutable(&path.child("namespace"), &new.namespace, &old.namespace);
    errors.immutable(&path.child("uid"), &new.uid, &old.uid);
    errors.immutable(&path.child("creationTimestamp"), &new.creation_timestamp, &old.creation_timestamp);
    if old.deletion_timestamp.is_some() {
        let had = old.finalizers.iter().flatten().collect::<Vec<_>>();
        let added: Vec<_> = new.finalizers.iter().flatten().filter(|f| !had.contains(f)).collect();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            errors.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            );
        }
    }
    accessories(new, &path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(errors: &FieldErrors) -> String {
        errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_fault_is_named() {
        let owner = |name: &str| OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: name.into(),
            uid: "u".into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        let metadata = ObjectMeta {
            name: Some("web".into()),
            generate_name: Some("web-".into()),
            labels: Some([("a".into(), "b c".into()), ("/x".into(), String::new())].into()),
            annotations: Some([("UPPER/case".into(), "x".repeat(ANNOTATIONS_BYTES_MAX))].into()),
            finalizers: Some(vec!["a b".into()]),
            owner_references: Some(vec![owner("a"), owner("b"), OwnerReference::default()]),
            ..ObjectMeta::default()
        };
        let mut errors = FieldErrors::new();
        validate(&metadata, Namespaced::Yes, name::dns1123_subdomain, &mut errors);
        insta::assert_snapshot!(lines(&errors), @r#"
        metadata.namespace: Required value
        metadata.labels: Invalid value: "/x": prefix part must be non-empty
        metadata.labels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        metadata.annotations: Too long: may not be more than 262144 bytes
        metadata.ownerReferences[1].controller: Invalid value: true: Only one reference can have Controller set to true. Found "true" in references for Pod/a and Pod/b
        metadata.ownerReferences[2].apiVersion: Invalid value: "": must not be empty
        metadata.ownerReferences[2].kind: Invalid value: "": must not be empty
        metadata.ownerReferences[2].name: Invalid value: "": must not be empty
        metadata.ownerReferences[2].uid: Invalid value: "": must not be empty
        metadata.finalizers[0]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        "#);
    }

    #[test]
    fn a_deleted_object_gains_no_finalizer_and_names_never_change() {
        let old = ObjectMeta {
            name: Some("a".into()),
            uid: Some("u".into()),
            finalizers: Some(vec!["x".into()]),
            deletion_timestamp: Some(crate::time::time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        let new = ObjectMeta { name: Some("b".into()), finalizers: Some(vec!["x".into(), "y".into()]), ..old.clone() };
        let mut errors = FieldErrors::new();
        validate_update(&new, &old, &mut errors);
        insta::assert_snapshot!(lines(&errors), @r#"
        metadata.name: Invalid value: "b": field is immutable
        metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"y"}
        "#);
    }
}
