//! Annotations `org.systemd.property.NAME`: properties of the unit, as text.

use std::collections::HashMap;

use pintle_dbus::{Value, parse};

use super::Property;

const PREFIX: &str = "org.systemd.property.";

/// An annotation that is no property.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// systemd's are letters only.
    #[error("annotations[\"org.systemd.property.{0}\"]: not the name of a property (at least three letters a-z, A-Z)")]
    Name(String),
    /// Not GVariant text.
    #[error("annotations[\"org.systemd.property.{name}\"]: {text:?} is no value in GVariant's text format: {why}")]
    Value { name: String, text: String, why: pintle_dbus::NotAValue },
    /// `…Sec` of what is no number of seconds.
    #[error("annotations[\"org.systemd.property.{name}\"]: {text} is no number of seconds")]
    Seconds { name: String, text: String },
}

/// The properties that annotations ask for, by name. As in systemctl, `…Sec` means seconds, of which systemd's own
/// property counts microseconds.
pub fn from_annotations(annotations: &HashMap<String, String>) -> Result<Vec<Property>, AnnotationError> {
    let mut asked: Vec<(&str, &str)> =
        annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text.as_str()))).collect();
    asked.sort_unstable();
    asked.into_iter().map(|(name, text)| convert(name, text)).collect()
}

fn convert(name: &str, text: &str) -> Result<Property, AnnotationError> {
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(AnnotationError::Name(name.to_owned()));
    }
    let value =
        parse(text).map_err(|why| AnnotationError::Value { name: name.to_owned(), text: text.to_owned(), why })?;
    // USec is what systemd has; a name such as "Sec" alone is left as it is.
    let in_seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let Some(stem) = in_seconds else {
        return Ok(Property { name: name.to_owned(), value, since: 0 });
    };
    let seconds = || AnnotationError::Seconds { name: name.to_owned(), text: text.to_owned() };
    let value = Value::U64(microseconds(&value).ok_or_else(seconds)?);
    Ok(Property { name: format!("{stem}USec"), value, since: 0 })
}

fn microseconds(value: &Value) -> Option<u64> {
    let whole = |seconds: i128| u64::try_from(seconds.checked_mul(1_000_000)?).ok();
    match value {
        Value::Byte(n) => whole((*n).into()),
        Value::I16(n) => whole((*n).into()),
        Value::U16(n) => whole((*n).into()),
        Value::I32(n) => whole((*n).into()),
        Value::U32(n) => whole((*n).into()),
        Value::I64(n) => whole((*n).into()),
        Value::U64(n) => whole((*n).into()),
        Value::F64(n) => Some(n * 1e6).filter(|n| (0.0..1.8e19).contains(n)).map(|n| n as u64),
        _ => None,
    }
}
