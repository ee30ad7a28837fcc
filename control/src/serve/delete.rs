//! delete and deletecollection. Owns: DeleteOptions, preconditions, finalizers of the propagation policy, graceful
//! deletion. Does not own: who collects what depends on the object (the garbage collector).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use pintle_api::status;
use pintle_control_plan::kind::DeletePlan;
use pintle_control_plan::registry::Object;
use pintle_control_plan::strategy;
use pintle_store::Change;
use serde_json::json;

use super::Api;
use super::answer::{Failure, Outcome, json, json_bytes};
use super::call::Call;
use super::filter::Filter;
use super::object::{decode, encode, key, name_of};
use super::read;
use super::write::commit_at;
use crate::admission::{self, Review};

/// Tries over what others write meanwhile.
const TRIES: usize = 20;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What has become of an object.
pub enum Deleted {
    /// It is gone; its last state.
    Gone(Bytes),
    /// It waits for its finalizers or its grace to end; its state now.
    Marked(Bytes),
}

/// DELETE of one object.
///
/// # Errors
/// 400, 403, 404, 409.
pub async fn delete(api: &Arc<Api>, call: &Call) -> Outcome {
    let options = options(call)?;
    match delete_one(api, call, &call.path.name, &options).await? {
        // kubectl and client-go take either; upstream answers the object where something remains of it.
        Deleted::Marked(bytes) => Ok(json_bytes(StatusCode::OK, bytes)),
        Deleted::Gone(bytes) => {
            let object = decode(call.kind, &bytes)?;
            let uid = object.metadata().uid.clone().unwrap_or_default();
            Ok(json(StatusCode::OK, &status::deleted(call.about(), &uid)))
        }
    }
}

/// DELETE of a collection: each selected object as if deleted alone. Answers the list of what was.
///
/// # Errors
/// Those of the first object that cannot be deleted; those before it are.
pub async fn delete_collection(api: &Arc<Api>, call: &Call) -> Outcome {
    let options = options(call)?;
    let filter = Filter::parse(call.kind, &call.query)?;
    let (entries, revision) = read::selected(api, call, &filter)?;
    let former = read::former(api, call)?;
    let mut body = former.list_head(&json!({"resourceVersion": revision.to_string()})).into_bytes();
    for (index, entry) in entries.iter().enumerate() {
        let object = decode(call.kind, &entry.bytes)?;
        let namespace = object.metadata().namespace.clone().unwrap_or_default();
        match delete_at(api, call, &namespace, name_of(&*object), &options).await {
            Ok(_) => {}
            // Somebody else was faster.
            Err(failure) if failure.0.code == Some(404) => {}
            Err(failure) => return Err(failure),
        }
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&former.item(&entry.bytes)?);
    }
    body.extend_from_slice(b"]}");
    Ok(json_bytes(StatusCode::OK, body))
}

/// Reads DeleteOptions from the body or, for what the body does not say, the query.
fn options(call: &Call) -> Result<DeleteOptions, Failure> {
    let mut options: DeleteOptions = if call.body.is_empty() {
        DeleteOptions::default()
    } else {
        let json = call.json()?;
        serde_json::from_slice(&json)
            .map_err(|error| status::bad_request(format!("cannot read the body as DeleteOptions: {error}")))?
    };
    if options.grace_period_seconds.is_none() {
        options.grace_period_seconds = call.query.number("gracePeriodSeconds")?;
    }
    if options.propagation_policy.is_none() {
        options.propagation_policy = call.query.option("propagationPolicy").map(ToOwned::to_owned);
    }
    if options.orphan_dependents.is_none() {
        options.orphan_dependents = call.query.option("orphanDependents").map(|_| call.query.flag("orphanDependents"));
    }
    if call.query.dry_run()? {
        options.dry_run = Some(vec!["All".to_owned()]);
    }
    check(&options)?;
    Ok(options)
}

fn check(options: &DeleteOptions) -> Result<(), Failure> {
    let unsupported = |field: &str, value: &str, values: &str| {
        Failure::from(status::bad_request(format!(
            "DeleteOptions is invalid: {field}: Unsupported value: {value:?}: supported values: {values}"
        )))
    };
    if let Some(policy) = options.propagation_policy.as_deref()
        && !matches!(policy, "Foreground" | "Background" | "Orphan" | "")
    {
        return Err(unsupported("propagationPolicy", policy, "\"Background\", \"Foreground\", \"Orphan\""));
    }
    match options.dry_run.iter().flatten().find(|value| *value != "All") {
        Some(value) => Err(unsupported("dryRun", value, "\"All\"")),
        None => Ok(()),
    }
}

/// Deletes one object of the call's namespace.
///
/// # Errors
/// 403, 404, 409.
pub async fn delete_one(api: &Arc<Api>, call: &Call, name: &str, options: &DeleteOptions) -> Result<Deleted, Failure> {
    delete_at(api, call, &call.path.namespace, name, options).await
}

async fn delete_at(
    api: &Arc<Api>,
    call: &Call,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, Failure> {
    let dry_run = options.dry_run.as_ref().is_some_and(|values| !values.is_empty());
    let key = key(call.kind, namespace, name);
    for _ in 0..TRIES {
        let entry = api.store.get(&key).ok_or_else(|| status::not_found(call.kind.about(name)))?;
        let old = decode(call.kind, &entry.bytes)?;
        check_preconditions(call, name, &*old, options)?;
        admission::admit(&mut Review { api, call, name, object: None, old: Some(&*old), dry_run })?;
        let mut new = old.clone();
        let changed = mark(&mut *new, options, (api.clock)());
        let gone = strategy::may_go(&*new);
        if !changed && !gone {
            return Ok(Deleted::Marked(entry.bytes));
        }
        if dry_run {
            let bytes = Bytes::from(new.encode());
            return Ok(if gone { Deleted::Gone(bytes) } else { Deleted::Marked(bytes) });
        }
        let value = encode(new);
        let change = if gone { Change::Delete { last: value } } else { Change::Put(value) };
        if let Some(bytes) = commit_at(api, key.clone(), entry.modified, change).await? {
            return Ok(if gone { Deleted::Gone(bytes) } else { Deleted::Marked(bytes) });
        }
    }
    Err(status::stale(call.kind.about(name)).into())
}

fn check_preconditions(call: &Call, name: &str, old: &dyn Object, options: &DeleteOptions) -> Result<(), Failure> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let metadata = old.metadata();
    for (what, long, asked, is) in [
        ("UID", "UID in object meta", &wanted.uid, &metadata.uid),
        ("ResourceVersion", "ResourceVersion in object meta", &wanted.resource_version, &metadata.resource_version),
    ] {
        if asked.is_some() && asked != is {
            let (asked, is) = (asked.as_deref().unwrap_or_default(), is.as_deref().unwrap_or_default());
            let why = format!("Precondition failed: {what} in precondition: {asked}, {long}: {is}");
            return Err(status::conflict(call.kind.about(name), &why).into());
        }
    }
    Ok(())
}

/// Marks an object as being deleted. Whether that changed it.
fn mark(object: &mut dyn Object, options: &DeleteOptions, now: jiff::Timestamp) -> bool {
    let finalizers_changed = set_policy_finalizers(object, options);
    // A negative grace means the shortest (upstream since 1.20).
    let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let grace_s = match object.delete(asked) {
        DeletePlan::Now => 0,
        DeletePlan::Graceful { grace_s } => grace_s,
    };
    strategy::begin_deletion(object, grace_s, now) | finalizers_changed
}

/// The garbage collector does what the policy asks and then takes these finalizers away.
fn set_policy_finalizers(object: &mut dyn Object, options: &DeleteOptions) -> bool {
    let wanted = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Foreground"), _) => Some(FOREGROUND),
        (Some("Orphan"), _) | (None | Some(""), Some(true)) => Some(ORPHAN),
        (Some("Background"), _) | (None | Some(""), Some(false)) => None,
        // Nothing said: what an earlier deletion asked for stays.
        _ => return false,
    };
    let before = object.metadata().finalizers.clone();
    let mut finalizers = before.clone().unwrap_or_default();
    finalizers.retain(|name| (name != FOREGROUND && name != ORPHAN) || Some(name.as_str()) == wanted);
    if let Some(wanted) = wanted
        && !finalizers.iter().any(|name| name == wanted)
    {
        finalizers.push(wanted.to_owned());
    }
    let after = (!finalizers.is_empty()).then_some(finalizers);
    let changed = after != before;
    object.metadata_mut().finalizers = after;
    changed
}
