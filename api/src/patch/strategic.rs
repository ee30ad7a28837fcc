//! Strategic merge patches: lists merge by key, directives steer.
//!
//! Owns: `$patch`, `$retainKeys`, `$deleteFromPrimitiveList`, `$setElementOrder` and the resulting order of lists, as
//! apimachinery's util/strategicpatch applies them. Does not own: the table of keys (`merge_keys`), computing patches.

use serde_json::{Map, Value};

use super::PatchError;
use super::merge_keys::{self, Field};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Applies `patch` to an object of the type `schema` (e.g. `io.k8s.api.core.v1.Pod`).
/// `original` may be half-changed on error; the caller throws it away.
pub fn apply(schema: &str, original: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let (Some(original), Some(patch)) = (original.as_object_mut(), patch.as_object()) else {
        return Err(malformed("a strategic merge patch must be an object"));
    };
    merge_object(schema, original, patch.clone())
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

fn merge_object(schema: &str, original: &mut Object, mut patch: Object) -> Result<(), PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(Value::String(directive)) if directive == "replace" => {
            *original = patch;
            drop_directives_in(original);
            return Ok(());
        }
        Some(Value::String(directive)) if directive == "delete" => {
            original.clear();
            return Ok(());
        }
        Some(other) => return Err(malformed(format!("unknown patch type found in the patch: {other}"))),
    }
    retain_keys(original, &mut patch)?;
    delete_from_lists(original, &mut patch)?;
    order_lists(schema, original, &mut patch)?;
    for (name, value) in patch {
        merge_field(schema, original, name, value)?;
    }
    Ok(())
}

fn merge_field(schema: &str, original: &mut Object, name: String, value: Value) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(&name);
        return Ok(());
    }
    let rule = merge_keys::field(schema, &name);
    let child = rule.map_or("", |rule| rule.child);
    match (original.get_mut(&name), value) {
        (Some(Value::Object(old)), Value::Object(new)) if !rule.is_some_and(Field::replaces) => {
            merge_object(child, old, new)
        }
        (Some(Value::Array(old)), Value::Array(new)) if rule.is_some_and(Field::merges) => {
            let key = rule.map_or("", |rule| rule.merge_key);
            *old = merge_list(child, key, std::mem::take(old), new)?;
            Ok(())
        }
        (_, mut new) => {
            drop_directives(&mut new);
            original.insert(name, new);
            Ok(())
        }
    }
}

/// `$retainKeys: [a, b]`: removes every other key of the object; the patch may not mention others.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Some(keep) = strings(&list) else { return Err(malformed("retainKeys must be a list of strings")) };
    let kept = |key: &String| key.starts_with('$') || keep.contains(&key.as_str());
    if let Some(extra) = patch.iter().find(|(key, value)| !value.is_null() && !kept(key)) {
        return Err(malformed(format!("list of retainKeys {keep:?} does not contain the patched field {:?}", extra.0)));
    }
    original.retain(|key, _| keep.contains(&key.as_str()));
    Ok(())
}

fn strings(list: &Value) -> Option<Vec<&str>> {
    list.as_array()?.iter().map(Value::as_str).collect()
}

/// `$deleteFromPrimitiveList/finalizers: [x]`.
fn delete_from_lists(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    for (field, value) in take_prefixed(patch, DELETE_FROM_LIST) {
        let Value::Array(gone) = value else {
            return Err(malformed(format!("{DELETE_FROM_LIST}{field} must be a list")));
        };
        if let Some(Value::Array(list)) = original.get_mut(&field) {
            list.retain(|item| !gone.contains(item));
        }
    }
    Ok(())
}

/// Takes the entries `PREFIXfield: value` out of the patch.
fn take_prefixed(patch: &mut Object, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| {
            let value = patch.remove(&key)?;
            Some((key[prefix.len()..].to_owned(), value))
        })
        .collect()
}

/// `$setElementOrder/containers: [{name: a}, {name: b}]`: merges the list now, in that order.
fn order_lists(schema: &str, original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    for (field, value) in take_prefixed(patch, SET_ORDER) {
        let Value::Array(order) = value else { return Err(malformed(format!("{SET_ORDER}{field} must be a list"))) };
        let rule = merge_keys::field(schema, &field);
        let (child, key) = rule.map_or(("", ""), |rule| (rule.child, rule.merge_key));
        let new = match patch.remove(&field) {
            None => Vec::new(),
            Some(Value::Array(new)) => new,
            Some(Value::Null) => {
                original.remove(&field);
                continue;
            }
            Some(_) => return Err(malformed(format!("{field} must be a list"))),
        };
        let old = match original.remove(&field) {
            Some(Value::Array(old)) => old,
            _ => Vec::new(),
        };
        if old.is_empty() && new.is_empty() {
            continue;
        }
        let server_order = old.clone();
        let merged = merge_items(child, key, old, new)?;
        original.insert(field, Value::Array(in_order(merged, &order, &server_order, key)));
    }
    Ok(())
}

/// Merges a list and puts it in order: the patch's items as the patch has them, the rest as they were.
fn merge_list(child: &str, key: &str, old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let server_order = old.clone();
    if let Some(position) = new.iter().position(|item| directive(item) == Some("replace")) {
        let mut rest = new;
        rest.remove(position);
        rest.iter_mut().for_each(drop_directives);
        return Ok(rest);
    }
    let order: Vec<Value> = new.iter().filter(|item| directive(item) != Some("delete")).cloned().collect();
    let merged = merge_items(child, key, old, new)?;
    Ok(in_order(merged, &order, &server_order, key))
}

fn directive(item: &Value) -> Option<&str> {
    item.get(DIRECTIVE).and_then(Value::as_str)
}

fn merge_items(child: &str, key: &str, mut merged: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    for item in new {
        let Value::Object(mut item) = item else {
            if !merged.contains(&item) {
                merged.push(item);
            }
            continue;
        };
        if key.is_empty() {
            return Err(malformed("cannot merge lists of objects without a merge key"));
        }
        let Some(id) = item.get(key).cloned() else {
            let shown = Value::Object(item);
            return Err(malformed(format!("map: {shown} does not contain declared merge key: {key}")));
        };
        match item.get(DIRECTIVE).and_then(Value::as_str) {
            Some("delete") => {
                merged.retain(|old| old.get(key) != Some(&id));
                continue;
            }
            Some("merge") => drop(item.remove(DIRECTIVE)),
            Some(other) if other != "replace" => {
                return Err(malformed(format!("unknown patch type found in the patch: {other}")));
            }
            Some(_) | None => {}
        }
        match merged.iter_mut().find(|old| old.get(key) == Some(&id)) {
            Some(Value::Object(old)) => merge_object(child, old, item)?,
            _ => {
                let mut item = Value::Object(item);
                drop_directives(&mut item);
                merged.push(item);
            }
        }
    }
    Ok(merged)
}

/// Items named in `order` in that order; the others keep their place relative to those both sides know.
fn in_order(merged: Vec<Value>, order: &[Value], server_order: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut ours, mut theirs): (Vec<_>, Vec<_>) = merged.into_iter().partition(|item| place(order, item).is_some());
    ours.sort_by_key(|item| place(order, item));
    theirs.sort_by_key(|item| place(server_order, item));
    let mut out = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
        let server_first = match (place(server_order, their), place(server_order, our)) {
            (Some(their), Some(our)) => their < our,
            _ => false,
        };
        out.extend(if server_first { theirs.next() } else { ours.next() });
    }
    out.extend(ours);
    out.extend(theirs);
    out
}

fn same(a: &Value, b: &Value, key: &str) -> bool {
    match (a.get(key), b.get(key)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// What has nothing to merge with is taken as it is, without directives and nulls.
fn drop_directives(value: &mut Value) {
    match value {
        Value::Object(object) => drop_directives_in(object),
        Value::Array(items) => {
            let marker = |item: &Value| item.as_object().is_some_and(|o| o.len() == 1 && o.contains_key(DIRECTIVE));
            items.retain(|item| directive(item) != Some("delete") && !marker(item));
            items.iter_mut().for_each(drop_directives);
        }
        _ => {}
    }
}

fn drop_directives_in(object: &mut Object) {
    object.retain(|key, value| {
        let directive =
            key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM_LIST);
        !directive && !value.is_null()
    });
    object.values_mut().for_each(drop_directives);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const POD: &str = "io.k8s.api.core.v1.Pod";

    fn patched(original: Value, patch: Value) -> String {
        let mut value = original;
        match apply(POD, &mut value, &patch) {
            Ok(()) => value.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    fn pod() -> Value {
        json!({"metadata": {"finalizers": ["x", "y"], "labels": {"a": "1"}}, "spec": {
            "containers": [{"name": "a", "image": "1", "args": ["p"]}, {"name": "b", "image": "1"}],
            "volumes": [{"name": "v", "emptyDir": {}}]}})
    }

    #[test]
    fn patches_do_what_they_say() {
        let table = [
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
                            "containers": [{"name": "c", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["q"]}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"], "labels": {"a": null, "b": "2"}}}),
            json!({"metadata": {"$patch": "replace", "name": "n"}}),
            json!({"spec": {"$patch": "delete"}}),
            json!({"spec": {"containers": [{"image": "2"}]}}),
            json!({"spec": {"$patch": "melt"}}),
            json!({"spec": null, "new": {"$patch": "merge", "k": null, "l": 1}}),
        ];
        let lines: Vec<String> = table.iter().map(|patch| patched(pod(), patch.clone())).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"args":["p"],"image":"1","name":"a"},{"image":"2","name":"b"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"image":"2","name":"c"},{"args":["p"],"image":"1","name":"a"},{"image":"1","name":"b"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"image":"1","name":"b"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"name":"z"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"image":"1","name":"b"},{"image":"3","name":"c"},{"args":["p"],"image":"1","name":"a"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"args":["q"],"image":"1","name":"a"},{"image":"1","name":"b"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{"containers":[{"args":["p"],"image":"1","name":"a"},{"image":"1","name":"b"}],"volumes":[{"hostPath":{"path":"/"},"name":"v"}]}}
        {"metadata":{"finalizers":["z","y"],"labels":{"b":"2"}},"spec":{"containers":[{"args":["p"],"image":"1","name":"a"},{"image":"1","name":"b"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"name":"n"},"spec":{"containers":[{"args":["p"],"image":"1","name":"a"},{"image":"1","name":"b"}],"volumes":[{"emptyDir":{},"name":"v"}]}}
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"spec":{}}
        error: map: {"image":"2"} does not contain declared merge key: name
        error: unknown patch type found in the patch: "melt"
        {"metadata":{"finalizers":["x","y"],"labels":{"a":"1"}},"new":{"l":1}}
        "#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(json!("delete")),
            Just(json!("replace")),
            Just(json!("a")),
            any::<i32>().prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("spec"),
            Just("containers"),
            Just("name"),
            Just("$patch"),
            Just("$retainKeys"),
            Just("volumes"),
            Just("$setElementOrder/containers"),
            Just("$deleteFromPrimitiveList/finalizers"),
            Just("metadata"),
            Just("finalizers"),
            Just("strategy"),
        ];
        leaf.prop_recursive(5, 48, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((key.clone(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_patch_panics(original in any_json(), patch in any_json()) {
            let mut value = original;
            let _ = apply(POD, &mut value, &patch);
        }

        #[test]
        fn an_empty_patch_changes_nothing(original in any_json()) {
            if original.is_object() {
                let mut value = original.clone();
                apply(POD, &mut value, &json!({})).unwrap();
                prop_assert_eq!(value, original);
            }
        }
    }
}
