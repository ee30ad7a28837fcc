//! ControllerRevision: an immutable snapshot of a workload's template.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::owner;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

/// See the module.
pub struct ControllerRevisions;

impl Kind for ControllerRevisions {
    type Object = ControllerRevision;
    const NAMES: Names = Names { singular: "controllerrevision", short: &[], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Controller", "Which workload it belongs to."),
        Column::number("Revision", "Its number."),
        Column::AGE,
    ];

    fn validate(object: &ControllerRevision, errors: &mut FieldErrors) {
        errors.non_negative(&Path::new("revision"), object.revision.unwrap_or(0));
    }

    fn validate_update(new: &ControllerRevision, old: &ControllerRevision, errors: &mut FieldErrors) {
        errors.immutable(&Path::new("data"), &new.data, &old.data);
    }

    fn row(object: &ControllerRevision, now: Timestamp) -> Vec<Value> {
        let controller = owner::controller(&object.metadata).map(|owner| {
            let group = owner.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
        });
        vec![
            common::name_cell(&object.metadata),
            common::or_none(controller.as_deref()),
            object.revision.unwrap_or(0).into(),
            common::age(&object.metadata, now),
        ]
    }
}
