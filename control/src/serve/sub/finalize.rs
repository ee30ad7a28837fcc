//! `/finalize` of a Namespace: the only way to change spec.finalizers. Owns: that nothing else changes with it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use pintle_api::status;
use pintle_control_plan::strategy::Target;

use super::super::Api;
use super::super::answer::Outcome;
use super::super::call::Call;
use super::super::write::{answer, change};

/// PUT.
///
/// # Errors
/// 400, 404, 409.
pub async fn finalize(api: &Arc<Api>, call: &Call) -> Outcome {
    let wanted: Namespace = super::body(call, "Namespace")?;
    let finalizers = wanted.spec.and_then(|spec| spec.finalizers);
    let written = change(api, call, Target::Whole, &|old| {
        let mut object = old.boxed_clone();
        object.metadata_mut().resource_version.clone_from(&wanted.metadata.resource_version);
        let namespace = object.downcast_mut::<Namespace>().ok_or_else(status::no_such_path)?;
        namespace.spec.get_or_insert_default().finalizers.clone_from(&finalizers);
        Ok(object)
    })
    .await?;
    answer(api, call, &written, &[])
}
