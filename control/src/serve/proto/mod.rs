//! Request bodies in Kubernetes' protobuf envelope, turned into JSON by tables of field numbers.
//!
//! Owns: the envelope (`k8s\0` and runtime.Unknown) and the shape of a table. Clients of Go's typed kind send protobuf
//! without being able to fall back to JSON. Does not own: answers, which are JSON, and which every client
//! takes. Field numbers: generated.proto of k8s.io/api and k8s.io/apimachinery.

mod asked;
mod decode;
mod messages;
mod wire;

use bytes::Bytes;
use pintle_api::status;
use serde_json::{Value, json};

use super::answer::Failure;
use decode::decode;
use wire::{Fields, Wire, WireError, text};

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
    let Some(fields) = asked::of(&kind).or_else(|| messages::of(&api_version, &kind)) else {
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

#[cfg(test)]
mod tests;
