//! Server-side apply (KEP-555): many writers of one object, each field with its owners.
//!
//! Owns: what an apply makes of an object, who owns which field afterwards, conflicts. Does not own: storing, defaults,
//! validation of the result.
//!
//! Fields are tracked from an object's first apply on; whatever was there before belongs to `before-first-apply`. Objects
//! nobody applies this way carry no list of owners.

mod fields;
mod managers;
mod merge;
mod schema;
mod tables;
mod tree;

pub use fields::FieldSet;
pub use managers::{Manager, Operation};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, StatusCause};
use serde_json::Value;

use crate::time;
use managers::Entry;
use schema::Place;
use tree::Tree;

const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED_POINTER: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
/// The manager for whose sake client-side apply's own record is honoured.
const KUBECTL: &str = "kubectl";
/// Fields that belong to nobody: the server's own, and the object's name (apimachinery's stripMeta).
const NOBODYS: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// One writing.
#[derive(Debug, Clone)]
pub struct Writing<'a> {
    /// The object's type: `io.k8s.api.apps.v1.Deployment`.
    pub schema: &'a str,
    /// Who writes, and how.
    pub manager: Manager,
    /// When.
    pub now: Timestamp,
}

/// Fields that others own and hold to another value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} fields have another owner", .0.len())]
pub struct Conflicts(
    /// One for each owner and field, in the form of the answer (409).
    pub Vec<StatusCause>,
);

/// An object with its `metadata.managedFields`.
pub type Owned = (Value, Option<Vec<ManagedFieldsEntry>>);

impl Writing<'_> {
    fn place(&self) -> Place {
        // The table leaves out what all names begin with; a type without rules is one of plain fields.
        const PREFIX: &str = "io.k8s.api.";
        let name = self.schema.strip_prefix(PREFIX).unwrap_or(self.schema);
        Place::Fields(tables::TYPES.iter().map(|(known, _)| *known).find(|known| *known == name).unwrap_or_default())
    }

    fn entry(&self, fields: FieldSet) -> Entry {
        Entry { manager: self.manager.clone(), time: Some(time::time(self.now)), fields }
    }
}

/// Applies `config` to an object; `live` is None when there is none yet. Gives the object without its `managedFields`,
/// and these.
///
/// # Errors
/// [`Conflicts`], unless `force` takes the fields over.
pub fn apply(
    writing: &Writing<'_>,
    live: Option<&Value>,
    owners: &[ManagedFieldsEntry],
    config: &Value,
    force: bool,
) -> Result<Owned, Conflicts> {
    let place = writing.place();
    let nothing = Value::Object(serde_json::Map::new());
    let mut entries = managers::read(owners);
    if let Some(live) = live
        && entries.is_empty()
    {
        entries = before(writing, live);
    }
    let live = live.unwrap_or(&nothing);
    let wanted = anybodys(Tree::of(config, place).fields());
    let mine = entries.iter().position(|entry| entry.manager.is(&writing.manager)).map(|at| entries.remove(at));
    let held = mine.as_ref().map(|entry| entry.fields.clone()).unwrap_or_default();

    let mut object = merge::merge(live, config, place);
    let others = entries.iter().fold(FieldSet::default(), |all, entry| all.union(&entry.fields));
    merge::prune(&mut object, &held.difference(&wanted), &others.union(&wanted), place);

    let mut difference = Tree::of(live, place).difference(&Tree::of(&object, place));
    difference.changed = anybodys(difference.changed);
    let conflicts = conflicts(&entries, &difference.changed);
    let is_kubectls_own = || {
        writing.manager.name == KUBECTL
            && anybodys(client_side(live, place)).covers(conflicts.iter().map(|(_, fields)| fields))
    };
    if !conflicts.is_empty() && !force && !is_kubectls_own() {
        let causes = conflicts.iter().flat_map(|(m, fields)| fields.paths().into_iter().map(|path| m.conflict(path)));
        return Err(Conflicts(causes.collect()));
    }
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&difference.changed).difference(&difference.removed);
    }
    if writing.manager.name == KUBECTL {
        renew_last_applied(&mut object, live, config);
    }
    let is_same = difference.changed.is_empty() && difference.removed.is_empty() && held == wanted;
    let time = mine.filter(|_| is_same).and_then(|entry| entry.time);
    let mut entry = writing.entry(wanted);
    entry.time = time.or(entry.time);
    entries.push(entry);
    Ok((object, managers::write(entries)))
}

/// Who owns what after any other write of an object whose fields are tracked. `owners` are those of `new`.
pub fn update(
    writing: &Writing<'_>,
    old: &Value,
    new: &Value,
    owners: &[ManagedFieldsEntry],
) -> Option<Vec<ManagedFieldsEntry>> {
    let place = writing.place();
    let mut entries = managers::read(owners);
    if entries.is_empty() {
        return None;
    }
    let difference = Tree::of(old, place).difference(&Tree::of(new, place));
    let (changed, removed) = (anybodys(difference.changed), difference.removed);
    for entry in &mut entries {
        let is_mine = entry.manager.is(&writing.manager);
        let kept = entry.fields.difference(&removed);
        entry.fields = if is_mine { kept } else { kept.difference(&changed) };
    }
    if !changed.is_empty() {
        let mine = entries.iter().position(|entry| entry.manager.is(&writing.manager)).map(|at| entries.remove(at));
        let held = mine.map(|entry| entry.fields).unwrap_or_default();
        entries.push(writing.entry(held.union(&changed)));
    }
    managers::write(entries)
}

/// The owners of what was there before anybody applied: kubectl of what it set by client-side apply, so that it can take
/// it away again; of the rest, nobody in particular.
fn before(writing: &Writing<'_>, live: &Value) -> Vec<Entry> {
    let place = writing.place();
    let all = anybodys(Tree::of(live, place).fields());
    let kubectls =
        if writing.manager.name == KUBECTL { anybodys(client_side(live, place)) } else { FieldSet::default() };
    let mut rest = writing.entry(all.difference(&kubectls));
    rest.manager = Manager {
        name: BEFORE_FIRST_APPLY.to_owned(),
        operation: Operation::Update,
        api_version: writing.manager.api_version.clone(),
        subresource: String::new(),
    };
    vec![rest, writing.entry(kubectls)]
}

fn anybodys(mut fields: FieldSet) -> FieldSet {
    NOBODYS.iter().for_each(|path| fields.remove(path));
    if let Some(metadata) = fields.children.get_mut("f:metadata") {
        metadata.member = false;
        if metadata.is_empty() {
            fields.children.remove("f:metadata");
        }
    }
    fields
}

fn conflicts(entries: &[Entry], changed: &FieldSet) -> Vec<(Manager, FieldSet)> {
    let mut found = Vec::new();
    for entry in entries {
        let fields = entry.fields.intersection(changed);
        if !fields.is_empty() {
            found.push((entry.manager.clone(), fields));
        }
    }
    found
}

impl FieldSet {
    fn covers<'a>(&self, mut others: impl Iterator<Item = &'a FieldSet>) -> bool {
        others.all(|other| other.difference(self).is_empty())
    }
}

/// What client-side apply set and nobody has changed since: kubectl may take it over from itself.
fn client_side(live: &Value, place: Place) -> FieldSet {
    let record = live.pointer(LAST_APPLIED_POINTER).and_then(Value::as_str);
    let Some(applied) = record.and_then(|json| serde_json::from_str::<Value>(json).ok()) else {
        return FieldSet::default();
    };
    let (applied, live) = (Tree::of(&applied, place), Tree::of(live, place));
    let modified = applied.difference(&live).changed.intersection(&applied.fields());
    let fields = applied.fields().intersection(&live.fields()).difference(&modified);
    with_whole_elements(&fields, &live.fields().difference(&modified))
}

/// With an element of a list goes what the server has filled into it: else it could never be taken away as a whole.
fn with_whole_elements(fields: &FieldSet, live: &FieldSet) -> FieldSet {
    let children = fields.children.iter().filter_map(|(element, child)| {
        let there = live.children.get(element)?;
        let is_whole = child.member && element.starts_with("k:");
        let child = if is_whole { child.union(there) } else { with_whole_elements(child, there) };
        Some((element.clone(), child))
    });
    FieldSet { member: fields.member, children: children.collect() }
}

/// Keeps client-side apply's record true, so that going back to it removes what it should.
fn renew_last_applied(object: &mut Value, live: &Value, config: &Value) {
    if live.pointer(LAST_APPLIED_POINTER).is_some()
        && let Some(record) = object.pointer_mut(LAST_APPLIED_POINTER)
    {
        *record = Value::from(format!("{config}\n"));
    }
}

#[cfg(test)]
mod tests;
