//! PriorityClass: how much a pod matters.

use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use pintle_api::field::{FieldErrors, Path};
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

const USER_VALUE_MAX: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
/// The classes every cluster has, and their values.
pub const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// See the module.
pub struct PriorityClasses;

impl Kind for PriorityClasses {
    type Object = PriorityClass;
    const NAMES: Names = Names { singular: "priorityclass", short: &["pc"], categories: &[] };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::number("Value", "The higher, the more important."),
        Column {
            name: "Global-Default",
            kind: "boolean",
            format: "",
            description: "Whether pods without a class get it.",
            priority: 0,
        },
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether its pods may displace others."),
    ];

    fn default(object: &mut PriorityClass) {
        object.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
        object.value.get_or_insert(0);
    }

    fn validate(object: &PriorityClass, errors: &mut FieldErrors) {
        let (name, value) = (object.metadata.name.as_deref().unwrap_or(""), object.value.unwrap_or(0));
        if name.starts_with(SYSTEM_PREFIX) {
            if !SYSTEM_CLASSES.contains(&(name, value)) {
                let why = "priority class names with 'system-' prefix are reserved for system use only. error: this name is not a known system class, or its value differs";
                errors.forbidden(&Path::new("metadata").child("name"), why);
            }
        } else if value > USER_VALUE_MAX {
            let why = format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
            errors.forbidden(&Path::new("value"), why);
        }
        let policies = &["Never", "PreemptLowerPriority"];
        errors.one_of(&Path::new("preemptionPolicy"), object.preemption_policy.as_deref(), policies);
    }

    fn validate_update(new: &PriorityClass, old: &PriorityClass, errors: &mut FieldErrors) {
        if new.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        errors.immutable(&Path::new("preemptionPolicy"), &new.preemption_policy, &old.preemption_policy);
    }

    fn row(object: &PriorityClass, now: Timestamp) -> Vec<Value> {
        vec![
            common::name_cell(&object.metadata),
            object.value.unwrap_or(0).into(),
            object.global_default.unwrap_or(false).into(),
            common::age(&object.metadata, now),
            object.preemption_policy.clone().unwrap_or_default().into(),
        ]
    }
}
