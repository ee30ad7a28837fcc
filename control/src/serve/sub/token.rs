//! `/token` of a ServiceAccount: TokenRequest. Owns: what may be asked of a token. Does not own: its form (`auth`).

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_api::{status, time};
use pintle_control_plan::authz;

use super::super::Api;
use super::super::answer::{Failure, Outcome, json};
use super::super::call::Call;
use super::super::write::uid;
use crate::auth::{AUDIENCE, TokenSubject, claims};

const LIFE_S_DEFAULT: i64 = 3600;
/// Upstream's bounds.
const LIFE_S_MIN: i64 = 600;
const LIFE_S_MAX: i64 = 1 << 32;

/// What a token is bound to: (kind, name, uid), and the pod's node.
struct Bound {
    kind: &'static str,
    name: String,
    uid: String,
    node: Option<String>,
}

/// POST.
///
/// # Errors
/// 400, 403, 404, 409, 422.
pub async fn request(api: &Arc<Api>, call: &Call) -> Outcome {
    let mut request: TokenRequest = super::body(call, "TokenRequest")?;
    let (namespace, name) = (call.path.namespace.as_str(), call.path.name.as_str());
    let account: ServiceAccount =
        api.find("v1", "ServiceAccount", namespace, name).ok_or_else(|| status::not_found(call.about()))?;
    let spec = request.spec.get_or_insert_default();
    let life_s = life(spec.expiration_seconds)?;
    let bound = spec.bound_object_ref.as_ref();
    let bound = bound.map(|reference| find_bound(api, call, reference)).transpose()?;
    check_node(call, bound.as_ref())?;
    let audiences = spec.audiences.get_or_insert_default();
    if audiences.is_empty() {
        audiences.push(AUDIENCE.to_owned());
    }
    let subject = TokenSubject {
        namespace,
        name,
        uid: account.metadata.uid.as_deref().unwrap_or_default(),
        bound: bound.as_ref().map(|bound| (bound.kind, bound.name.as_str(), bound.uid.as_str())),
        node: bound.as_ref().and_then(|bound| bound.node.as_deref()).map(|node| (node, "")),
    };
    let now = time::whole_seconds((api.clock)());
    let claims = claims(&subject, audiences, now, life_s, &uid());
    let token = api.keys.tokens.sign(&claims);
    let token = token.ok_or_else(|| status::internal_error("the system has no random numbers to sign with"))?;
    let end = jiff::Timestamp::from_second(now.as_second() + life_s).map_err(status::internal_error)?;
    spec.expiration_seconds = Some(life_s);
    request.status = Some(TokenRequestStatus { expiration_timestamp: Some(Time(end)), token: Some(token) });
    request.metadata.name = Some(name.to_owned());
    request.metadata.namespace = Some(namespace.to_owned());
    request.metadata.creation_timestamp = Some(time::time(now));
    Ok(json(StatusCode::CREATED, &request))
}

fn life(asked: Option<i64>) -> Result<i64, Failure> {
    match asked {
        None => Ok(LIFE_S_DEFAULT),
        Some(seconds) if (LIFE_S_MIN..=LIFE_S_MAX).contains(&seconds) => Ok(seconds),
        Some(seconds) if seconds < LIFE_S_MIN => Err(status::bad_request(format!(
            "spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration less than 10 minutes"
        ))
        .into()),
        Some(seconds) => Err(status::bad_request(format!(
            "spec.expirationSeconds: Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"
        ))
        .into()),
    }
}

fn find_bound(api: &Arc<Api>, call: &Call, reference: &BoundObjectReference) -> Result<Bound, Failure> {
    let (kind, name) = (reference.kind.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
    let namespace = call.path.namespace.as_str();
    let missing = |resource| Failure::from(status::not_found(status::About::new("", resource, name)));
    let bound = match kind {
        "Pod" => {
            let pod: Pod = api.find("v1", "Pod", namespace, name).ok_or_else(|| missing("pods"))?;
            let spec = pod.spec.unwrap_or_default();
            let account = spec.service_account_name.unwrap_or_else(|| "default".to_owned());
            if account != call.path.name {
                return Err(status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name",
                    call.path.name
                ))
                .into());
            }
            Bound {
                kind: "Pod",
                name: name.to_owned(),
                uid: pod.metadata.uid.unwrap_or_default(),
                node: spec.node_name,
            }
        }
        "Secret" => {
            let secret: Secret = api.find("v1", "Secret", namespace, name).ok_or_else(|| missing("secrets"))?;
            Bound { kind: "Secret", name: name.to_owned(), uid: secret.metadata.uid.unwrap_or_default(), node: None }
        }
        other => return Err(status::bad_request(format!("cannot bind token to object of type {other}")).into()),
    };
    match reference.uid.as_deref() {
        Some(uid) if !uid.is_empty() && uid != bound.uid => {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            Err(status::conflict(status::About::new("", "pods", name), &why).into())
        }
        _ => Ok(bound),
    }
}

/// A node gets tokens only bound to a pod that runs on it (upstream: NodeRestriction).
fn check_node(call: &Call, bound: Option<&Bound>) -> Result<(), Failure> {
    let Some(node) = authz::node_name(&call.user) else { return Ok(()) };
    match bound {
        Some(Bound { kind: "Pod", node: Some(on), .. }) if on == node => Ok(()),
        Some(_) => {
            let why = format!("node {node:?} can only request tokens bound to pods that run on it");
            Err(status::forbidden(call.about(), &why).into())
        }
        None => Err(status::forbidden(call.about(), "node requested token not bound to a pod").into()),
    }
}
