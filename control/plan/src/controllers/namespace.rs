//! Namespace: empties a namespace that is being deleted, then lets it go.
//!
//! Owns the finalizer `kubernetes` in spec.finalizers. What is inside is counted live, kind by kind: a cache could miss
//! an object made a moment ago, and then something would outlive its namespace.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};

use super::common::{claim, conditions, meta};
use super::{Action, Answer, Change, Controller, Key, KindRef, Name, Part, Plan, Question, Snapshot, View, encode};

const FINALIZER: &str = "kubernetes";

/// The controller.
pub struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }
    fn watches(&self) -> &'static [KindRef] {
        const { &[KindRef::of::<Namespace>()] }
    }
    fn keys(&self, change: &Change, snapshot: &Snapshot) -> Vec<Key> {
        let kind = KindRef::of::<Namespace>();
        let key = match change.key.kind == kind {
            true => change.key.clone(),
            // Something inside is gone for good: perhaps it was the last.
            false if change.new.is_none() => Key::new(kind, Name::new("", change.key.name.namespace.clone())),
            false => return Vec::new(),
        };
        let deleting = snapshot.get::<Namespace>(&key.name).is_some_and(|n| meta::is_deleting(&n.metadata));
        if deleting { vec![key] } else { Vec::new() }
    }
    fn ask(&self, key: &Key, view: &View<'_>) -> Vec<Question> {
        if terminating(key, view).is_none() {
            return Vec::new();
        }
        view.config.namespaced.iter().map(|k| Question::Count(*k, key.name.name.clone())).collect()
    }
    fn plan(&self, key: &Key, view: &View<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(namespace) = terminating(key, view) else { return plan };
        let remaining = remaining(key, view);
        if remaining.is_empty() {
            plan.push(finalize(namespace));
            return plan;
        }
        let status = status(namespace, &remaining, view);
        if status.status != namespace.status {
            plan.push(claim::put_status(&status));
        }
        // Everything goes at once; owners and dependents need no order, since all of them are to go.
        for (kind, _) in &remaining {
            plan.push(Action::DeleteAll { kind: *kind, namespace: key.name.name.clone() });
        }
        let since = namespace.metadata.deletion_timestamp.as_ref().map_or(view.now, |t| t.0);
        let elapsed_ms = view.now.duration_since(since).as_millis();
        // What is watched calls again by itself; for the rest look again, ever more rarely.
        let wait_ms = i64::try_from(elapsed_ms).unwrap_or(i64::MAX).clamp(20, 10_000);
        plan.wake(view.now + SignedDuration::from_millis(wait_ms));
        plan
    }
}

fn terminating<'a>(key: &Key, view: &View<'a>) -> Option<&'a Namespace> {
    let namespace = view.snapshot.get::<Namespace>(&key.name)?;
    let held = namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == FINALIZER);
    (meta::is_deleting(&namespace.metadata) && held).then_some(namespace)
}

/// Kinds of which something is left, pods first.
fn remaining(key: &Key, view: &View<'_>) -> Vec<(KindRef, usize)> {
    let mut left: Vec<(KindRef, usize)> = view
        .config
        .namespaced
        .iter()
        .filter_map(|kind| match view.answers.get(&Question::Count(*kind, key.name.name.clone())) {
            Some(Answer::Count(0)) => None,
            Some(Answer::Count(n)) => Some((*kind, *n)),
            // The driver plans only with every question answered; should it not, nothing may be taken for empty.
            _ => Some((*kind, 1)),
        })
        .collect();
    left.sort_by_key(|(kind, _)| (*kind != KindRef::of::<Pod>(), kind.plural));
    left
}

fn finalize(namespace: &Namespace) -> Action {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    Action::Put { kind: KindRef::of::<Namespace>(), part: Part::Finalize, object: encode(&namespace) }
}

/// What `kubectl describe namespace` shows while it waits.
fn status(namespace: &Namespace, remaining: &[(KindRef, usize)], view: &View<'_>) -> Namespace {
    let listed: Vec<String> = remaining.iter().map(|(kind, n)| format!("{kind} has {n} resource instances")).collect();
    let content = ("NamespaceContentRemaining", "SomeResourcesRemain", listed.join(", "));
    let mut new = namespace.clone();
    let status = new.status.get_or_insert_default();
    let (type_, reason, message) = content;
    let message = format!("Some resources are remaining: {message}");
    let list = status.conditions.get_or_insert_default();
    let old = list.iter().position(|c| c.type_ == type_).map(|at| list.remove(at));
    let same_status = old.as_ref().is_some_and(|c| c.status == "True");
    list.push(NamespaceCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: match old {
            Some(old) if same_status => old.last_transition_time,
            _ => Some(conditions::time(view.now)),
        },
    });
    new
}
