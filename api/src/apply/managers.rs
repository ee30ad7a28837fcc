//! `metadata.managedFields`. Owns: reading and writing it, its order, and how many entries there may be. Does not own:
//! who comes to own a field.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, StatusCause, Time};

use super::fields::FieldSet;

/// Entries of plain updates beyond this are merged into one (upstream: 10).
const UPDATES_MAX: usize = 10;
/// Under which name they are.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields. In the order in which entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// Who writes, as an entry tells writers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// `fieldManager`, or the program's name.
    pub name: String,
    /// How.
    pub operation: Operation,
    /// `apps/v1`.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
}

/// A manager with what it owns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: Manager,
    pub(super) time: Option<Time>,
    pub(super) fields: FieldSet,
}

impl Manager {
    /// Whether both are one writer. An applier stays the same through versions of the API.
    pub(super) fn is(&self, other: &Manager) -> bool {
        let versions = self.operation == Operation::Apply || self.api_version == other.api_version;
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && versions
    }

    /// The cause of a conflict over the field at `path`.
    pub(super) fn conflict(&self, path: String) -> StatusCause {
        let mut said = format!("conflict with {:?}", self.name);
        if !self.subresource.is_empty() {
            said += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            said += &format!(" using {}", self.api_version);
        }
        StatusCause { field: Some(path), message: Some(said), reason: Some("FieldManagerConflict".to_owned()) }
    }
}

/// Reads entries; one that says nothing of use (`[{}]`, the way to give up all tracking) is left out.
pub(super) fn read(entries: &[ManagedFieldsEntry]) -> Vec<Entry> {
    let entry = |entry: &ManagedFieldsEntry| {
        let operation = match entry.operation.as_deref() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return None,
        };
        let manager = Manager {
            name: entry.manager.clone().unwrap_or_default(),
            operation,
            api_version: entry.api_version.clone().unwrap_or_default(),
            subresource: entry.subresource.clone().unwrap_or_default(),
        };
        let fields = entry.fields_v1.as_ref().map(|fields| FieldSet::from_json(&fields.0)).unwrap_or_default();
        Some(Entry { manager, time: entry.time.clone(), fields })
    };
    entries.iter().filter_map(entry).collect()
}

/// Writes entries: without empty ones, appliers first, the newest last.
pub(super) fn write(mut entries: Vec<Entry>) -> Option<Vec<ManagedFieldsEntry>> {
    entries.retain(|entry| !entry.fields.is_empty());
    let order = |entry: &Entry| {
        let manager = &entry.manager;
        let time = entry.time.as_ref().map(|time| time.0);
        (manager.operation, time, manager.name.clone(), manager.api_version.clone(), manager.subresource.clone())
    };
    entries.sort_by_key(order);
    let entries = merge_ancient(entries);
    let entry = |entry: Entry| ManagedFieldsEntry {
        manager: Some(entry.manager.name),
        operation: Some(format!("{:?}", entry.manager.operation)),
        api_version: Some(entry.manager.api_version),
        subresource: Some(entry.manager.subresource).filter(|name| !name.is_empty()),
        time: entry.time,
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(entry.fields.to_json())),
    };
    (!entries.is_empty()).then(|| entries.into_iter().map(entry).collect())
}

fn merge_ancient(entries: Vec<Entry>) -> Vec<Entry> {
    let (appliers, mut updates): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.manager.operation == Operation::Apply);
    while updates.len() > UPDATES_MAX {
        let oldest = updates.remove(0);
        let next = &mut updates[0];
        next.fields = next.fields.union(&oldest.fields);
        ANCIENT.clone_into(&mut next.manager.name);
        next.manager.subresource.clear();
    }
    appliers.into_iter().chain(updates).collect()
}
