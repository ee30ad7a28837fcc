//! `/scale`: autoscaling/v1 Scale. Owns: its form. Does not own: what scaling means (the kind's).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::{patch, status};
use pintle_control_plan::registry::Object;
use pintle_control_plan::request::Verb;
use pintle_control_plan::strategy::Target;
use serde_json::Value;

use super::super::Api;
use super::super::answer::{Failure, Outcome, json};
use super::super::call::Call;
use super::super::object::{decode, key};
use super::super::write::change;

/// get, update and patch.
///
/// # Errors
/// 400, 404, 405, 409, 415, 422.
pub async fn scale(api: &Arc<Api>, call: &Call) -> Outcome {
    let bytes = match call.verb {
        Verb::Get => current(api, call)?,
        Verb::Update => {
            let wanted: Scale = super::body(call, "Scale")?;
            change(api, call, Target::Main, &|old| scaled(call, old, &wanted)).await?
        }
        Verb::Patch => {
            let document: Value = serde_json::from_slice(&call.body)
                .map_err(|error| status::bad_request(format!("error decoding patch: {error}")))?;
            change(api, call, Target::Main, &|old| scaled(call, old, &patched(call, old, &document)?)).await?
        }
        _ => return Err(status::method_not_allowed(call.about(), call.verb.as_str()).into()),
    };
    let object = decode(call.kind, &bytes)?;
    Ok(json(StatusCode::OK, &view(&*object)?))
}

fn current(api: &Arc<Api>, call: &Call) -> Result<Bytes, Failure> {
    let entry = api.store.get(&key(call.kind, &call.path.namespace, &call.path.name));
    Ok(entry.ok_or_else(|| status::not_found(call.about()))?.bytes)
}

fn view(object: &dyn Object) -> Result<Scale, Failure> {
    let scale = object.scale().ok_or_else(status::no_such_path)?;
    let metadata = object.metadata();
    Ok(Scale {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            creation_timestamp: metadata.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: Some(scale.wanted) }),
        status: Some(ScaleStatus { replicas: scale.observed, selector: Some(scale.selector) }),
    })
}

fn patched(call: &Call, old: &dyn Object, document: &Value) -> Result<Scale, Failure> {
    let mut scale = serde_json::to_value(view(old)?).map_err(status::internal_error)?;
    // Without a revision of its own the patch applies to whatever is there.
    if let Some(metadata) = scale["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let result =
        if document.is_array() { patch::json(&mut scale, document) } else { patch::merge(&mut scale, document) };
    result.map_err(|error| error.to_status())?;
    serde_json::from_value(scale).map_err(|error| {
        status::bad_request(format!("the patched Scale is unreadable in {:?}: {error}", call.path.name)).into()
    })
}

fn scaled(call: &Call, old: &dyn Object, wanted: &Scale) -> Result<Box<dyn Object>, Failure> {
    let replicas = wanted.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    if replicas < 0 {
        let mut errors = FieldErrors::new();
        errors.invalid(&Path::new("spec").child("replicas"), replicas, "must be greater than or equal to 0");
        let about = status::About::new("autoscaling", "Scale", &call.path.name);
        return Err(status::invalid(about, &errors).into());
    }
    let mut object = old.boxed_clone();
    object.set_scale(replicas);
    object.metadata_mut().resource_version.clone_from(&wanted.metadata.resource_version);
    Ok(object)
}
