//! What Kubernetes' own decoder forgives and serde's does not: numbers where quantities belong, nulls in maps of strings.
//!
//! Owns: rewriting a body that the typed decoder refused, so that it gets a second chance. Does not own: typing. Only
//! bodies that failed come here, so the common case pays nothing.

use serde_json::{Map, Value};

/// Objects whose values are quantities: `limits: {cpu: 1}`.
const QUANTITY_MAPS: &[&str] =
    &["limits", "requests", "capacity", "allocatable", "overhead", "allocatedResources", "hard", "used"];
/// Fields that are quantities: `sizeLimit: 1000000`.
const QUANTITIES: &[&str] = &["sizeLimit", "divisor"];
/// Objects whose values are strings, where null means empty: `annotations: {a: null}`.
const STRING_MAPS: &[&str] = &["labels", "annotations", "matchLabels", "nodeSelector", "data", "stringData"];

/// The body rewritten; None if there is nothing to forgive.
pub fn forgiving(body: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    forgive(&mut value).then(|| value.to_string().into_bytes())
}

/// Whether anything changed.
fn forgive(value: &mut Value) -> bool {
    match value {
        Value::Array(items) => items.iter_mut().fold(false, |changed, item| forgive(item) | changed),
        Value::Object(object) => object.iter_mut().fold(false, |changed, (key, value)| entry(key, value) | changed),
        _ => false,
    }
}

fn entry(key: &str, value: &mut Value) -> bool {
    match value {
        Value::Object(map) if QUANTITY_MAPS.contains(&key) => quantities(map),
        Value::Object(map) if STRING_MAPS.contains(&key) => strings(map),
        Value::Number(_) if QUANTITIES.contains(&key) => number_to_text(value),
        other => forgive(other),
    }
}

fn quantities(map: &mut Map<String, Value>) -> bool {
    map.values_mut().fold(false, |changed, value| number_to_text(value) | changed)
}

fn number_to_text(value: &mut Value) -> bool {
    let Value::Number(number) = value else { return false };
    *value = Value::String(number.to_string());
    true
}

fn strings(map: &mut Map<String, Value>) -> bool {
    let mut changed = false;
    for value in map.values_mut().filter(|value| value.is_null()) {
        *value = Value::String(String::new());
        changed = true;
    }
    changed
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn numbers_become_quantities_and_nulls_empty_strings_only_where_they_belong() {
        let body = r#"{"metadata":{"labels":{"a":null}},"spec":{"containers":[{"resources":{"limits":{"cpu":1,"memory":1.5}},
            "env":[{"name":"A","value":1}]}],"volumes":[{"emptyDir":{"sizeLimit":1000}}]}}"#;
        let text = String::from_utf8(forgiving(body.as_bytes()).unwrap()).unwrap();
        insta::assert_snapshot!(text, @r#"{"metadata":{"labels":{"a":""}},"spec":{"containers":[{"env":[{"name":"A","value":1}],"resources":{"limits":{"cpu":"1","memory":"1.5"}}}],"volumes":[{"emptyDir":{"sizeLimit":"1000"}}]}}"#);
        assert_eq!(forgiving(b"{\"a\":1}"), None);
        assert_eq!(forgiving(b"nonsense"), None);
    }
}
