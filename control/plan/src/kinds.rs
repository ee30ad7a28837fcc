//! One file per kind: defaults, rules, columns.
//!
//! Owns: nothing itself but a few helpers that many kinds' rows share. To add a kind: one file here, one line in
//! [`crate::registry::KINDS`]; the registry's tests then demand the rest.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

pub mod config_map;
pub mod namespace;

/// The `Name` cell.
pub(crate) fn name(metadata: &ObjectMeta) -> Value {
    metadata.name.clone().unwrap_or_default().into()
}

/// The `Age` cell.
pub(crate) fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    pintle_api::time::age(metadata.creation_timestamp.as_ref(), now).into()
}
