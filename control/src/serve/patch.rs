//! patch. Owns: which kinds of patch there are and their media types. Does not own: applying them (`api`), server-side apply
//! (`apply`).

use std::sync::Arc;

use pintle_api::patch::strategic;
use pintle_api::{decode, patch, status};
use pintle_control_plan::registry::Object;
use pintle_control_plan::request::Verb;
use pintle_control_plan::strategy::Target;
use serde_json::Value;

use super::Api;
use super::answer::{Failure, Outcome};
use super::apply;
use super::call::Call;
use super::input::media_type;
use super::write::{answer, change};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// Every form of a patch, for those who ask for another.
const FORMS: &[&str] = &[JSON, MERGE, STRATEGIC, APPLY];

#[derive(Clone, Copy)]
enum Form {
    Json,
    Merge,
    Strategic,
}

struct Patch {
    form: Form,
    document: Value,
    duplicates: Vec<String>,
}

/// PATCH of an object or of a subresource that has the object's own form.
///
/// # Errors
/// 400, 403, 404, 409, 415, 422.
pub async fn patch(api: &Arc<Api>, call: &Call, target: Target) -> Outcome {
    if is_apply(call) {
        return apply::apply(api, call, target).await;
    }
    if call.query.option("force").is_some() {
        return Err(apply::wrong_option("force", "may not be specified for non-apply patch").into());
    }
    let patch = read(call)?;
    let warnings = std::sync::Mutex::new(Vec::new());
    let written = change(api, call, target, &|old| {
        let (object, said) = patched(call, &patch, old)?;
        // Only the last try's warnings count.
        *warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = said;
        Ok(object)
    })
    .await?;
    let warnings = warnings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    answer(api, call, &written, &warnings)
}

/// Whether a call is a server-side apply.
pub fn is_apply(call: &Call) -> bool {
    call.verb == Verb::Patch && media_type(call.content_type()) == APPLY
}

fn read(call: &Call) -> Result<Patch, Failure> {
    let form = match media_type(call.content_type()).as_str() {
        JSON => Form::Json,
        MERGE => Form::Merge,
        STRATEGIC => Form::Strategic,
        _ => return Err(status::unsupported_media_type(FORMS).into()),
    };
    let duplicates = decode::duplicate_fields(&call.body);
    let document = serde_json::from_slice(&call.body)
        .map_err(|error| status::bad_request(format!("error decoding patch: {error}")))?;
    Ok(Patch { form, document, duplicates })
}

fn patched(call: &Call, patch: &Patch, old: &dyn Object) -> Result<(Box<dyn Object>, Vec<String>), Failure> {
    let mut document: Value = serde_json::from_slice(&old.encode()).map_err(status::internal_error)?;
    let patched = match patch.form {
        Form::Json => patch::json(&mut document, &patch.document),
        Form::Merge => patch::merge(&mut document, &patch.document),
        Form::Strategic => strategic::apply(&call.kind.schema_name(), &mut document, &patch.document),
    };
    patched.map_err(|error| error.to_status())?;
    // Only a patch that names a resourceVersion is bound to it.
    if !names_revision(patch)
        && let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("resourceVersion");
    }
    let (decoded, mut warnings) = call.read(document.to_string().as_bytes())?;
    warnings.extend(call.judge_complaints(&patch.duplicates)?);
    Ok((decoded.object, warnings))
}

fn names_revision(patch: &Patch) -> bool {
    const POINTER: &str = "/metadata/resourceVersion";
    match patch.form {
        Form::Merge | Form::Strategic => patch.document.pointer(POINTER).is_some(),
        Form::Json => patch.document.as_array().into_iter().flatten().any(|operation| operation["path"] == POINTER),
    }
}
