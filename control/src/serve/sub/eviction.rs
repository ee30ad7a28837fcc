//! `/eviction`: a polite deletion. Owns: reading it. Does not own: deleting. PodDisruptionBudgets are not served yet, so
//! none can object.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::api::policy::v1::Eviction;
use pintle_api::status;

use super::super::Api;
use super::super::answer::{Outcome, json};
use super::super::call::Call;
use super::super::delete::delete_one;

/// POST.
///
/// # Errors
/// 400, 404, 409.
pub async fn evict(api: &Arc<Api>, call: &Call) -> Outcome {
    let eviction: Eviction = super::body(call, "Eviction")?;
    let named = eviction.metadata.name.as_deref().unwrap_or_default();
    if !named.is_empty() && named != call.path.name {
        return Err(status::bad_request(format!(
            "the name in the Eviction ({named}) does not match the name on the URL ({})",
            call.path.name
        ))
        .into());
    }
    let mut options = eviction.delete_options.unwrap_or_default();
    if call.query.dry_run()? {
        options.dry_run = Some(vec!["All".to_owned()]);
    }
    delete_one(api, call, &call.path.name, &options).await?;
    let mut success = status::success(None);
    success.code = Some(201);
    Ok(json(StatusCode::CREATED, &*success))
}
