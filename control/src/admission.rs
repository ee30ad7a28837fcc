//! Admission: what the cluster adds to an object or refuses in it, whatever its kind's own rules say.
//!
//! Owns: the order of the plugins, what they see, and their locks. Does not own: their decisions, which are pure
//! functions in their own files.

mod certificate_subject;
mod default_tolerations;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod requester;
mod service_account;
mod service_addresses;
mod taint_nodes;

use std::sync::Arc;
use std::time::Duration;

use pintle_control_plan::registry::{DynKind, Object};
use serde::de::DeserializeOwned;
use tokio::sync::MutexGuard;

use crate::serve::Api;
use crate::serve::answer::Failure;
use crate::serve::call::Call;
use crate::serve::object;

pub(crate) use service_addresses::misfits;

/// What a plugin sees of a write.
pub struct Review<'a> {
    /// The cluster's state.
    pub api: &'a Api,
    /// The request.
    pub call: &'a Call,
    /// The object's name: the request's path does not say it for a creation.
    pub name: &'a str,
    /// The object as it will be; None for a deletion.
    pub object: Option<&'a mut dyn Object>,
    /// The object as it is; None for a creation.
    pub old: Option<&'a dyn Object>,
    /// Nothing will be stored.
    pub dry_run: bool,
}

impl Review<'_> {
    /// Some other object, typed; None if it does not exist or is not readable as that type.
    pub fn find<T: DeserializeOwned>(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<T> {
        self.api.find(api_version, kind, namespace, name)
    }

    /// Whether the object is being created, and as itself rather than through a subresource.
    pub fn creates(&self, group: &str, plural: &str) -> bool {
        self.old.is_none() && self.is(group, plural)
    }

    /// Whether the write is of this resource, not of a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        let path = &self.call.path;
        self.call.kind.group() == group && self.call.kind.plural() == plural && path.subresource.is_empty()
    }
}

/// One plugin.
pub trait Plugin: Sync {
    /// `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// Whether writes of this kind have to come one after the other, because the decision looks at all its objects.
    fn serializes(&self, _kind: &dyn DynKind) -> bool {
        false
    }
    /// The key of an object this creation needs and that somebody is about to make.
    fn awaits(&self, _call: &Call, _object: &dyn Object) -> Option<Arc<str>> {
        None
    }
    /// Changes the object or refuses the write. Called again if the write has to be tried again.
    ///
    /// # Errors
    /// The refusal.
    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure>;
}

/// All plugins, in order (upstream: pkg/kubeapiserver/options/plugins.go).
pub const PLUGINS: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &service_account::ServiceAccounts,
    &node_restriction::NodeRestriction,
    &taint_nodes::TaintNodes,
    &priority::Priority,
    &default_tolerations::DefaultTolerations,
    &certificate_subject::CertificateSubject,
    &requester::Requester,
    &service_addresses::ServiceAddresses,
];

/// How long a creation waits for an object somebody is about to make.
const AWAIT_MAX: Duration = Duration::from_secs(2);

/// Waits until what the plugins need for this creation is there, or has not come in time, which `admit` will say.
pub async fn awaited(api: &Api, call: &Call, object: &dyn Object) {
    for key in PLUGINS.iter().filter_map(|plugin| plugin.awaits(call, object)) {
        // Watched before it is looked for, so that nothing falls in between.
        let Ok(mut watch) = api.store.watch(&key, api.store.revision()) else { continue };
        let there = async { while api.store.get(&key).is_none() && watch.next().await.is_ok() {} };
        if tokio::time::timeout(AWAIT_MAX, there).await.is_err() {
            tracing::debug!(%key, "did not come in time");
        }
    }
}

/// Waits for its turn if any plugin needs writes of this kind to take turns. Held until the write is done.
pub async fn hold<'a>(api: &'a Api, kind: &dyn DynKind) -> Option<MutexGuard<'a, ()>> {
    if PLUGINS.iter().any(|plugin| plugin.serializes(kind)) {
        return Some(api.turns.lock().await);
    }
    None
}

/// Asks every plugin.
///
/// # Errors
/// The first refusal.
pub fn admit(review: &mut Review<'_>) -> Result<(), Failure> {
    for plugin in PLUGINS {
        plugin.admit(review).inspect_err(|failure| {
            tracing::debug!(plugin = plugin.name(), status = ?failure.0.message, "refused");
        })?;
    }
    Ok(())
}

impl Api {
    /// Some object, typed; None if it does not exist or is not readable as that type.
    pub fn find<T: DeserializeOwned>(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<T> {
        let kind = pintle_control_plan::registry::by_kind(api_version, kind)?;
        let entry = self.store.get(&object::key(kind, namespace, name))?;
        serde_json::from_slice(&entry.bytes).ok()
    }
}
