//! The garbage collector: objects whose owners are gone follow them.
//!
//! Owns dependents without owners, and the finalizers `foregroundDeletion` and `orphan`. Works on metadata alone, for
//! every kind the server has. An owner that no cache holds is looked up live, by uid, before anything is deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use super::common::meta;
use super::{
    About, Action, Change, Controller, Key, KindRef, Name, Note, NoteKind, Plan, Propagation, Question, Snapshot, View,
    name_of,
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The controller.
pub struct GarbageCollector;

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }
    /// Metadata is enough, and the driver has that of all kinds.
    fn watches(&self) -> &'static [KindRef] {
        &[]
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let (old, new) = (change.old.as_deref().map(|o| o.meta()), change.new.as_deref().map(|o| o.meta()));
        let looks = |m: Option<&ObjectMeta>| {
            m.map(|m| (m.uid.clone(), owners(m).to_vec(), m.finalizers.clone(), meta::is_deleting(m)))
        };
        if looks(old) == looks(new) {
            return Vec::new();
        }
        let mut keys = Vec::new();
        if new.is_some_and(|m| !owners(m).is_empty() || meta::is_deleting(m)) {
            keys.push(change.key.clone());
        }
        // Its end, or its wait for dependents, concerns those it owns.
        if let Some(m) = new.or(old).filter(|m| new.is_none() || has(m, FOREGROUND) || has(m, ORPHAN)) {
            keys.extend(snapshot.dependents(meta::uid(m)));
        }
        // A new life under an old name ends the old one.
        if let (Some(old), Some(new)) = (old, new)
            && old.uid != new.uid
        {
            keys.extend(snapshot.dependents(meta::uid(old)));
        }
        // Losing a dependent may be what an owner waits for.
        for owner in old.iter().flat_map(|m| owners(m)) {
            let place = place(owner, meta::namespace(change.meta()), snapshot);
            keys.extend(place.filter(|k| snapshot.meta(k).is_some_and(meta::is_deleting)));
        }
        keys
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        let Some(own) = view.snapshot.meta(key).filter(|m| !meta::is_deleting(m)) else { return Vec::new() };
        let absent = owners(own).iter().filter_map(|o| {
            let place = place(o, meta::namespace(own), view.snapshot)?;
            (cached(&place, o, view.snapshot).is_none()).then_some(Question::Read(place))
        });
        absent.collect()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(own) = view.snapshot.meta(key) else { return plan };
        if meta::is_deleting(own) {
            release_waiting(key, own, view.snapshot, &mut plan);
        } else if !owners(own).is_empty() {
            judge(key, own, view, &mut plan);
        }
        plan
    }
}

fn owners(m: &ObjectMeta) -> &[OwnerReference] {
    m.owner_references.as_deref().unwrap_or_default()
}

fn has(m: &ObjectMeta, finalizer: &str) -> bool {
    m.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Where the owner would be. None where its kind is not known here: then nothing is concluded from its absence.
fn place(owner: &OwnerReference, namespace: &str, snapshot: &Snapshot) -> Option<Key> {
    let kind = snapshot.kind_named(&owner.api_version, &owner.kind)?;
    let namespace = if kind.namespaced { namespace } else { "" };
    // A cluster-scoped dependent cannot name an owner in a namespace.
    (!kind.namespaced || !namespace.is_empty()).then(|| Key::new(kind, Name::new(namespace, &owner.name)))
}

fn cached<'a>(place: &Key, owner: &OwnerReference, snapshot: &'a Snapshot) -> Option<&'a ObjectMeta> {
    snapshot.meta(place).filter(|m| m.uid.as_deref() == Some(&owner.uid))
}

/// What an owner is to its dependent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It lives.
    Solid,
    /// It waits for its dependents to go first.
    Waiting,
    /// It is gone.
    Dangling,
}

fn standing(owner: &OwnerReference, namespace: &str, view: &View<'_>) -> Standing {
    // What cannot be looked up is taken to live.
    let Some(place) = place(owner, namespace, view.snapshot) else { return Standing::Solid };
    let waits = |deleting: bool, foreground: bool| match deleting && foreground {
        true if owner.block_owner_deletion == Some(true) => Standing::Waiting,
        _ => Standing::Solid,
    };
    if let Some(m) = cached(&place, owner, view.snapshot) {
        return waits(meta::is_deleting(m), has(m, FOREGROUND));
    }
    match view.read(&place) {
        Some(live) if live["metadata"]["uid"].as_str() == Some(&owner.uid) => {
            let meta = &live["metadata"];
            let foreground = |l: &Vec<Value>| l.iter().any(|f| f == FOREGROUND);
            waits(!meta["deletionTimestamp"].is_null(), meta["finalizers"].as_array().is_some_and(foreground))
        }
        _ => Standing::Dangling,
    }
}

/// An object with owners that is not being deleted: stays, loses some owners, or goes.
fn judge(key: &Key, own: &ObjectMeta, view: &View<'_>, plan: &mut Plan) {
    let namespace = meta::namespace(own);
    let judged: Vec<_> = owners(own).iter().map(|o| (o, standing(o, namespace, view))).collect();
    let solid: Vec<OwnerReference> =
        judged.iter().filter(|(_, s)| *s == Standing::Solid).map(|(o, _)| (*o).clone()).collect();
    if solid.len() == judged.len() {
        impossible_owners(key, own, view.snapshot, plan);
    } else if !solid.is_empty() {
        plan.push(meta::patch_links(key.kind, own, &solid, own.finalizers.as_deref().unwrap_or_default()));
    } else {
        let waited_for = judged.iter().any(|(_, s)| *s == Standing::Waiting);
        let has_dependents = !view.snapshot.dependents(meta::uid(own)).is_empty();
        let propagation = match () {
            () if has(own, ORPHAN) => Propagation::Orphan,
            () if has(own, FOREGROUND) || (waited_for && has_dependents) => Propagation::Foreground,
            () => Propagation::Background,
        };
        plan.push(Action::Delete {
            kind: key.kind,
            name: key.name.clone(),
            uid: meta::uid(own).to_owned(),
            // Somebody may have given it another owner since.
            resource_version: own.resource_version.clone(),
            grace_s: None,
            propagation: Some(propagation),
        });
    }
}

/// Owners that can never be found are told once to whoever looks at the object.
fn impossible_owners(key: &Key, own: &ObjectMeta, snapshot: &Snapshot, plan: &mut Plan) {
    let impossible = owners(own).iter().find(|o| {
        let kind = snapshot.kind_named(&o.api_version, &o.kind);
        kind.is_some_and(|k| k.namespaced) && meta::namespace(own).is_empty()
    });
    if let Some(owner) = impossible {
        plan.events.push(Note {
            about: About {
                kind: key.kind,
                name: name_of(own),
                uid: meta::uid(own).to_owned(),
                resource_version: own.resource_version.clone().unwrap_or_default(),
            },
            kind: NoteKind::Warning,
            reason: "OwnerRefInvalidNamespace",
            message: format!(
                "ownerRef [{}/{}, name: {}, uid: {}] does not exist in namespace \"\"",
                owner.api_version, owner.kind, owner.name, owner.uid
            ),
        });
    }
}

/// An object being deleted that waits for, or lets go of, its dependents.
fn release_waiting(key: &Key, own: &ObjectMeta, snapshot: &Snapshot, plan: &mut Plan) {
    let dependents = snapshot.dependents(meta::uid(own));
    if has(own, ORPHAN) {
        for dependent in &dependents {
            if let Some(m) = snapshot.meta(dependent) {
                plan.push(meta::release(dependent.kind, m, meta::uid(own)));
            }
        }
        if dependents.is_empty() {
            plan.push(without(key, own, ORPHAN));
        }
    } else if has(own, FOREGROUND) {
        let blocks = |k: &Key| {
            let theirs = snapshot.meta(k).map(owners).unwrap_or_default();
            theirs.iter().any(|o| o.uid == meta::uid(own) && o.block_owner_deletion == Some(true))
        };
        if !dependents.iter().any(blocks) {
            plan.push(without(key, own, FOREGROUND));
        }
    }
}

fn without(key: &Key, own: &ObjectMeta, finalizer: &str) -> Action {
    let rest: Vec<String> = own.finalizers.iter().flatten().filter(|f| *f != finalizer).cloned().collect();
    meta::patch_links(key.kind, own, owners(own), &rest)
}

#[cfg(test)]
mod tests {
    use super::GarbageCollector;
    use crate::controllers::Propagation;
    use crate::controllers::deployment::Deployments;
    use crate::controllers::replicaset::ReplicaSets;
    use crate::controllers::sim::{Sim, deployment, node};
    use crate::scheduler::SCHEDULER;
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
    use serde_json::json;

    fn world() -> Sim {
        let mut sim = Sim::new(&[&Deployments, &ReplicaSets, &GarbageCollector, SCHEDULER]);
        sim.create::<Node>(node("n1"));
        sim.create::<Deployment>(deployment("web", 2, "a"));
        sim.live();
        sim.told();
        sim
    }

    fn left(sim: &Sim) -> (usize, usize, usize) {
        (sim.list::<Deployment>().len(), sim.list::<ReplicaSet>().len(), sim.list::<Pod>().len())
    }

    #[test]
    fn in_the_background_everything_follows_its_owner() {
        let mut sim = world();
        sim.delete::<Deployment>("default", "web", Some(Propagation::Background));
        assert_eq!(left(&sim).0, 0, "the owner goes at once");
        sim.live();
        assert_eq!(left(&sim), (0, 0, 0));
    }

    #[test]
    fn in_the_foreground_owners_wait_for_what_they_own() {
        let mut sim = world();
        sim.delete::<Deployment>("default", "web", Some(Propagation::Foreground));
        sim.settle();
        assert_eq!(left(&sim), (1, 1, 2), "pods take their time, and all owners wait");
        sim.live();
        assert_eq!(left(&sim), (0, 0, 0));
    }

    #[test]
    fn orphaning_leaves_dependents_without_the_owner() {
        let mut sim = world();
        sim.delete::<Deployment>("default", "web", Some(Propagation::Orphan));
        sim.live();
        assert_eq!(left(&sim), (0, 1, 2));
        let owners = |rs: &ReplicaSet| rs.metadata.owner_references.clone().unwrap_or_default();
        assert!(sim.list::<ReplicaSet>().iter().all(|rs| owners(rs).is_empty()));
    }

    #[test]
    fn an_owner_of_an_unknown_kind_is_taken_to_live_and_one_of_another_uid_to_be_gone() {
        let mut sim = world();
        let owned = |name: &str, kind: &str, api: &str, owner: &str| {
            json!({"metadata": {"name": name, "namespace": "default",
                "ownerReferences": [{"apiVersion": api, "kind": kind, "name": owner, "uid": "other"}]}})
        };
        sim.create::<ServiceAccount>(owned("of-unknown", "Widget", "example.com/v1", "w"));
        sim.create::<ServiceAccount>(owned("of-former", "Deployment", "apps/v1", "web"));
        sim.live();
        let names: Vec<_> = sim.list::<ServiceAccount>().into_iter().filter_map(|s| s.metadata.name).collect();
        assert_eq!(names, ["of-unknown"]);
    }
}
