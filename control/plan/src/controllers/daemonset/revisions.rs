//! History: one ControllerRevision per template, numbered; `kubectl rollout undo` patches the DaemonSet with one.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::{HASH, revision_name};
use crate::controllers::common::{claim, hash, meta};
use crate::controllers::{KindRef, Plan, View, encode};

/// The hash of the wanted revision. None while the revision must first be written.
pub(super) fn current(
    ds: &DaemonSet,
    mut held: Vec<&ControllerRevision>,
    view: &View<'_>,
    plan: &mut Plan,
) -> Option<String> {
    held.sort_by_key(|r| r.revision);
    let data = data(ds);
    let newest = held.iter().filter_map(|r| r.revision).max().unwrap_or(0);
    let Some(own) = held.iter().rev().find(|r| r.data.0 == data) else {
        if !meta::is_deleting(&ds.metadata) {
            create(ds, data, newest + 1, view, plan);
        }
        return None;
    };
    if own.revision.unwrap_or(0) < newest {
        let mut renewed = (*own).clone();
        renewed.revision = Some(newest + 1);
        plan.push(claim::put(&renewed));
    }
    forget(ds, own, &held, view, plan);
    meta::label(&own.metadata, HASH).map(str::to_owned)
}

/// The patch that brings the DaemonSet back to this template.
fn data(ds: &DaemonSet) -> Value {
    let mut template = encode(&ds.spec.template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn create(ds: &DaemonSet, data: Value, revision: i64, view: &View<'_>, plan: &mut Plan) {
    let collisions = ds.status.as_ref().and_then(|s| s.collision_count);
    let hash = hash::of(&data, collisions);
    let name = revision_name(ds, &hash);
    if view.snapshot.get::<ControllerRevision>(&name).is_some() {
        let mut ds = ds.clone();
        let count = &mut ds.status.get_or_insert_default().collision_count;
        *count = Some(count.unwrap_or(0) + 1);
        plan.push(claim::put_status(&ds));
        return;
    }
    let mut labels = ds.spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(HASH.to_owned(), hash);
    plan.push(claim::create(&ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.name),
            namespace: Some(name.namespace),
            labels: Some(labels),
            annotations: ds.metadata.annotations.clone(),
            owner_references: Some(vec![meta::controlled_by(ds)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(revision),
    }));
}

/// Removes the oldest revisions beyond the limit; those that pods still carry stay.
fn forget(ds: &DaemonSet, own: &ControllerRevision, held: &[&ControllerRevision], view: &View<'_>, plan: &mut Plan) {
    use k8s_openapi::api::core::v1::Pod;
    let limit = usize::try_from(ds.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let in_use = |r: &ControllerRevision| {
        let hash = meta::label(&r.metadata, HASH);
        let mut pods = view.snapshot.owned::<Pod>(meta::uid(&ds.metadata));
        std::ptr::eq(r, own) || pods.any(|p| meta::label(&p.metadata, HASH) == hash)
    };
    let idle: Vec<_> = held.iter().filter(|r| !in_use(r)).collect();
    let surplus = idle.len().saturating_sub(limit);
    for revision in idle.into_iter().take(surplus) {
        plan.push(meta::delete(KindRef::of::<ControllerRevision>(), &revision.metadata));
    }
}
