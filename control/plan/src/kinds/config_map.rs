//! ConfigMap: keys and values, immutable if asked.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, Names, Scope};

/// Sum of all values (core/v1 MaxSecretSize, also for ConfigMaps).
pub(crate) const DATA_BYTES_MAX: usize = 1024 * 1024;

/// See the module.
pub struct ConfigMaps;

impl Kind for ConfigMaps {
    type Object = ConfigMap;
    const NAMES: Names = Names { singular: "configmap", short: &["cm"], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] =
        &[Column::NAME, Column::number("Data", "Number of entries in data and binaryData."), Column::AGE];

    fn validate(object: &ConfigMap, errors: &mut FieldErrors) {
        let (data, binary) = (object.data.iter().flatten(), object.binary_data.iter().flatten());
        let mut total = 0;
        for (key, value) in data {
            let path = Path::new("data").key(key);
            errors.invalid_each(&path, key, name::config_key(key));
            if object.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
                errors.invalid(&path, key, "duplicate of key present in binaryData");
            }
            total += value.len();
        }
        for (key, value) in binary {
            errors.invalid_each(&Path::new("binaryData").key(key), key, name::config_key(key));
            total += value.0.len();
        }
        if total > DATA_BYTES_MAX {
            errors.too_long(&Path::root(), DATA_BYTES_MAX);
        }
    }

    fn validate_update(new: &ConfigMap, old: &ConfigMap, errors: &mut FieldErrors) {
        if old.immutable != Some(true) {
            return;
        }
        if new.immutable != Some(true) {
            errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
        }
        if new.data != old.data {
            errors.forbidden(&Path::new("data"), "field is immutable when `immutable` is set");
        }
        if new.binary_data != old.binary_data {
            errors.forbidden(&Path::new("binaryData"), "field is immutable when `immutable` is set");
        }
    }

    fn row(object: &ConfigMap, now: Timestamp) -> Vec<Value> {
        let count = object.data.iter().flatten().count() + object.binary_data.iter().flatten().count();
        vec![common::name_cell(&object.metadata), count.into(), common::age(&object.metadata, now)]
    }
}
