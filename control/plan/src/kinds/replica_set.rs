//! ReplicaSet: so many pods of one template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use pintle_api::field::{FieldErrors, Path};
use serde_json::Value;

use super::{common, podspec};
use crate::kind::{Column, Kind, Names, Scale, Scope, Subresource};

/// See the module.
pub struct ReplicaSets;

impl Kind for ReplicaSets {
    type Object = ReplicaSet;
    const NAMES: Names = Names { singular: "replicaset", short: &["rs"], categories: &["all"] };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Scale];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::number("Desired", "Pods wanted."),
        Column::number("Current", "Pods there are."),
        Column::number("Ready", "Pods that are ready."),
        Column::AGE,
        Column::text("Containers", "Names of containers.").wide(),
        Column::text("Images", "Images of containers.").wide(),
        Column::text("Selector", "Which pods it counts.").wide(),
    ];
    const FIELDS: &'static [&'static str] = &["status.replicas"];

    fn default(object: &mut ReplicaSet) {
        let spec = &mut object.spec;
        spec.replicas.get_or_insert(1);
        spec.template.iter_mut().for_each(podspec::default_template);
    }

    fn prepare_create(object: &mut ReplicaSet) {
        object.status = None;
    }

    fn prepare_update(new: &mut ReplicaSet, old: &ReplicaSet) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut ReplicaSet, old: &ReplicaSet) {
        new.spec.clone_from(&old.spec);
    }

    fn generation_changed(new: &ReplicaSet, old: &ReplicaSet) -> Option<bool> {
        Some(new.spec != old.spec)
    }

    fn validate(object: &ReplicaSet, errors: &mut FieldErrors) {
        let (spec, path) = (&object.spec, Path::new("spec"));
        errors.non_negative(&path.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
        errors.non_negative(&path.child("minReadySeconds"), i64::from(spec.min_ready_seconds.unwrap_or(0)));
        common::workload_selector(&spec.selector, spec.template.as_ref(), "ReplicaSet", &path, errors);
        match &spec.template {
            Some(template) => podspec::validate_template(template, &path.child("template"), &["Always"], errors),
            None => errors.required(&path.child("template"), ""),
        }
    }

    fn validate_update(new: &ReplicaSet, old: &ReplicaSet, errors: &mut FieldErrors) {
        errors.immutable(&Path::new("spec").child("selector"), &new.spec.selector, &old.spec.selector);
    }

    fn row(object: &ReplicaSet, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object.spec, object.status.as_ref());
        let [containers, images] = common::container_cells(spec.template.as_ref());
        vec![
            common::name_cell(&object.metadata),
            spec.replicas.unwrap_or(0).into(),
            status.map_or(0, |status| status.replicas).into(),
            status.and_then(|status| status.ready_replicas).unwrap_or(0).into(),
            common::age(&object.metadata, now),
            containers,
            images,
            common::selector_text(Some(&spec.selector)).into(),
        ]
    }

    fn fields(object: &ReplicaSet) -> Vec<String> {
        vec![object.status.as_ref().map_or(0, |status| status.replicas).to_string()]
    }

    fn scale(object: &ReplicaSet) -> Option<Scale> {
        let spec = &object.spec;
        Some(Scale {
            wanted: spec.replicas.unwrap_or(0),
            observed: object.status.as_ref().map_or(0, |status| status.replicas),
            selector: common::selector_text(Some(&spec.selector)),
        })
    }

    fn set_scale(object: &mut ReplicaSet, replicas: i32) {
        object.spec.replicas = Some(replicas);
    }
}
