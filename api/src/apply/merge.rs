//! One configuration laid over an object. Owns: merging by the schema, and taking out what the applier has given up.
//! Does not own: who owns what (`managers`).

use serde_json::{Map, Value};

use super::fields::FieldSet;
use super::schema::Place;
use super::tree::element_of;

/// `config` over `live`: fields and elements only `live` has stay.
pub(super) fn merge(live: &Value, config: &Value, place: Place) -> Value {
    match (live, config, place) {
        (Value::Object(live), Value::Object(config), Place::Fields(_)) => {
            let mut out = live.clone();
            for (name, wanted) in config.iter().filter(|(_, value)| !value.is_null()) {
                let merged = live.get(name).map_or_else(|| wanted.clone(), |was| merge(was, wanted, place.field(name)));
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(live), Value::Array(config), Place::Set | Place::Keyed { .. }) => {
            Value::Array(merge_lists(live, config, place))
        }
        _ => config.clone(),
    }
}

/// The configuration's elements in its order; those of `live` alone stay before the element they stood before.
fn merge_lists(live: &[Value], config: &[Value], place: Place) -> Vec<Value> {
    let name = |item: &Value| name_of(item, place);
    let wanted: Vec<String> = config.iter().map(name).collect();
    let mut rest = live.iter().map(|item| (name(item), item)).collect::<std::collections::VecDeque<_>>();
    let mut out = Vec::with_capacity(live.len() + config.len());
    for (element, item) in wanted.iter().zip(config) {
        let Some(found) = rest.iter().position(|(other, _)| other == element) else {
            out.push(item.clone());
            continue;
        };
        let (before, after): (Vec<_>, Vec<_>) = rest.drain(..found).partition(|(other, _)| !wanted.contains(other));
        out.extend(before.into_iter().map(|(_, item)| item.clone()));
        let was = rest.pop_front().map(|(_, item)| item);
        // What the configuration names later is still to be met.
        after.into_iter().rev().for_each(|later| rest.push_front(later));
        out.push(match (was, place) {
            (Some(was), Place::Keyed { item: of, .. }) => merge(was, item, Place::Fields(of)),
            _ => item.clone(),
        });
    }
    out.extend(rest.into_iter().map(|(_, item)| item.clone()));
    out
}

fn name_of(item: &Value, place: Place) -> String {
    match place {
        Place::Keyed { keys, .. } => element_of(item, keys),
        _ => format!("v:{item}"),
    }
}

/// Takes out of `value` what is in `given_up` and has no owner left.
pub(super) fn prune(value: &mut Value, given_up: &FieldSet, owned: &FieldSet, place: Place) {
    let nothing = FieldSet::default();
    match (value, place) {
        (Value::Object(fields), Place::Fields(_)) => {
            for (element, given_up) in &given_up.children {
                let Some(name) = element.strip_prefix("f:") else { continue };
                let owned = owned.children.get(element).unwrap_or(&nothing);
                prune_field(fields, name, given_up, owned, place.field(name));
            }
        }
        (Value::Array(items), Place::Set | Place::Keyed { .. }) => {
            items.retain_mut(|item| {
                let element = name_of(item, place);
                let Some(given_up) = given_up.children.get(&element) else { return true };
                let owned = owned.children.get(&element).unwrap_or(&nothing);
                if given_up.member && owned.is_empty() {
                    return false;
                }
                if let Place::Keyed { item: of, .. } = place {
                    prune(item, given_up, owned, Place::Fields(of));
                }
                true
            });
        }
        _ => {}
    }
}

fn prune_field(fields: &mut Map<String, Value>, name: &str, given_up: &FieldSet, owned: &FieldSet, place: Place) {
    let Some(value) = fields.get_mut(name) else { return };
    if given_up.member && owned.is_empty() {
        fields.remove(name);
        return;
    }
    let was_empty = is_empty(value);
    prune(value, given_up, owned, place);
    if !was_empty && is_empty(value) && !owned.member {
        fields.remove(name);
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}
