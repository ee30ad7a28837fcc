//! ServiceAccount: an identity for pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use pintle_api::field::FieldErrors;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope, Subresource};

/// See the module.
pub struct ServiceAccounts;

impl Kind for ServiceAccounts {
    type Object = ServiceAccount;
    const NAMES: Names = Names { singular: "serviceaccount", short: &["sa"], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::number("Secrets", "Number of Secrets pods may use."), Column::AGE];

    fn validate(_object: &ServiceAccount, _errors: &mut FieldErrors) {}

    fn row(object: &ServiceAccount, now: Timestamp) -> Vec<Value> {
        let secrets = object.secrets.iter().flatten().count();
        vec![common::name_cell(&object.metadata), secrets.into(), common::age(&object.metadata, now)]
    }
}
