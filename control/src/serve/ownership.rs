//! `metadata.managedFields` of an object that is written. Owns: who the writer is, and when fields are tracked at all.
//! Does not own: which fields come to whom (`pintle_api::apply`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use pintle_api::apply::{self, Manager, Operation, Writing};
use pintle_api::status;
use pintle_control_plan::registry::Object;
use serde_json::Value;

use super::Api;
use super::answer::Failure;
use super::call::Call;
use super::patch::is_apply;

/// Longest name of a writer (apimachinery, FieldManagerMaxLength).
pub const NAME_CHARS_MAX: usize = 128;

type Owners = Option<Vec<ManagedFieldsEntry>>;

/// The writing a call is.
pub fn writing<'a>(api: &Api, call: &Call, schema: &'a str) -> Writing<'a> {
    let operation = if is_apply(call) { Operation::Apply } else { Operation::Update };
    let manager = Manager {
        name: manager(call),
        operation,
        api_version: call.kind.api_version().to_owned(),
        subresource: call.path.subresource.clone(),
    };
    Writing { schema, manager, now: (api.clock)() }
}

/// `fieldManager`, or else the program's name as it calls itself.
fn manager(call: &Call) -> String {
    let named = call.query.get("fieldManager");
    if !named.is_empty() {
        return named.to_owned();
    }
    let program = call.user_agent().split('/').next().unwrap_or_default();
    program.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(NAME_CHARS_MAX).collect()
}

/// The owners after a write. `said` is what the new object said of them: for an apply they are the owners; from others
/// an empty list changes nothing, one empty entry ends the tracking.
///
/// # Errors
/// 500 if an object cannot be read back.
pub fn after(api: &Api, call: &Call, old: &dyn Object, new: &dyn Object, said: Owners) -> Result<Owners, Failure> {
    if is_apply(call) {
        return Ok(said);
    }
    let owners = said.filter(|owners| !owners.is_empty()).or_else(|| old.metadata().managed_fields.clone());
    let Some(owners) = owners else { return Ok(None) };
    let schema = call.kind.schema_name();
    Ok(apply::update(&writing(api, call, &schema), &value(old)?, &value(new)?, &owners))
}

/// An object as JSON, without its owners.
///
/// # Errors
/// 500 if it cannot be read back.
pub fn value(object: &dyn Object) -> Result<Value, Failure> {
    let mut value: Value = serde_json::from_slice(&object.encode()).map_err(status::internal_error)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}
