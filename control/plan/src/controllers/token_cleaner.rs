//! Bootstrap tokens that have expired.
//!
//! Secrets are cached by metadata alone, so that no secret lies in this process's memory; a token's expiry is read when
//! the Secret changes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::common::meta;
use super::{Change, Controller, Key, KindRef, Plan, Question, Snapshot, View};

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// The controller.
pub struct TokenCleaner;

impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        &[]
    }
    fn keys(&self, change: &Change, _snapshot: &Snapshot) -> Vec<Key> {
        let name = &change.key.name;
        let token = change.key.kind == KindRef::of::<Secret>()
            && change.new.is_some()
            && name.namespace == NAMESPACE
            && name.name.starts_with(PREFIX);
        if token { vec![change.key.clone()] } else { Vec::new() }
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        if view.snapshot.meta(key).is_some() { vec![Question::Read(key.clone())] } else { Vec::new() }
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(metadata) = view.snapshot.meta(key) else { return plan };
        let Some(expires) = view.read(key).and_then(expiration) else { return plan };
        if expires <= view.now {
            plan.push(meta::delete(key.kind, metadata));
        } else {
            plan.wake(expires);
        }
        plan
    }
}

/// data.expiration, RFC 3339 in base64. None for other Secrets and for tokens that never expire.
fn expiration(secret: &Value) -> Option<Timestamp> {
    let secret: Secret = serde_json::from_value(secret.clone()).ok()?;
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let text = String::from_utf8(secret.data?.get("expiration")?.0.clone()).ok()?;
    text.parse().ok()
}
