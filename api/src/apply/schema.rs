//! What the fields of an API type are to their owners. Owns: the words of the table and its look-up. Does not own: the
//! facts themselves (`tables`).

use super::tables::TYPES;
use serde_json::Value;

/// One field that is neither a scalar, nor an atomic list, nor a map of scalars.
#[derive(Debug)]
pub struct Rule {
    name: &'static str,
    place: Place,
}

/// How a value at some place is owned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// As a whole.
    Atomic,
    /// An object, field by field, of this type of [`TYPES`]; empty for a map of scalars. A list here is atomic.
    Fields(&'static str),
    /// A list of scalars, each with an owner of its own (`listType: set`).
    Set,
    /// A list of objects, each known by some of its fields (`listType: map`).
    Keyed { item: &'static str, keys: &'static [&'static str] },
}

/// A field that has one owner, whatever is in it.
pub(super) const fn atomic(name: &'static str) -> Rule {
    Rule { name, place: Place::Atomic }
}

/// A field of a type with rules of its own.
pub(super) const fn nested(name: &'static str, of: &'static str) -> Rule {
    Rule { name, place: Place::Fields(of) }
}

/// A list without repetitions.
pub(super) const fn set(name: &'static str) -> Rule {
    Rule { name, place: Place::Set }
}

/// A list whose elements are known by `keys`.
pub(super) const fn keyed(name: &'static str, item: &'static str, keys: &'static [&'static str]) -> Rule {
    Rule { name, place: Place::Keyed { item, keys } }
}

impl Place {
    /// The place of a field of an object here.
    pub(super) fn field(self, name: &str) -> Place {
        let Place::Fields(of) = self else { return Place::Fields("") };
        let rules = TYPES.binary_search_by_key(&of, |(known, _)| known).map_or(&[][..], |found| TYPES[found].1);
        // What is below something atomic is never asked for.
        rules.iter().find(|rule| rule.name == name).map_or(Place::Fields(""), |rule| rule.place)
    }
}

/// What the schema says a missing key field is.
pub(super) fn key_default(key: &str) -> Option<Value> {
    (key == "protocol").then(|| Value::from("TCP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(TYPES.is_sorted_by_key(|(name, _)| name));
    }

    #[test]
    fn a_place_is_found_through_types() {
        let containers = Place::Fields("apps.v1.Deployment").field("spec").field("template").field("spec");
        assert!(matches!(containers.field("containers"), Place::Keyed { item: "core.v1.Container", keys: ["name"] }));
        assert!(matches!(containers.field("nodeSelector"), Place::Atomic));
        assert!(matches!(containers.field("nodeName"), Place::Fields("")));
    }
}
