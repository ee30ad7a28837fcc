//! Secret: typed bytes; `stringData` is a way to write, never stored.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::name;
use serde_json::Value;

use super::common;
use super::config_map::DATA_BYTES_MAX;
use crate::kind::{Column, Kind, Names, Scope};

const OPAQUE: &str = "Opaque";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// See the module.
pub struct Secrets;

impl Kind for Secrets {
    type Object = Secret;
    const NAMES: Names = Names { singular: "secret", short: &[], categories: &[] };
    const SCOPE: Scope = Scope::Namespaced;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Type", "What the data is for."),
        Column::number("Data", "Number of entries."),
        Column::AGE,
    ];
    const FIELDS: &'static [&'static str] = &["type"];

    fn default(object: &mut Secret) {
        if object.type_.as_deref().is_none_or(str::is_empty) {
            object.type_ = Some(OPAQUE.to_owned());
        }
        for (key, text) in object.string_data.take().into_iter().flatten() {
            object.data.get_or_insert_default().insert(key, ByteString(text.into_bytes()));
        }
    }

    fn validate(object: &Secret, errors: &mut FieldErrors) {
        let path = Path::new("data");
        let mut total = 0;
        for (key, value) in object.data.iter().flatten() {
            errors.invalid_each(&path.key(key), key, name::config_key(key));
            total += value.0.len();
        }
        if total > DATA_BYTES_MAX {
            errors.too_long(&path, DATA_BYTES_MAX);
        }
        by_type(object, &path, errors);
    }

    fn validate_update(new: &Secret, old: &Secret, errors: &mut FieldErrors) {
        errors.immutable(&Path::new("type"), &new.type_, &old.type_);
        if old.immutable == Some(true) {
            if new.immutable != Some(true) {
                errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
            }
            if new.data != old.data {
                errors.forbidden(&Path::new("data"), "field is immutable when `immutable` is set");
            }
        }
    }

    fn row(object: &Secret, now: Timestamp) -> Vec<Value> {
        vec![
            common::name_cell(&object.metadata),
            object.type_.clone().unwrap_or_default().into(),
            object.data.iter().flatten().count().into(),
            common::age(&object.metadata, now),
        ]
    }

    fn fields(object: &Secret) -> Vec<String> {
        vec![object.type_.clone().unwrap_or_default()]
    }
}

fn by_type(secret: &Secret, path: &Path, errors: &mut FieldErrors) {
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let mut require = |key: &str| {
        if value(key).is_none() {
            errors.required(&path.key(key), "");
        }
    };
    match secret.type_.as_deref().unwrap_or(OPAQUE) {
        "kubernetes.io/dockercfg" => require(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => {
            require(".dockerconfigjson");
            let json = value(".dockerconfigjson");
            if json.is_some_and(|json| serde_json::from_slice::<serde::de::IgnoredAny>(&json.0).is_err()) {
                errors.invalid(&path.key(".dockerconfigjson"), "<secret contents redacted>", "invalid JSON");
            }
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" => require("ssh-privatekey"),
        "kubernetes.io/tls" => {
            require("tls.crt");
            require("tls.key");
        }
        "kubernetes.io/service-account-token" => {
            let named = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ACCOUNT_NAME));
            if named.is_none_or(String::is_empty) {
                errors.required(&Path::new("metadata").child("annotations").key(ACCOUNT_NAME), "");
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn string_data_becomes_data_and_wins() {
        let mut secret: Secret =
            serde_json::from_str(r#"{"data":{"a":"eA=="},"stringData":{"a":"y","b":"z"}}"#).unwrap();
        Secrets::default(&mut secret);
        assert_eq!(secret.string_data, None);
        let data = secret.data.unwrap();
        assert_eq!((data["a"].0.as_slice(), data["b"].0.as_slice()), (b"y".as_slice(), b"z".as_slice()));
        assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    }

    #[test]
    fn types_demand_their_keys() {
        let complaints = |json: &str| {
            let mut errors = FieldErrors::new();
            Secrets::validate(&serde_json::from_str(json).unwrap(), &mut errors);
            errors.summary()
        };
        let lines: Vec<String> = [
            r#"{"type":"kubernetes.io/tls","data":{"tls.crt":""}}"#,
            r#"{"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"eA=="}}"#,
            r#"{"type":"kubernetes.io/basic-auth"}"#,
            r#"{"type":"kubernetes.io/service-account-token"}"#,
            r#"{"data":{"a b":""}}"#,
        ]
        .iter()
        .map(|json| complaints(json))
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        data[tls.key]: Required value
        data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid JSON
        [data[username]: Required value, data[password]: Required value]
        metadata.annotations[kubernetes.io/service-account.name]: Required value
        data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        "#);
    }
}
