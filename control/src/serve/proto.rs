//! Request bodies in Kubernetes' protobuf envelope, turned into JSON by tables of field numbers.
//!
//! Owns: the envelope (`k8s\0` and runtime.Unknown), the wire format, and the messages of what is asked and not stored
//! (reviews, evictions, deletions, token requests); those of the kinds are in `messages`. Clients of Go's typed kind send
//! protobuf without being able to fall back to JSON. Does not own: answers, which are JSON, and which every client
//! takes. Field numbers: generated.proto of k8s.io/api and k8s.io/apimachinery.

mod messages;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use pintle_api::status;
use serde_json::{Map, Value, json};

use super::answer::Failure;

const MAGIC: &[u8] = b"k8s\0";

/// How a field's bytes read.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Bytes,
    Bool,
    Int,
    /// metav1.Time: seconds and nanoseconds.
    Time,
    /// metav1.MicroTime: the same, shown with microseconds.
    MicroTime,
    /// A message of one text.
    Quantity,
    /// Which of the two, the number, the text.
    IntOrString,
    /// A message of bytes that are JSON themselves.
    Json,
    Message(&'static [Field]),
    /// A message whose fields are its parent's in JSON.
    Inline(&'static [Field]),
    /// Entries of key 1 and value 2, both text.
    TextMap,
    /// Entries of text key 1 and bytes at 2.
    BytesMap,
    /// Entries of text key 1 and a Quantity at 2.
    QuantityMap,
    /// Entries of text key 1 and a message at 2 that holds repeated text at 1 (`ExtraValue`).
    TextListMap,
}

/// One field: number, JSON name, type, whether it repeats.
struct Field(u32, &'static str, Type, Repeat);

#[derive(Clone, Copy, PartialEq)]
enum Repeat {
    No,
    Yes,
    /// Once, and a zero is as good as absent.
    Zero,
}
use Repeat::{No, Yes};

const OBJECT_META: &[Field] = &[
    Field(1, "name", Type::Text, No),
    Field(2, "generateName", Type::Text, No),
    Field(3, "namespace", Type::Text, No),
    Field(5, "uid", Type::Text, No),
    Field(6, "resourceVersion", Type::Text, No),
    Field(7, "generation", Type::Int, No),
    Field(8, "creationTimestamp", Type::Time, No),
    Field(9, "deletionTimestamp", Type::Time, No),
    Field(10, "deletionGracePeriodSeconds", Type::Int, No),
    Field(11, "labels", Type::TextMap, No),
    Field(12, "annotations", Type::TextMap, No),
    Field(14, "finalizers", Type::Text, Yes),
];

const PRECONDITIONS: &[Field] = &[Field(1, "uid", Type::Text, No), Field(2, "resourceVersion", Type::Text, No)];

const DELETE_OPTIONS: &[Field] = &[
    Field(1, "gracePeriodSeconds", Type::Int, No),
    Field(2, "preconditions", Type::Message(PRECONDITIONS), No),
    Field(3, "orphanDependents", Type::Bool, No),
    Field(4, "propagationPolicy", Type::Text, No),
    Field(5, "dryRun", Type::Text, Yes),
    Field(6, "ignoreStoreReadErrorWithClusterBreakingPotential", Type::Bool, No),
];

const EVICTION: &[Field] = &[
    Field(1, "metadata", Type::Message(OBJECT_META), No),
    Field(2, "deleteOptions", Type::Message(DELETE_OPTIONS), No),
];

const LABEL_REQUIREMENT: &[Field] =
    &[Field(1, "key", Type::Text, No), Field(2, "operator", Type::Text, No), Field(3, "values", Type::Text, Yes)];

const SELECTOR_ATTRIBUTES: &[Field] =
    &[Field(1, "rawSelector", Type::Text, No), Field(2, "requirements", Type::Message(LABEL_REQUIREMENT), Yes)];

const RESOURCE_ATTRIBUTES: &[Field] = &[
    Field(1, "namespace", Type::Text, No),
    Field(2, "verb", Type::Text, No),
    Field(3, "group", Type::Text, No),
    Field(4, "version", Type::Text, No),
    Field(5, "resource", Type::Text, No),
    Field(6, "subresource", Type::Text, No),
    Field(7, "name", Type::Text, No),
    Field(8, "fieldSelector", Type::Message(SELECTOR_ATTRIBUTES), No),
    Field(9, "labelSelector", Type::Message(SELECTOR_ATTRIBUTES), No),
];

const PATH_ATTRIBUTES: &[Field] = &[Field(1, "path", Type::Text, No), Field(2, "verb", Type::Text, No)];

const SELF_ACCESS_SPEC: &[Field] = &[
    Field(1, "resourceAttributes", Type::Message(RESOURCE_ATTRIBUTES), No),
    Field(2, "nonResourceAttributes", Type::Message(PATH_ATTRIBUTES), No),
];

const ACCESS_SPEC: &[Field] = &[
    Field(1, "resourceAttributes", Type::Message(RESOURCE_ATTRIBUTES), No),
    Field(2, "nonResourceAttributes", Type::Message(PATH_ATTRIBUTES), No),
    Field(3, "user", Type::Text, No),
    Field(4, "groups", Type::Text, Yes),
    Field(5, "extra", Type::TextListMap, No),
    Field(6, "uid", Type::Text, No),
];

const RULES_SPEC: &[Field] = &[Field(1, "namespace", Type::Text, No)];

const TOKEN_REVIEW_SPEC: &[Field] = &[Field(1, "token", Type::Text, No), Field(2, "audiences", Type::Text, Yes)];

const BOUND_OBJECT: &[Field] = &[
    Field(1, "kind", Type::Text, No),
    Field(2, "apiVersion", Type::Text, No),
    Field(3, "name", Type::Text, No),
    Field(4, "uid", Type::Text, No),
];

const TOKEN_SPEC: &[Field] = &[
    Field(1, "audiences", Type::Text, Yes),
    Field(3, "boundObjectRef", Type::Message(BOUND_OBJECT), No),
    Field(4, "expirationSeconds", Type::Int, No),
];

const fn with_spec(spec: &'static [Field]) -> [Field; 2] {
    [Field(1, "metadata", Type::Message(OBJECT_META), No), Field(2, "spec", Type::Message(spec), No)]
}

const SELF_SUBJECT_REVIEW: &[Field] = &[Field(1, "metadata", Type::Message(OBJECT_META), No)];
const SELF_ACCESS_REVIEW: [Field; 2] = with_spec(SELF_ACCESS_SPEC);
const ACCESS_REVIEW: [Field; 2] = with_spec(ACCESS_SPEC);
const RULES_REVIEW: [Field; 2] = with_spec(RULES_SPEC);
const TOKEN_REVIEW: [Field; 2] = with_spec(TOKEN_REVIEW_SPEC);
const TOKEN_REQUEST: [Field; 2] = with_spec(TOKEN_SPEC);

const SCALE_SPEC: &[Field] = &[Field(1, "replicas", Type::Int, No)];
const SCALE: [Field; 2] = with_spec(SCALE_SPEC);

const BINDING: &[Field] = &[
    Field(1, "metadata", Type::Message(OBJECT_META), No),
    Field(
        2,
        "target",
        Type::Message(&[
            Field(1, "kind", Type::Text, No),
            Field(2, "namespace", Type::Text, No),
            Field(3, "name", Type::Text, No),
            Field(4, "uid", Type::Text, No),
            Field(5, "apiVersion", Type::Text, No),
        ]),
        No,
    ),
];

/// Messages by kind; DeleteOptions come under any group.
fn message(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "DeleteOptions" => DELETE_OPTIONS,
        "Eviction" => EVICTION,
        "SelfSubjectReview" => SELF_SUBJECT_REVIEW,
        "SelfSubjectAccessReview" => &SELF_ACCESS_REVIEW,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => &ACCESS_REVIEW,
        "SelfSubjectRulesReview" => &RULES_REVIEW,
        "TokenReview" => &TOKEN_REVIEW,
        "TokenRequest" => &TOKEN_REQUEST,
        "Scale" => &SCALE,
        "Binding" => BINDING,
        _ => return messages::of(api_version, kind),
    })
}

/// Why bytes are not what their envelope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum WireError {
    #[error("the message ends in the middle of a field")]
    Truncated,
    #[error("a field has a wire type that protobuf does not know")]
    WireType,
    #[error("a field is of another type than its number says")]
    Mismatch,
    #[error("text is not UTF-8")]
    Text,
    #[error("a field that holds JSON holds something else")]
    Json,
}

/// A body in the envelope, as JSON.
///
/// # Errors
/// 400 if it is malformed; 415 for kinds without a table.
pub fn to_json(body: &[u8]) -> Result<Bytes, Failure> {
    let malformed = |error: WireError| status::bad_request(format!("cannot decode the protobuf body: {error}"));
    let Some(envelope) = body.strip_prefix(MAGIC) else {
        return Err(status::bad_request("the protobuf body does not begin with the Kubernetes envelope").into());
    };
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field.map_err(malformed)? {
            (1, Wire::Bytes(type_meta)) => (api_version, kind) = read_type_meta(type_meta).map_err(malformed)?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(fields) = message(&api_version, &kind) else {
        let mut status = status::unsupported_media_type(&["application/json", "application/yaml"]);
        let shown = if kind.is_empty() { "objects without a kind" } else { &kind };
        status.message = Some(format!("{shown} cannot be sent as protobuf to this server; send application/json"));
        return Err(status.into());
    };
    let mut object = decode(fields, raw).map_err(malformed)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object).to_string().into())
}

fn read_type_meta(bytes: &[u8]) -> Result<(String, String), WireError> {
    let (mut api_version, mut kind) = (String::new(), String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
            (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
            _ => {}
        }
    }
    Ok((api_version, kind))
}

fn decode(fields: &[Field], bytes: &[u8]) -> Result<Map<String, Value>, WireError> {
    let mut object = Map::new();
    for found in Fields(bytes) {
        let (number, wire) = found?;
        // Fields of newer clients are skipped, as JSON's unknown fields are.
        let Some(Field(_, name, kind, repeat)) = fields.iter().find(|field| field.0 == number) else { continue };
        match *kind {
            Type::TextMap | Type::TextListMap | Type::BytesMap | Type::QuantityMap => {
                let (key, value) = map_entry(*kind, wire)?;
                if let Value::Object(map) = object.entry(*name).or_insert_with(|| json!({})) {
                    map.insert(key, value);
                }
            }
            Type::Inline(fields) => {
                let Wire::Bytes(bytes) = wire else { return Err(WireError::Mismatch) };
                object.extend(decode(fields, bytes)?);
            }
            kind => add(&mut object, name, value(kind, wire)?, *repeat),
        }
    }
    // Go writes empty strings where JSON has no field; what is empty here is absent there.
    object.retain(|_, value| value.as_str() != Some(""));
    Ok(object)
}

fn add(object: &mut Map<String, Value>, name: &str, value: Value, repeat: Repeat) {
    match repeat {
        Repeat::Yes => {
            if let Value::Array(list) = object.entry(name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        }
        Repeat::Zero if value == json!(0) || value == json!(false) => {}
        Repeat::Zero | Repeat::No if value.is_null() => {}
        Repeat::Zero | Repeat::No => {
            object.insert(name.to_owned(), value);
        }
    }
}

fn value(kind: Type, wire: Wire<'_>) -> Result<Value, WireError> {
    Ok(match (kind, wire) {
        (Type::Text, Wire::Bytes(bytes)) => json!(text(bytes)?),
        (Type::Bool, Wire::Number(number)) => json!(number != 0),
        // Negative numbers are sent as their two's complement in 64 bits.
        (Type::Int, Wire::Number(number)) => json!(number.cast_signed()),
        (Type::Bytes, Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Type::Time, Wire::Bytes(bytes)) => time(bytes, pintle_api::time::rfc3339)?,
        (Type::MicroTime, Wire::Bytes(bytes)) => time(bytes, pintle_api::time::rfc3339_micro)?,
        (Type::Quantity, Wire::Bytes(bytes)) => json!(text(first(bytes)?)?),
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Type::Json, Wire::Bytes(bytes)) => serde_json::from_slice(first(bytes)?).map_err(|_| WireError::Json)?,
        (Type::Message(fields), Wire::Bytes(bytes)) => Value::Object(decode(fields, bytes)?),
        _ => return Err(WireError::Mismatch),
    })
}

fn map_entry(kind: Type, wire: Wire<'_>) -> Result<(String, Value), WireError> {
    let Wire::Bytes(entry) = wire else { return Err(WireError::Mismatch) };
    let (mut key, mut value) = (String::new(), Value::String(String::new()));
    for field in Fields(entry) {
        match (field?, kind) {
            ((1, Wire::Bytes(bytes)), _) => key = text(bytes)?,
            ((2, Wire::Bytes(bytes)), Type::TextListMap) => {
                let items = Fields(bytes).map(|item| match item? {
                    (_, Wire::Bytes(bytes)) => text(bytes).map(Value::String),
                    _ => Err(WireError::Mismatch),
                });
                value = items.collect::<Result<Vec<_>, _>>()?.into();
            }
            ((2, Wire::Bytes(bytes)), Type::BytesMap) => value = STANDARD.encode(bytes).into(),
            ((2, Wire::Bytes(bytes)), Type::QuantityMap) => value = text(first(bytes)?)?.into(),
            ((2, Wire::Bytes(bytes)), _) => value = text(bytes)?.into(),
            _ => {}
        }
    }
    Ok((key, value))
}

/// The bytes of a message's first field; none if it has none.
fn first(bytes: &[u8]) -> Result<&[u8], WireError> {
    let mut found = &[][..];
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            found = bytes;
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, WireError> {
    let (mut is_text, mut number, mut word) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(found)) => number = found.cast_signed(),
            (3, Wire::Bytes(bytes)) => word = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(word) } else { json!(number) })
}

/// An all-zero time is Go's "no time".
fn time(bytes: &[u8], show: fn(Timestamp) -> String) -> Result<Value, WireError> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => nanoseconds = i32::try_from(number.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanoseconds).ok().filter(|_| seconds != 0);
    Ok(time.map_or(Value::Null, |time| show(time).into()))
}

fn text(bytes: &[u8]) -> Result<String, WireError> {
    std::str::from_utf8(bytes).map(ToOwned::to_owned).map_err(|_| WireError::Text)
}

/// What a field holds on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order; stops at the first that is malformed.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Truncated)?;
            self.0 = rest;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(WireError::Truncated)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WireError> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or(WireError::Truncated)?;
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::WireType)?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let count = self.varint()?;
                Wire::Bytes(self.take(count)?)
            }
            5 => Wire::Bytes(self.take(4)?),
            _ => return Err(WireError::WireType),
        };
        Ok((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC, &bytes(1, &type_meta), &bytes(2, raw), &bytes(3, b""), &bytes(4, b"")].concat()
    }

    fn json(body: &[u8]) -> String {
        match to_json(body) {
            Ok(json) => String::from_utf8(json.to_vec()).unwrap(),
            Err(failure) => format!("{} {}", failure.0.code.unwrap(), failure.0.message.unwrap()),
        }
    }

    #[test]
    fn reviews_evictions_and_deletions_read_as_json() {
        let attributes = [bytes(1, b"default"), bytes(2, b"list"), bytes(3, b""), bytes(5, b"pods")].concat();
        let review = bytes(2, &bytes(1, &attributes));
        let zero_time = bytes(8, &[]);
        let meta = [bytes(1, b"web-1"), bytes(3, b"default"), zero_time].concat();
        // gracePeriodSeconds −1, in ten bytes.
        let grace = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        let options = [grace, bytes(5, b"All")].concat();
        let eviction = [bytes(1, &meta), bytes(2, &options)].concat();
        let shown = [
            json(&envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", &review)),
            json(&envelope("policy/v1", "Eviction", &eviction)),
        ];
        insta::assert_snapshot!(shown.join("\n"), @r#"
        {"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"namespace":"default","resource":"pods","verb":"list"}}}
        {"apiVersion":"policy/v1","deleteOptions":{"dryRun":["All"],"gracePeriodSeconds":-1},"kind":"Eviction","metadata":{"name":"web-1","namespace":"default"}}
        "#);
    }

    #[test]
    fn kinds_read_as_their_json() {
        let meta = bytes(1, &bytes(1, b"s"));
        let data = bytes(2, &[bytes(1, b"k"), bytes(2, &[0, 1])].concat());
        let limits = bytes(1, &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat());
        let probe = [bytes(1, &bytes(2, &bytes(2, &[0x08, 0x00, 0x10, 0x50]))), vec![0x18, 0x00]].concat();
        let container = [bytes(1, b"a"), bytes(8, &limits), bytes(10, &probe)].concat();
        let spec = [bytes(2, &container), vec![0x20, 0x00], vec![0x58, 0x00]].concat();
        let shown = [
            json(&envelope("v1", "Secret", &[meta.clone(), data].concat())),
            json(&envelope("v1", "Pod", &[meta, bytes(2, &spec)].concat())),
        ];
        insta::assert_snapshot!(shown.join("\n"), @r#"
        {"apiVersion":"v1","data":{"k":"AAE="},"kind":"Secret","metadata":{"name":"s"}}
        {"apiVersion":"v1","kind":"Pod","metadata":{"name":"s"},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":80}},"name":"a","resources":{"limits":{"cpu":"500m"}}}],"terminationGracePeriodSeconds":0}}
        "#);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_reason() {
        let shown = [
            json(b"{}"),
            json(&envelope("example.com/v1", "Thing", b"")),
            json(&envelope("v1", "DeleteOptions", &[0x0a, 0x7f])),
            json(&envelope("v1", "DeleteOptions", &bytes(1, b"x"))),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        400 the protobuf body does not begin with the Kubernetes envelope
        415 Thing cannot be sent as protobuf to this server; send application/json
        400 cannot decode the protobuf body: the message ends in the middle of a field
        400 cannot decode the protobuf body: a field is of another type than its number says
        ");
    }
}
