//! Lease: a heartbeat, or who leads.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use pintle_api::field::{FieldErrors, Path};
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

/// See the module.
pub struct Leases;

impl Kind for Leases {
    type Object = Lease;
    const NAMES: Names = Names { singular: "lease", short: &[], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::text("Holder", "Who holds it."), Column::AGE];

    fn validate(object: &Lease, errors: &mut FieldErrors) {
        let (Some(spec), path) = (&object.spec, Path::new("spec")) else { return };
        if let Some(duration_s) = spec.lease_duration_seconds.filter(|duration_s| *duration_s <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), duration_s, "must be greater than 0");
        }
        if let Some(count) = spec.lease_transitions {
            errors.non_negative(&path.child("leaseTransitions"), i64::from(count));
        }
    }

    fn row(object: &Lease, now: Timestamp) -> Vec<Value> {
        let holder = object.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        vec![common::name_cell(&object.metadata), holder.into(), common::age(&object.metadata, now)]
    }
}
