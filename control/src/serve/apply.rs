//! Server-side apply. Owns: its requests: what they must say, and that an object which is not there is created. Does not
//! own: what an apply makes of an object (`pintle_api::apply`).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Status};
use pintle_api::apply::{self, Conflicts};
use pintle_api::field::{FieldErrors, Path};
use pintle_api::status::{self, About};
use pintle_control_plan::authz::{Access, Asked};
use pintle_control_plan::kind::Subresource;
use pintle_control_plan::registry::Object;
use pintle_control_plan::request::Verb;
use pintle_control_plan::strategy::Target;
use serde_json::Value;

use super::Api;
use super::answer::{Failure, Outcome, json_bytes};
use super::call::Call;
use super::input::yaml_to_json;
use super::ownership::{self, NAME_CHARS_MAX};
use super::read::former;
use super::route::allow;
use super::write::{answer, change, insert};

/// How often an object may come and go between our looks.
const TRIES: usize = 8;

/// PATCH with `application/apply-patch+yaml`.
///
/// # Errors
/// 400, 403, 404, 409 (conflicts too), 422.
pub async fn apply(api: &Arc<Api>, call: &Call, target: Target) -> Outcome {
    check_options(call)?;
    let config = read(call, target)?;
    for _ in 0..TRIES {
        match change(api, call, target, &|old| applied(api, call, &config, Some(old))).await {
            Err(failure) if is(&failure, "NotFound") && target == Target::Main => {}
            written => return answer(api, call, &written?, &[]),
        }
        match create(api, call, &config).await {
            Err(failure) if is(&failure, "AlreadyExists") => {}
            created => return Ok(json_bytes(StatusCode::CREATED, former(api, call)?.one(&created?, true)?)),
        }
    }
    Err(status::stale(call.about()).into())
}

fn is(failure: &Failure, reason: &str) -> bool {
    failure.0.reason.as_deref() == Some(reason)
}

async fn create(api: &Arc<Api>, call: &Call, config: &Value) -> Result<Bytes, Failure> {
    let path = &call.path;
    let access = Access {
        verb: Verb::Create.as_str(),
        group: &path.group,
        resource: &path.resource,
        subresource: "",
        namespace: &path.namespace,
        name: &path.name,
        field_selector: "",
    };
    allow(api, &call.user, &Asked::Resource(access))?;
    if let Some(uid) = config.pointer("/metadata/uid").and_then(Value::as_str) {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(status::conflict(call.about(), &why).into());
    }
    let mut object = applied(api, call, config, None)?;
    if object.metadata().resource_version.as_deref().is_some_and(|version| !version.is_empty()) {
        return Err(status::not_found(call.about()).into());
    }
    object.metadata_mut().name = Some(path.name.clone());
    insert(api, call, &mut object).await
}

/// The object a configuration makes of another one, or of nothing.
fn applied(api: &Api, call: &Call, config: &Value, old: Option<&dyn Object>) -> Result<Box<dyn Object>, Failure> {
    let live = old.map(ownership::value).transpose()?;
    let none: &[ManagedFieldsEntry] = &[];
    let owners = old.and_then(|old| old.metadata().managed_fields.as_deref()).unwrap_or(none);
    let schema = call.kind.schema_name();
    let writing = ownership::writing(api, call, &schema);
    let result = apply::apply(&writing, live.as_ref(), owners, config, call.query.flag("force"));
    let (mut document, owners) = result.map_err(|Conflicts(causes)| status::apply_conflict(causes))?;
    // Only a configuration that names a resourceVersion is bound to it.
    if config.pointer("/metadata/resourceVersion").is_none()
        && let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("resourceVersion");
    }
    let (decoded, _) = call.read(document.to_string().as_bytes())?;
    let mut object = decoded.object;
    object.metadata_mut().managed_fields = owners;
    Ok(object)
}

/// The configuration, without what this path does not write.
fn read(call: &Call, target: Target) -> Result<Value, Failure> {
    let json = yaml_to_json(&call.body)?;
    let decoded = call.kind.decode_request(&json)?;
    let mut config: Value = serde_json::from_slice(&json).map_err(status::internal_error)?;
    if !decoded.complaints.is_empty() {
        return Err(not_in_the_schema(call, &decoded.complaints).into());
    }
    if decoded.object.metadata().managed_fields.as_ref().is_some_and(|owners| !owners.is_empty()) {
        return Err(status::bad_request("metadata.managedFields must be nil").into());
    }
    let has_status = call.kind.subresources().contains(&Subresource::Status);
    if let Some(fields) = config.as_object_mut() {
        match target {
            Target::Status => fields.retain(|name, _| matches!(&**name, "apiVersion" | "kind" | "metadata" | "status")),
            _ if has_status => drop(fields.remove("status")),
            _ => {}
        }
    }
    Ok(config)
}

fn not_in_the_schema(call: &Call, complaints: &[String]) -> Box<Status> {
    let path = &call.path;
    status::bad_request(format!(
        "failed to create typed patch object ({}/{}; {}, Kind={}): {}",
        path.namespace,
        path.name,
        call.kind.api_version(),
        call.kind.kind(),
        complaints.join(", ")
    ))
}

fn check_options(call: &Call) -> Result<(), Failure> {
    let manager = call.query.get("fieldManager");
    let mut errors = FieldErrors::new();
    let path = Path::new("fieldManager");
    if manager.is_empty() {
        errors.required(&path, "is required for apply patch");
    } else if manager.chars().count() > NAME_CHARS_MAX {
        errors.too_long(&path, NAME_CHARS_MAX);
    } else if manager.chars().any(char::is_control) {
        errors.invalid(&path, manager, "should only contain printable characters");
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid_options(&errors).into()) }
}

/// The 422 for an option that does not belong to the kind of patch.
pub fn wrong_option(name: &str, why: &str) -> Box<Status> {
    let mut errors = FieldErrors::new();
    errors.forbidden(&Path::new(name), why);
    invalid_options(&errors)
}

fn invalid_options(errors: &FieldErrors) -> Box<Status> {
    status::invalid(About::new("meta.k8s.io", "PatchOptions", ""), errors)
}
