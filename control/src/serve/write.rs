//! create, update, and the loop under every change of an object. Owns: the order of a write and its retries. Does not
//! own: what a write may do (strategy, kinds, admission).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use pintle_api::status;
use pintle_control_plan::kind::Scope;
use pintle_control_plan::registry::Object;
use pintle_control_plan::strategy::{self, Target};
use pintle_store::{Change, CommitError, Expect, Op, Revision};

use super::Api;
use super::answer::{Failure, Outcome, add_warnings, json_bytes};
use super::call::Call;
use super::object::{decode, encode, key, name_of};
use super::ownership;
use super::read::former;
use crate::admission::{self, Review};

/// Tries with other suffixes for `generateName` (upstream: 8).
const NAME_TRIES: usize = 8;
/// Tries of a change that says no resourceVersion, each over the newest state.
const CHANGE_TRIES: usize = 20;

/// POST of a collection.
///
/// # Errors
/// 400, 403, 404, 409, 415, 422.
pub async fn create(api: &Arc<Api>, call: &Call) -> Outcome {
    let former = former(api, call)?;
    let (decoded, warnings) = call.object()?;
    let mut object = decoded.object;
    object.metadata_mut().managed_fields = None;
    if object.metadata().resource_version.as_deref().is_some_and(|version| !version.is_empty()) {
        return Err(status::bad_request("resourceVersion should not be set on objects to be created").into());
    }
    let generated = name_of(&*object).is_empty().then(|| object.metadata().generate_name.clone()).flatten();
    let generated = generated.filter(|prefix| !prefix.is_empty());
    let stored = match generated {
        None => insert(api, call, &mut object).await?,
        Some(prefix) => insert_with_generated_name(api, call, &prefix, &*object).await?,
    };
    let mut answer = json_bytes(StatusCode::CREATED, former.one(&stored, true)?);
    add_warnings(&mut answer, &warnings);
    Ok(answer)
}

async fn insert_with_generated_name(
    api: &Arc<Api>,
    call: &Call,
    prefix: &str,
    template: &dyn Object,
) -> Result<Bytes, Failure> {
    let mut tried = String::new();
    for _ in 0..NAME_TRIES {
        let mut object = template.boxed_clone();
        tried = strategy::generated_name(prefix, rand::random());
        object.metadata_mut().name = Some(tried.clone());
        match insert(api, call, &mut object).await {
            Err(failure) if failure.0.reason.as_deref() == Some("AlreadyExists") => {}
            outcome => return outcome,
        }
    }
    Err(status::generate_name_conflict(call.kind.about(&tried)).into())
}

/// Runs one new object through the whole chain into the store.
///
/// # Errors
/// 409 if there is one of its name; those of the chain.
pub async fn insert(api: &Arc<Api>, call: &Call, object: &mut Box<dyn Object>) -> Result<Bytes, Failure> {
    let dry_run = call.query.dry_run()?;
    let now = (api.clock)();
    let namespace = (call.kind.scope() == Scope::Namespaced).then_some(call.path.namespace.as_str());
    strategy::fill_new(&mut **object, namespace, &uid(), now);
    object.default();
    admission::awaited(api, call, &**object).await;
    let _held = admission::hold(api, call.kind).await;
    let name = name_of(&**object).to_owned();
    admission::admit(&mut Review { api, call, name: &name, object: Some(&mut **object), old: None, dry_run })?;
    object.default();
    strategy::prepare_create(&mut **object);
    strategy::validate_create(&**object)?;
    let key = key(call.kind, &call.path.namespace, &name);
    let value = encode(object.clone());
    if dry_run {
        return match api.store.get(&key) {
            Some(_) => Err(status::already_exists(call.kind.about(&name)).into()),
            None => Ok(dry(object)),
        };
    }
    let op = Op { key, expect: Expect::Absent, change: Change::Put(value) };
    match api.store.commit(vec![op]).await {
        Ok(committed) => Ok(committed.bytes.into_iter().next().unwrap_or_default()),
        Err(CommitError::Conflict { .. }) => Err(status::already_exists(call.kind.about(&name)).into()),
        Err(error) => Err(commit_failure(&error)),
    }
}

/// What a dry run answers: the object as it would be stored, without a revision.
fn dry(object: &mut Box<dyn Object>) -> Bytes {
    object.metadata_mut().resource_version = None;
    object.encode().into()
}

/// A random version 4 UUID.
pub fn uid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A transaction the store could not make durable.
pub fn commit_failure(error: &CommitError) -> Failure {
    let chain = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    tracing::error!(error = %chain, "a write failed");
    if error.is_full() {
        return status::insufficient_storage(format!("{chain}; reads are answered, writes once there is room")).into();
    }
    status::internal_error(chain).into()
}

/// PUT of an object or of one of its subresources that has the object's own form.
///
/// # Errors
/// 400, 403, 404, 409, 415, 422.
pub async fn update(api: &Arc<Api>, call: &Call, target: Target) -> Outcome {
    let (decoded, warnings) = call.object()?;
    let object = decoded.object;
    let written = change(api, call, target, &|_| Ok(object.clone())).await?;
    answer(api, call, &written, &warnings)
}

/// The changed object, in the form the client asked for.
///
/// # Errors
/// 406.
pub fn answer(api: &Arc<Api>, call: &Call, bytes: &Bytes, warnings: &[String]) -> Outcome {
    let mut answer = json_bytes(StatusCode::OK, former(api, call)?.one(bytes, true)?);
    add_warnings(&mut answer, warnings);
    Ok(answer)
}

/// Makes a new state of an object out of its current one.
pub type Changer<'a> = &'a (dyn Fn(&dyn Object) -> Result<Box<dyn Object>, Failure> + Send + Sync);

/// Changes one object: reads, makes the new state, runs it through the chain, writes it if the object is still what was
/// read. A new state that names no resourceVersion is tried again over what somebody else wrote meanwhile. Answers what
/// is stored now; for an object whose last finalizer went, what it last was.
///
/// # Errors
/// Those of the chain; 409 for a resourceVersion that is not the current one.
pub async fn change(api: &Arc<Api>, call: &Call, target: Target, changer: Changer<'_>) -> Result<Bytes, Failure> {
    let dry_run = call.query.dry_run()?;
    let key = key(call.kind, &call.path.namespace, &call.path.name);
    for _ in 0..CHANGE_TRIES {
        let entry = api.store.get(&key).ok_or_else(|| status::not_found(call.about()))?;
        let old = decode(call.kind, &entry.bytes)?;
        let mut new = changer(&*old)?;
        let asked = new.metadata_mut().resource_version.take().filter(|version| !version.is_empty());
        let current = old.metadata().resource_version.clone();
        if asked.is_some() && asked != current {
            return Err(status::stale(call.about()).into());
        }
        let _held = admission::hold(api, call.kind).await;
        let owners = new.metadata_mut().managed_fields.take();
        through_the_chain(api, call, target, &mut new, &*old, dry_run)?;
        new.metadata_mut().resource_version.clone_from(&current);
        new.metadata_mut().managed_fields = ownership::after(api, call, &*old, &*new, owners)?;
        if new.equals(&*old) {
            return Ok(entry.bytes);
        }
        if dry_run {
            return Ok(new.encode().into());
        }
        let last = strategy::may_go(&*new);
        let value = encode(new);
        let change = if last { Change::Delete { last: value } } else { Change::Put(value) };
        match commit_at(api, key.clone(), entry.modified, change).await? {
            Some(bytes) => return Ok(bytes),
            None if asked.is_some() => return Err(status::stale(call.about()).into()),
            None => {}
        }
    }
    Err(status::stale(call.about()).into())
}

fn through_the_chain(
    api: &Arc<Api>,
    call: &Call,
    target: Target,
    new: &mut Box<dyn Object>,
    old: &dyn Object,
    dry_run: bool,
) -> Result<(), Failure> {
    new.default();
    // Before admission, so that what a caller may not change is not judged as if they had changed it.
    strategy::prepare_update(&mut **new, old, target)?;
    let name = call.path.name.as_str();
    admission::admit(&mut Review { api, call, name, object: Some(&mut **new), old: Some(old), dry_run })?;
    new.default();
    strategy::validate_update(&**new, old, target)?;
    Ok(())
}

/// Writes over exactly the revision that was read; None if it is no longer the current one.
///
/// # Errors
/// 500 if the store cannot write.
pub async fn commit_at(
    api: &Arc<Api>,
    key: Arc<str>,
    modified: Revision,
    change: Change,
) -> Result<Option<Bytes>, Failure> {
    let op = Op { key, expect: Expect::At(modified), change };
    match api.store.commit(vec![op]).await {
        Ok(committed) => Ok(Some(committed.bytes.into_iter().next().unwrap_or_default())),
        Err(CommitError::Conflict { .. }) => Ok(None),
        Err(error) => Err(commit_failure(&error)),
    }
}
