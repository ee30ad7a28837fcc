//! Sets of fields. Owns: their algebra and their form on the wire, `fieldsV1`. Does not own: how a value's fields are
//! told (`tree`).
//!
//! The wire's own words are the elements of a path: `f:spec`, `k:{"name":"web"}`, `v:"finalizer"`
//! (apimachinery, `FieldsV1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of fields, as a tree by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) member: bool,
    pub(super) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// The set that `fieldsV1` describes; what is no object says nothing.
    pub fn from_json(value: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        for (element, below) in value.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
                continue;
            }
            let mut child = FieldSet::from_json(below);
            // A leaf has no mark of its own.
            child.member |= child.children.is_empty();
            set.children.insert(canonical(element), child);
        }
        set
    }

    /// `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        if self.member && !self.children.is_empty() {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        out.extend(self.children.iter().map(|(element, child)| (element.clone(), child.to_json())));
        Value::Object(out)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, |a, b| a || b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, |a, b| a && b)
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, |a, b| a && !b)
    }

    fn combine(&self, other: &FieldSet, keep: fn(bool, bool) -> bool) -> FieldSet {
        let nothing = FieldSet::default();
        let elements = self.children.keys().chain(other.children.keys().filter(|e| !self.children.contains_key(*e)));
        let children = elements.filter_map(|element| {
            let (a, b) = (self.children.get(element), other.children.get(element));
            let child = a.unwrap_or(&nothing).combine(b.unwrap_or(&nothing), keep);
            (!child.is_empty()).then(|| (element.clone(), child))
        });
        FieldSet { member: keep(self.member, other.member), children: children.collect() }
    }

    /// Takes out a path with all below it.
    pub(super) fn remove(&mut self, path: &[&str]) {
        let [element, rest @ ..] = path else { return };
        if rest.is_empty() {
            self.children.remove(*element);
        } else if let Some(child) = self.children.get_mut(*element) {
            child.remove(rest);
            if child.is_empty() {
                self.children.remove(*element);
            }
        }
    }

    /// The fields as people write them: `.spec.template.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_paths("", &mut found);
        found
    }

    fn collect_paths(&self, at: &str, found: &mut Vec<String>) {
        if self.member {
            found.push(at.to_owned());
        }
        for (element, child) in &self.children {
            child.collect_paths(&format!("{at}{}", readable(element)), found);
        }
    }
}

fn readable(element: &str) -> String {
    let parsed = |json: &str| serde_json::from_str::<Value>(json).unwrap_or(Value::Null);
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(keys) = element.strip_prefix("k:") {
        let keys = parsed(keys);
        let pairs = keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
        return format!("[{}]", pairs.collect::<Vec<_>>().join(","));
    }
    match element.strip_prefix("v:") {
        Some(value) => format!("[={value}]"),
        None => format!("[{}]", element.trim_start_matches("i:")),
    }
}

/// Keys in one order and without spaces, however a client wrote them.
fn canonical(element: &str) -> String {
    for prefix in ["k:", "v:"] {
        if let Some(value) = element.strip_prefix(prefix).and_then(|json| serde_json::from_str::<Value>(json).ok()) {
            return format!("{prefix}{value}");
        }
    }
    element.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wire_s_form_is_kept_and_its_keys_are_put_in_order() {
        let wire = json!({"f:spec": {"f:ports": {
            ".": {}, "k:{ \"protocol\":\"TCP\",\"port\":80}": {".": {}, "f:port": {}}}},
            "f:metadata": {"f:finalizers": {"v:\"a\"": {}}}});
        let set = FieldSet::from_json(&wire);
        insta::assert_snapshot!(set.paths().join("\n"), @r#"
        .metadata.finalizers[="a"]
        .spec.ports
        .spec.ports[port=80,protocol="TCP"]
        .spec.ports[port=80,protocol="TCP"].port
        "#);
        assert_eq!(FieldSet::from_json(&set.to_json()), set);
    }

    #[test]
    fn sets_are_taken_from_each_other_field_by_field() {
        let a = FieldSet::from_json(&json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}}));
        let b = FieldSet::from_json(&json!({"f:b": {"f:c": {}, "f:d": {}}}));
        assert_eq!(a.difference(&b).paths(), [".a", ".b"]);
        assert_eq!(a.intersection(&b).paths(), [".b.c"]);
        assert_eq!(a.union(&b).paths(), [".a", ".b", ".b.c", ".b.d"]);
        assert!(a.difference(&a).is_empty());
    }
}
