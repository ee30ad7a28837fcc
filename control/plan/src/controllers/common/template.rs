//! A pod from a template, and which owners a changed pod concerns.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{labels, meta};
use crate::controllers::snapshot::{Change, Snapshot, name_of};
use crate::controllers::words::{Key, KindRef, Name, Scoped};
use crate::kind::ApiObject;

/// The pod `owner` makes: the server appends five letters to `<owner>-`.
pub fn pod<O: ApiObject>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let own = owner.metadata();
    let wanted = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generate_name(meta::name(own))),
            namespace: own.namespace.clone(),
            labels: wanted.labels,
            annotations: wanted.annotations,
            finalizers: wanted.finalizers,
            owner_references: Some(vec![meta::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// `<owner>-`, cut so that the five letters still fit a host name of 63.
fn generate_name(owner: &str) -> String {
    const BASE_MAX: usize = 63 - 5;
    let mut base: String = owner.chars().take(BASE_MAX - 1).collect();
    base.push('-');
    base
}

/// Keys of the owners of type `O` that a changed object of type `T` concerns: its managing owners before and after,
/// or, for an orphan, every `O` of the namespace whose selector matches.
pub fn owners<T: ApiObject, O: ApiObject>(
    change: &Change,
    snapshot: &Snapshot,
    selector: impl Fn(&O) -> Option<&LabelSelector>,
) -> Vec<Key>
where
    T::Scope: Scoped,
    O::Scope: Scoped,
{
    if change.key.kind != KindRef::of::<T>() {
        return Vec::new();
    }
    let kind = KindRef::of::<O>();
    let mut keys: Vec<Key> = change
        .metas()
        .filter_map(|m| Some(Key::new(kind, Name::new(meta::namespace(m), meta::controller_named::<O>(m)?))))
        .collect();
    keys.dedup();
    let orphan = change.new.as_ref().is_some_and(|o| meta::controller_of(o.meta()).is_none());
    if orphan {
        let theirs = change.meta();
        let matching = snapshot.list_in::<O>(meta::namespace(theirs)).filter(|o| {
            selector(o).is_some_and(|s| !labels::is_empty(s) && labels::matches(s, theirs.labels.as_ref()))
        });
        keys.extend(matching.map(|o| Key::new(kind, name_of(o.metadata()))));
    }
    keys
}

/// The key of the changed object itself, if it is an `O`.
pub fn itself<O: ApiObject>(change: &Change) -> Option<Key>
where
    O::Scope: Scoped,
{
    (change.key.kind == KindRef::of::<O>()).then(|| change.key.clone())
}
