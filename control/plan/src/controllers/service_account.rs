//! The ServiceAccount `default` of every namespace.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::common::{claim, meta};
use super::{Change, Controller, Key, KindRef, Name, Plan, Snapshot, View};

const DEFAULT: &str = "default";

/// The controller.
pub struct ServiceAccounts;

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Namespace>(), KindRef::of::<ServiceAccount>()] }
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        namespace_key(change, KindRef::of::<ServiceAccount>(), DEFAULT).into_iter().collect()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        if !is_open(key, view) {
            return plan;
        }
        if view.snapshot.meta(&account(&key.name.name)).is_none() {
            let metadata = ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: Some(key.name.name.clone()),
                ..ObjectMeta::default()
            };
            plan.push(claim::create(&ServiceAccount { metadata, ..ServiceAccount::default() }));
        }
        plan
    }
}

fn account(namespace: &str) -> Key {
    Key::new(KindRef::of::<ServiceAccount>(), Name::new(namespace, DEFAULT))
}

/// Whether the key's namespace exists and takes new objects.
pub(super) fn is_open(key: &Key, view: &View<'_>) -> bool {
    view.snapshot.get::<Namespace>(&key.name).is_some_and(|ns| !meta::is_deleting(&ns.metadata))
}

/// The namespace that a changed namespace, or a changed object `name` of `kind` within one, concerns.
pub(super) fn namespace_key(change: &Change, kind: KindRef, name: &str) -> Option<Key> {
    let namespace = KindRef::of::<Namespace>();
    if change.key.kind == namespace {
        return Some(change.key.clone());
    }
    let at = &change.key.name;
    (change.key.kind == kind && at.name == name).then(|| Key::new(namespace, Name::new("", at.namespace.clone())))
}
