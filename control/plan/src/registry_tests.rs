//! Rules every kind obeys, checked over the whole registry.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

/// A minimal object of a kind; defaults and decoding fill the rest.
fn minimal(kind: &dyn DynKind) -> Box<dyn Object> {
    kind.decode_own(br#"{"metadata":{"name":"x","namespace":"default"}}"#).unwrap()
}

#[test]
fn names_are_unique() {
    let mut kinds = HashSet::new();
    let mut plurals = HashSet::new();
    for kind in KINDS {
        assert!(kinds.insert((kind.api_version(), kind.kind())), "{kind:?} twice");
        assert!(plurals.insert((kind.group(), kind.version(), kind.plural())), "{kind:?}: plural twice");
        assert!(by_kind(kind.api_version(), kind.kind()).is_some());
        assert!(by_resource(kind.group(), kind.version(), kind.plural()).is_some());
    }
    let mut shorts = HashSet::new();
    for kind in KINDS.iter().filter(|kind| kind.stored_as() == (kind.group(), kind.plural())) {
        for short in kind.names().short.iter().chain([&kind.names().singular]) {
            assert!(shorts.insert(*short), "{short} twice");
        }
    }
}

#[test]
fn defaulting_twice_is_defaulting_once() {
    for kind in KINDS {
        let mut once = minimal(*kind);
        once.default();
        let mut twice = once.clone();
        twice.default();
        assert!(once.equals(&*twice), "{kind:?}");
    }
}

#[test]
fn objects_survive_encoding_with_type_first() {
    for kind in KINDS {
        let mut object = minimal(*kind);
        object.default();
        let json = object.encode();
        let start = format!(r#"{{"apiVersion":"{}","kind":"{}","#, kind.api_version(), kind.kind());
        assert!(json.starts_with(start.as_bytes()), "{kind:?}");
        assert!(kind.decode_own(&json).unwrap().equals(&*object), "{kind:?}");
        assert!(kind.decode(&object.encode_stored()).unwrap().equals(&*object), "{kind:?}: stored");
        assert_eq!(kind.is_view(), json != object.encode_stored(), "{kind:?}");
    }
}

#[test]
fn rows_and_fields_match_their_names() {
    for kind in KINDS {
        let mut object = minimal(*kind);
        assert_eq!(object.row(Timestamp::UNIX_EPOCH).len(), kind.columns().len(), "{kind:?}");
        object.default();
        assert_eq!(object.row(Timestamp::UNIX_EPOCH).len(), kind.columns().len(), "{kind:?}");
        assert_eq!(object.fields().len(), kind.field_names().len(), "{kind:?}");
        assert_eq!(object.field("metadata.name").as_deref(), Some("x"));
        assert_eq!(object.field("no.such"), None);
    }
}

/// JSON of everything but metadata, split in (status, rest).
fn parts(object: &dyn Object) -> (Value, Value) {
    let mut json: Value = serde_json::from_slice(&object.encode()).unwrap();
    let map = json.as_object_mut().unwrap();
    map.remove("metadata");
    (map.remove("status").unwrap_or_default(), json)
}

#[test]
fn status_writes_cannot_change_the_rest_nor_the_reverse() {
    for kind in KINDS.iter().filter(|kind| kind.subresources().contains(&Subresource::Status)) {
        let mut old = minimal(*kind);
        old.default();
        let new = minimal(*kind);

        let mut by_status = new.clone();
        by_status.prepare_status(&*old);
        assert_eq!(parts(&*by_status).1, parts(&*old).1, "{kind:?}: /status changed the rest");

        let mut by_main = new.clone();
        by_main.prepare_update(&*old);
        assert_eq!(parts(&*by_main).0, parts(&*old).0, "{kind:?}: an update changed status");
    }
}

#[test]
fn requests_may_leave_out_their_type_but_not_lie() {
    let kind = by_kind("v1", "ConfigMap").unwrap();
    assert!(kind.decode_request(b"{}").is_ok());
    let bodies = [r#"{"apiVersion":"v2"}"#, r#"{"kind":"Pod"}"#, r#"{"data":{"a":1}}"#, r#"{"data":"#, "[]"];
    let texts: Vec<String> =
        bodies.iter().map(|body| kind.decode_request(body.as_bytes()).err().unwrap().message.unwrap()).collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    the API version in the data (v2) does not match the expected API version (v1)
    the kind in the data (Pod) does not match the expected kind (ConfigMap)
    ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data.a of type string
    couldn't get version/kind; json parse error: EOF while parsing a value at line 1 column 8
    couldn't get version/kind; json parse error: invalid type: sequence, expected an object at line 1 column 0
    "#);
    let decoded = kind.decode_request(br#"{"data":{"a":"1","a":"2"},"dta":{}}"#).ok().unwrap();
    let strict = kind.strict_error(&decoded.complaints).unwrap();
    insta::assert_snapshot!(strict.message.unwrap(), @r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data.a", unknown field "dta""#);
    assert_eq!(decoded.object.downcast_ref::<ConfigMap>().unwrap().data.as_ref().unwrap()["a"], "2");
}

#[test]
fn quantities_may_be_written_as_numbers() {
    let kind = by_kind("v1", "Pod").unwrap();
    let body = br#"{"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":2}}}]}}"#;
    let decoded = kind.decode_request(body).ok().unwrap();
    assert_eq!(decoded.complaints, Vec::<String>::new());
    assert!(format!("{:?}", decoded.object).contains(r#""limits":{"cpu":"2"}"#));
    let body = br#"{"spec":{"containers":[{"name":"a","env":[{"name":"A","value":2}]}]}}"#;
    let error = kind.decode_request(body).err().unwrap().message.unwrap();
    assert!(
        error.ends_with(
            "cannot unmarshal number into Go struct field Pod.spec.containers[0].env[0].value of type string"
        )
    );
}
