//! A message's bytes as the JSON object that its table says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::wire::{Fields, Wire, WireError, text};
use super::{Field, Repeat, Type};

pub(super) fn decode(fields: &[Field], bytes: &[u8]) -> Result<Map<String, Value>, WireError> {
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
