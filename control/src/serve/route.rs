//! The way of one request. Owns: its order and its dispatch by verb. Does not own: any verb.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use pintle_api::status::{self, About};
use pintle_control_plan::authz::{self, Access, Asked, Decision, User};
use pintle_control_plan::kind::{Scope, Subresource};
use pintle_control_plan::registry::{self, DynKind};
use pintle_control_plan::request::{self, ResourcePath, Target, Verb};
use pintle_control_plan::strategy;

use super::answer::{Answer, Failure, Outcome, json};
use super::call::Call;
use super::query::Query;
use super::sub::{binding, eviction, finalize, scale, token, tunnel};
use super::{Api, delete, discovery, health, input, openapi, patch, read, review, watch, write};
use crate::auth::Peer;

/// Answers one request; never fails, as every failure has a Status.
pub async fn answer(api: Arc<Api>, peer: Arc<Peer>, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = handle(&api, &peer, request).await.unwrap_or_else(|failure| failure.answer());
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    answer
}

async fn handle(api: &Arc<Api>, peer: &Peer, request: Request<Incoming>) -> Outcome {
    let user = api.auth.user(api, peer, request.headers())?;
    let raw = request.uri().path();
    let path =
        percent_decode_str(raw).decode_utf8().map_err(|_| status::bad_request("the path is not UTF-8"))?.into_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match request::read_path(&path) {
        Target::Other => other(api, &user, &path, request).await,
        Target::Resource(target) => resource(api, user, target, &path, query, request).await,
    }
}

async fn other(api: &Arc<Api>, user: &User, path: &str, request: Request<Incoming>) -> Outcome {
    let verb = request.method().as_str().to_ascii_lowercase();
    allow(api, user, &Asked::Path { verb: &verb, path })?;
    let (parts, _) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    if let Some(answer) = health::answer(api, path, &query) {
        return Ok(answer);
    }
    let accept = header(&parts.headers, &http::header::ACCEPT);
    openapi::answer(path, accept, &parts.headers)
        .or_else(|| discovery::answer(path, &parts.headers))
        .unwrap_or_else(|| Err(status::no_such_path().into()))
}

async fn resource(
    api: &Arc<Api>,
    user: User,
    mut target: ResourcePath,
    path: &str,
    query: Query,
    request: Request<Incoming>,
) -> Outcome {
    let watch = query.flag("watch") || is_old_watch(path);
    let verb = request::verb(request.method().as_str(), &target, watch);
    let verb = verb
        .ok_or_else(|| status::method_not_allowed(About::new("", &target.resource, ""), request.method().as_str()))?;
    let access = Access {
        verb: verb.as_str(),
        group: &target.group,
        resource: &target.resource,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name: &target.name,
        field_selector: query.get("fieldSelector"),
    };
    allow(api, &user, &Asked::Resource(access))?;
    let Some(kind) = registry::by_resource(&target.group, &target.version, &target.resource) else {
        return asked(api, &user, verb, &target, request).await;
    };
    check_scope(kind, &mut target, verb)?;
    let stream = kind
        .subresources()
        .iter()
        .copied()
        .find(|sub| STREAMS.contains(sub) && discovery::subresource_name(*sub) == target.subresource);
    let mut request = request;
    if let Some(stream) = stream {
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let call = Call { user, verb, path: target, kind, query, headers: parts.headers, body: Bytes::new() };
        return tunnel::tunnel(api, &call, stream, &parts.method, upgrade).await;
    }
    let (parts, body) = request.into_parts();
    let body = input::collect(body).await?;
    let call = Call { user, verb, path: target, kind, query, headers: parts.headers, body };
    dispatch(api, &call).await
}

/// Subresources that are carried to the kubelet.
const STREAMS: &[Subresource] = &[Subresource::Log, Subresource::Exec, Subresource::Attach, Subresource::PortForward];

/// What is no stored kind may be a review.
async fn asked(api: &Arc<Api>, user: &User, verb: Verb, target: &ResourcePath, request: Request<Incoming>) -> Outcome {
    if verb != Verb::Create {
        return Err(status::no_such_path().into());
    }
    let (parts, body) = request.into_parts();
    let body = input::collect(body).await?;
    let content_type = header(&parts.headers, &http::header::CONTENT_TYPE);
    review::answer(api, user, target, content_type, body).unwrap_or_else(|| Err(status::no_such_path().into()))
}

/// The old form of a watch, `/api/v1/watch/…`, as a path.
fn is_old_watch(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match parts.next() {
        Some("api") => parts.nth(1) == Some("watch"),
        Some("apis") => parts.nth(2) == Some("watch"),
        _ => false,
    }
}

/// Who may not is told so in the words clients know.
///
/// # Errors
/// 401 for the unknown, 403 for the known.
pub fn allow(api: &Api, user: &User, asked: &Asked<'_>) -> Result<(), Failure> {
    let Decision::Deny(reason) = authz::authorize(user, asked, api) else { return Ok(()) };
    if user.is_in(authz::UNAUTHENTICATED) {
        return Err(status::unauthorized().into());
    }
    let why = authz::refusal(user, asked, &reason);
    let about = match asked {
        Asked::Resource(access) => About::new(access.group, access.resource, access.name),
        Asked::Path { .. } => About::default(),
    };
    Err(status::forbidden(about, &why).into())
}

fn check_scope(kind: &dyn DynKind, target: &mut ResourcePath, verb: Verb) -> Result<(), Failure> {
    match kind.scope() {
        Scope::Cluster => {
            // A Namespace's own path names itself; anything else below a namespace has to be namespaced.
            if !target.namespace.is_empty() && target.namespace != target.name {
                return Err(status::no_such_path().into());
            }
            target.namespace.clear();
            Ok(())
        }
        Scope::Namespaced if target.namespace.is_empty() && !matches!(verb, Verb::List | Verb::Watch) => {
            Err(status::no_such_path().into())
        }
        Scope::Namespaced => Ok(()),
    }
}

/// Answers a call that is allowed.
///
/// # Errors
/// Those of the verb.
pub async fn dispatch(api: &Arc<Api>, call: &Call) -> Outcome {
    if !call.path.subresource.is_empty() {
        return subresource(api, call).await;
    }
    match call.verb {
        Verb::Get => read::get(api, call),
        Verb::List => read::list(api, call),
        Verb::Watch => watch::watch(api, call),
        Verb::Create if !call.path.name.is_empty() => Err(status::method_not_allowed(call.about(), "POST").into()),
        Verb::Create => write::create(api, call).await,
        Verb::Update => write::update(api, call, strategy::Target::Main).await,
        Verb::Patch => patch::patch(api, call, strategy::Target::Main).await,
        Verb::Delete => delete::delete(api, call).await,
        Verb::DeleteCollection => delete::delete_collection(api, call).await,
    }
}

/// Which subresource a path's word names.
fn subresource_of(call: &Call) -> Option<Subresource> {
    call.kind.subresources().iter().copied().find(|sub| discovery::subresource_name(*sub) == call.path.subresource)
}

async fn subresource(api: &Arc<Api>, call: &Call) -> Outcome {
    let sub = subresource_of(call).ok_or_else(status::no_such_path)?;
    match (sub, call.verb) {
        (Subresource::Status | Subresource::Approval, Verb::Get) => read::get(api, call),
        (Subresource::Status | Subresource::Approval, Verb::Update) => {
            write::update(api, call, strategy::Target::Status).await
        }
        (Subresource::Status | Subresource::Approval, Verb::Patch) => {
            patch::patch(api, call, strategy::Target::Status).await
        }
        (Subresource::Scale, _) => scale::scale(api, call).await,
        (Subresource::Binding, Verb::Create) => binding::bind(api, call).await,
        (Subresource::Eviction, Verb::Create) => eviction::evict(api, call).await,
        (Subresource::Token, Verb::Create) => token::request(api, call).await,
        (Subresource::Finalize, Verb::Update) => finalize::finalize(api, call).await,
        _ => Err(status::method_not_allowed(call.about(), call.verb.as_str()).into()),
    }
}

/// For answers that are JSON values made here.
pub fn ok(value: &serde_json::Value) -> Outcome {
    Ok(json(StatusCode::OK, value))
}

/// A header as text; empty if absent.
pub fn header<'a>(headers: &'a HeaderMap, name: &http::header::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
