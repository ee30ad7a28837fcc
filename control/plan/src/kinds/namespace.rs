//! Namespace: phases, the `kubernetes` finalizer and the name label.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, NameRule, Names, Scope, Subresource};

/// Held by every namespace until the namespace controller has emptied it.
pub const FINALIZER: &str = "kubernetes";
/// Carries the namespace's own name, for selectors.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// See the module.
pub struct Namespaces;

impl Kind for Namespaces {
    type Object = Namespace;
    const NAMES: Names = Names { singular: "namespace", short: &["ns"], categories: &[] };
    const SCOPE: Scope = Scope::Cluster;
    const NAME_RULE: NameRule = NameRule::Label;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Finalize];
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::text("Status", "Active or Terminating."), Column::AGE];
    const FIELDS: &'static [&'static str] = &["status.phase"];

    fn default(object: &mut Namespace) {
        if let Some(name) = object.metadata.name.clone().filter(|name| !name.is_empty()) {
            object.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
        if object.status.as_ref().is_none_or(|status| status.phase.is_none()) {
            object.status.get_or_insert_default().phase = Some("Active".to_owned());
        }
    }

    fn prepare_create(object: &mut Namespace) {
        object.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
        let finalizers = object.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_update(new: &mut Namespace, old: &Namespace) {
        // Only /finalize may change spec.finalizers.
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Namespace, errors: &mut FieldErrors) {
        let finalizers = object.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        for (index, finalizer) in finalizers.enumerate() {
            let path = Path::new("spec").child("finalizers").index(index);
            errors.invalid_each(&path, finalizer, name::qualified(finalizer));
        }
    }

    fn row(object: &Namespace, now: Timestamp) -> Vec<Value> {
        vec![common::name_cell(&object.metadata), phase(object).into(), common::age(&object.metadata, now)]
    }

    fn deletion_began(object: &mut Namespace) {
        object.status.get_or_insert_default().phase = Some("Terminating".to_owned());
    }

    fn is_held(object: &Namespace) -> bool {
        let finalizers = object.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        finalizers.is_some_and(|finalizers| !finalizers.is_empty())
    }

    fn fields(object: &Namespace) -> Vec<String> {
        vec![phase(object)]
    }
}

fn phase(object: &Namespace) -> String {
    object.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}
