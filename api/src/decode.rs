//! What is wrong with a request body beyond "it does not parse": unknown fields, duplicate fields, the path of a type
//! error.
//!
//! Owns: the strict check (`fieldValidation`) and its sentences. Does not own: typing; the caller decodes and encodes.
//!
//! Unknown fields are found by comparing the body with what the decoded object encodes to: what did not survive was
//! unknown. That needs no second deserializer per type (serde_ignored would double the largest generated code we have).

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Unknown and duplicate fields of `body`, in the order of the document, e.g. `unknown field "spec.foo"`.
/// `known` is what the decoded object encodes to; `recode` decodes another body and encodes it again, `None` if it
/// cannot be decoded. Malformed JSON yields what was found before the fault.
pub fn strict_complaints(body: &[u8], known: &Value, recode: &dyn Fn(&[u8]) -> Option<Value>) -> Vec<String> {
    let mut out = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let walk = Walk { known: Some(known), path: String::new(), place: Vec::new(), out: &mut out };
    // A syntax error was already reported by the typed decoder, which saw the same bytes.
    drop(walk.deserialize(&mut deserializer));
    let is_unknown = |place: &Place| is_unknown(body, place, recode);
    out.into_iter().filter(|c| c.null_at.as_ref().is_none_or(is_unknown)).map(|c| c.text).collect()
}

/// A null that did not survive decoding says nothing about its field: a known one is absent too. With `true` in its
/// place a known field survives or is a type error; only an unknown one vanishes.
fn is_unknown(body: &[u8], place: &Place, recode: &dyn Fn(&[u8]) -> Option<Value>) -> bool {
    let Ok(mut probe) = serde_json::from_slice::<Value>(body) else { return false };
    let Some(null) = place.iter().try_fold(&mut probe, |at, step| step.of_mut(at)) else { return false };
    *null = Value::Bool(true);
    let Some(recoded) = recode(probe.to_string().as_bytes()) else { return false };
    place.iter().try_fold(&recoded, |at, step| step.of(at)).is_none()
}

/// The way to a value.
type Place = Vec<Step>;

#[derive(Clone)]
enum Step {
    Field(String),
    Item(usize),
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Step::Field(name) => value.get(name),
            Step::Item(index) => value.get(index),
        }
    }
    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        match self {
            Step::Field(name) => value.get_mut(name),
            Step::Item(index) => value.get_mut(index),
        }
    }
}

/// One thing that may be wrong.
struct Complaint {
    text: String,
    /// Where the null is on which it depends.
    null_at: Option<Place>,
}

/// Duplicate fields alone, for bodies without a type (patches).
pub fn duplicate_fields(body: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let walk = Walk { known: None, path: String::new(), place: Vec::new(), out: &mut out };
    // As above: the caller's own parse reports syntax errors.
    drop(walk.deserialize(&mut deserializer));
    out.into_iter().map(|c| c.text).collect()
}

/// `strict decoding error: unknown field "spec.foo", duplicate field "spec.bar"`.
pub fn strict_message(complaints: &[String]) -> String {
    format!("strict decoding error: {}", complaints.join(", "))
}

/// Walks a document beside what is known of it; answers whether the value was null.
struct Walk<'a> {
    known: Option<&'a Value>,
    path: String,
    place: Place,
    out: &'a mut Vec<Complaint>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = bool;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if seen.contains(&key) {
                self.out.push(Complaint { text: format!("duplicate field {path:?}"), null_at: None });
            }
            let known = self.known.and_then(|known| known.get(&key));
            let at = self.out.len();
            let place = [self.place.as_slice(), &[Step::Field(key.clone())]].concat();
            let walk = Walk { known, path: path.clone(), place: place.clone(), out: &mut *self.out };
            let null = map.next_value_seed(walk)?;
            let missing = self.known.is_some_and(Value::is_object) && known.is_none();
            if missing && !seen.contains(&key) {
                let null_at = null.then_some(place);
                self.out.insert(at, Complaint { text: format!("unknown field {path:?}"), null_at });
            }
            seen.insert(key);
        }
        Ok(false)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        for index in 0.. {
            let known = self.known.and_then(|known| known.get(index));
            let path = format!("{}[{index}]", self.path);
            let place = [self.place.as_slice(), &[Step::Item(index)]].concat();
            if seq.next_element_seed(Walk { known, path, place, out: &mut *self.out })?.is_none() {
                break;
            }
        }
        Ok(false)
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(true)
    }
    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
}

/// apiVersion and kind of a body; an error names what is malformed.
pub fn type_meta(body: &[u8]) -> Result<(String, String), serde_json::Error> {
    struct TypeMeta;
    impl<'de> Visitor<'de> for TypeMeta {
        type Value = (String, String);
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut version, mut kind) = (None, None);
            while let Some(key) = map.next_key::<String>()? {
                match key.as_str() {
                    "apiVersion" => version = map.next_value::<Option<String>>()?,
                    "kind" => kind = map.next_value::<Option<String>>()?,
                    _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                }
            }
            Ok((version.unwrap_or_default(), kind.unwrap_or_default()))
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = deserializer.deserialize_map(TypeMeta)?;
    deserializer.end().map_err(|e| serde_json::Error::custom(format!("after the object: {e}")))?;
    Ok(found)
}

/// A typed decoder's complaint with the field it is about:
/// `json: cannot unmarshal string into Go struct field Deployment.spec.replicas of type int32`.
pub fn type_error(kind: &str, body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let path = path_at(body, offset_of(body, error.line(), error.column()));
    let Some((got, expected)) = text.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    else {
        return if path.is_empty() { format!("json: {text}") } else { format!("json: {path}: {text}") };
    };
    let got = match got.split([' ', '`']).next().unwrap_or(got) {
        "map" => "object",
        "sequence" => "array",
        "integer" | "floating" => "number",
        "boolean" => "bool",
        other => other,
    };
    let expected = match expected {
        "i32" => "int32",
        "i64" => "int64",
        "a boolean" => "bool",
        "a string" => "string",
        "a sequence" => "list",
        "a map" => "map",
        other => other,
    };
    let field = if path.is_empty() { kind.to_owned() } else { format!("{kind}.{path}") };
    format!("json: cannot unmarshal {got} into Go struct field {field} of type {expected}")
}

/// Byte offset of a 1-based line and column (in bytes), as serde_json counts them.
fn offset_of(body: &[u8], line: usize, column: usize) -> usize {
    let start: usize = body.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (start + column).min(body.len())
}

/// The path being read when the decoder stood at `offset`: `spec.containers[0].name`.
fn path_at(body: &[u8], offset: usize) -> String {
    enum Step {
        Object { key: String, reads_value: bool },
        Array(usize),
    }
    let mut stack: Vec<Step> = Vec::new();
    let mut at = 0;
    // The decoder stops after the offending value's last byte, so everything before it is balanced.
    while at < offset {
        match body[at] {
            b'"' => {
                let end = string_end(body, at);
                if let Some(Step::Object { key, reads_value: false }) = stack.last_mut() {
                    *key = String::from_utf8_lossy(&body[at + 1..end.max(at + 1)]).into_owned();
                }
                at = end;
            }
            b'{' if at + 1 < offset => stack.push(Step::Object { key: String::new(), reads_value: false }),
            b'[' if at + 1 < offset => stack.push(Step::Array(0)),
            b'}' | b']' if at + 1 < offset => drop(stack.pop()),
            b':' => {
                if let Some(Step::Object { reads_value, .. }) = stack.last_mut() {
                    *reads_value = true;
                }
            }
            b',' => match stack.last_mut() {
                Some(Step::Object { reads_value, .. }) => *reads_value = false,
                Some(Step::Array(index)) => *index += 1,
                None => {}
            },
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for step in &stack {
        match step {
            Step::Object { key, .. } if path.is_empty() => path.push_str(key),
            Step::Object { key, .. } => {
                // Writing to a String cannot fail.
                let _ = write!(path, ".{key}");
            }
            Step::Array(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
    }
    path
}

/// Index of the closing quote of the string that opens at `start`.
fn string_end(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < body.len() {
        match body[at] {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    body.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use proptest::prelude::*;

    fn strict(body: &str) -> String {
        let object: Deployment = serde_json::from_str(body).unwrap();
        let known = serde_json::to_value(&object).unwrap();
        strict_message(&strict_complaints(body.as_bytes(), &known, &recode))
    }

    fn recode(body: &[u8]) -> Option<Value> {
        serde_json::to_value(serde_json::from_slice::<Deployment>(body).ok()?).ok()
    }

    #[test]
    fn a_null_is_unknown_only_if_its_field_is() {
        let body = r#"{"metadata":{"creationTimestamp":null,"nope":null,"labels":null},"spec":{"paused":null,"wrong":null,
            "template":{"spec":{"containers":[{"name":"a","ports":null,"port":null,"resources":{"limits":null}}]}}},"status":null}"#;
        insta::assert_snapshot!(strict(body), @r#"strict decoding error: unknown field "metadata.nope", unknown field "spec.wrong", unknown field "spec.template.spec.containers[0].port""#);
    }

    #[test]
    fn unknown_and_duplicate_fields_are_named_in_document_order() {
        let body = r#"{"apiVersion":"apps/v1","kind":"Deployment","spec":{"foo":1,"replicas":1,"replicas":2,
            "template":{"spec":{"containers":[{"name":"a","imag":"x","env":null}]}},"selector":{}}}"#;
        insta::assert_snapshot!(strict(body), @r#"strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas", unknown field "spec.template.spec.containers[0].imag""#);
    }

    #[test]
    fn type_errors_name_the_field() {
        let texts: Vec<String> = [
            r#"{"spec":{"replicas":"x"}}"#,
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"},{"name":1}]}}}}"#,
            r#"{"metadata":{"labels":["a"]}}"#,
            r#"{"metadata":{"labels":{"a":{}}}}"#,
            r#"{"metadata":3}"#,
            r#"{"metadata":{"#,
        ]
        .iter()
        .map(|body| {
            let error = serde_json::from_str::<Deployment>(body).unwrap_err();
            type_error("Deployment", body.as_bytes(), &error)
        })
        .collect();
        insta::assert_snapshot!(texts.join("\n"), @r"
        json: cannot unmarshal string into Go struct field Deployment.spec.replicas of type int32
        json: cannot unmarshal number into Go struct field Deployment.spec.template.spec.containers[1].name of type string
        json: cannot unmarshal array into Go struct field Deployment.metadata.labels of type map
        json: cannot unmarshal object into Go struct field Deployment.metadata.labels.a of type string
        json: cannot unmarshal number into Go struct field Deployment.metadata of type ObjectMeta
        json: metadata: EOF while parsing an object
        ");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_checks_panic(body in any::<Vec<u8>>(), text in "[\\[{}\\]\":,a0 ]{0,40}") {
            for bytes in [body.as_slice(), text.as_bytes()] {
                let _ = strict_complaints(bytes, &Value::Null, &recode);
                if let Err(error) = serde_json::from_slice::<Deployment>(bytes) {
                    let _ = type_error("Deployment", bytes, &error);
                }
                let _ = type_meta(bytes);
            }
        }
    }
}
