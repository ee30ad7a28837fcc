//! The fields of a value. Owns: telling them by the schema, and comparing two values by them. Does not own: what follows
//! from a difference.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::FieldSet;
use super::schema::{Place, key_default};

/// A value, laid out by its fields.
#[derive(Debug, Default)]
pub(super) struct Tree<'a> {
    here: Option<Leaf<'a>>,
    children: BTreeMap<String, Tree<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaf<'a> {
    /// An element of a list that has fields of its own, or is known by its value.
    Element,
    /// Owned as a whole.
    Value(&'a Value),
}

/// How a value became another one.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Fields with another value, or that were not there.
    pub(super) changed: FieldSet,
    /// Fields that are no longer there.
    pub(super) removed: FieldSet,
}

impl<'a> Tree<'a> {
    /// Lays out `value`.
    pub(super) fn of(value: &'a Value, place: Place) -> Tree<'a> {
        let children: BTreeMap<_, _> = match (value, place) {
            (Value::Object(fields), Place::Fields(_)) => fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (format!("f:{name}"), Tree::of(value, place.field(name))))
                .collect(),
            (Value::Array(items), Place::Set) => {
                let element = |_| Tree { here: Some(Leaf::Element), children: BTreeMap::new() };
                items.iter().map(|item| (format!("v:{item}"), element(item))).collect()
            }
            (Value::Array(items), Place::Keyed { item, keys }) => items
                .iter()
                .map(|value| {
                    let below = Tree::of(value, Place::Fields(item));
                    (element_of(value, keys), Tree { here: Some(Leaf::Element), ..below })
                })
                .collect(),
            _ => BTreeMap::new(),
        };
        let here = children.is_empty().then_some(Leaf::Value(value));
        Tree { here, children }
    }

    /// All fields.
    pub(super) fn fields(&self) -> FieldSet {
        let children = self.children.iter().map(|(element, child)| (element.clone(), child.fields())).collect();
        FieldSet { member: self.here.is_some(), children }
    }

    /// What it takes to come from here to `new`.
    pub(super) fn difference(&self, new: &Tree<'_>) -> Difference {
        let mut found = Difference::default();
        match (self.here, new.here) {
            (None, Some(_)) => found.changed.member = true,
            (Some(_), None) => found.removed.member = true,
            (Some(a), Some(b)) => found.changed.member = a != b,
            (None, None) => {}
        }
        let nothing = Tree::default();
        let elements = self.children.keys().chain(new.children.keys().filter(|e| !self.children.contains_key(*e)));
        for element in elements {
            let (a, b) = (self.children.get(element), new.children.get(element));
            let below = a.unwrap_or(&nothing).difference(b.unwrap_or(&nothing));
            for (set, below) in [(&mut found.changed, below.changed), (&mut found.removed, below.removed)] {
                if !below.is_empty() {
                    set.children.insert(element.clone(), below);
                }
            }
        }
        found
    }
}

/// `k:{"containerPort":80,"protocol":"TCP"}`.
pub(super) fn element_of(item: &Value, keys: &[&str]) -> String {
    let key = |key: &&str| {
        let value = item.get(*key).filter(|value| !value.is_null()).cloned().or_else(|| key_default(key))?;
        Some(((*key).to_owned(), value))
    };
    // The map keeps its keys in order.
    format!("k:{}", Value::Object(keys.iter().filter_map(key).collect::<Map<_, _>>()))
}
