//! The objects every cluster begins with. Owns: which they are; they are made by requests like any other's, so nothing
//! bypasses the chain. Does not own: what controllers keep up to date.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_control_plan::authz::{MASTERS, User};
use pintle_control_plan::kind::Scope;
use pintle_control_plan::registry;
use pintle_control_plan::request::{ResourcePath, Verb};
use pintle_control_plan::service_ranges::ServiceRanges;
use serde_json::{Value, json};

use super::{ApiServerConfig, ApiServerError};
use crate::admission;
use crate::pki::JoinToken;
use crate::serve::answer::Failure;
use crate::serve::{self, Api};

/// So many Services outside the ranges are named in the error.
const MISFITS_SHOWN: usize = 5;

pub(super) async fn ensure(api: &Arc<Api>, config: &ApiServerConfig, token: &JoinToken) -> Result<(), ApiServerError> {
    check_ranges(api)?;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure_one(api, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
    }
    ensure_one(api, "kube-system", token_secret(token)).await?;
    if let Some(address) = config.advertise {
        ensure_one(api, "default", service(&api.ranges)).await?;
        ensure_endpoints(api, &address).await?;
    }
    Ok(())
}

/// Services made under other ranges: their addresses would be routed nowhere, or given out twice.
fn check_ranges(api: &Api) -> Result<(), ApiServerError> {
    let unreadable = |failure: Failure| ApiServerError::Bootstrap {
        object: "the table of Services' addresses".to_owned(),
        message: failure.0.message.clone().unwrap_or_default(),
    };
    let misfits = admission::misfits(&*api.store, &api.ranges).map_err(unreadable)?;
    if misfits.is_empty() {
        return Ok(());
    }
    let (count, shown) = (misfits.len(), misfits.len().min(MISFITS_SHOWN));
    let mut list = misfits.get(..shown).unwrap_or_default().join(", ");
    if shown < count {
        list.push_str(", …");
    }
    Err(ApiServerError::Ranges { ranges: api.ranges.clone(), count, list })
}

fn token_secret(token: &JoinToken) -> Value {
    let id = &token.bootstrap.id;
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "stringData": {
            "token-id": id, "token-secret": token.bootstrap.secret, "description": "Machines that join this cluster.",
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
        },
    })
}

fn service(ranges: &ServiceRanges) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": ranges.kubernetes(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    })
}

fn slice(address: &std::net::SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {
                "kubernetes.io/service-name": "kubernetes",
                "endpointslice.kubernetes.io/managed-by": "kubernetes-apiserver",
            },
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    })
}

/// The slice names where we listen now, which may have changed since it was made.
async fn ensure_endpoints(api: &Arc<Api>, address: &std::net::SocketAddr) -> Result<(), ApiServerError> {
    let wanted = slice(address);
    let found: Option<EndpointSlice> = api.find("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes");
    match found {
        None => ensure_one(api, "default", wanted).await,
        Some(_) => send(api, Verb::Update, "default", &wanted).await.map_err(|refusal| refusal.error),
    }
}

async fn ensure_one(api: &Arc<Api>, namespace: &str, object: Value) -> Result<(), ApiServerError> {
    match send(api, Verb::Create, namespace, &object).await {
        // There from an earlier start.
        Err(refusal) if refusal.code == Some(409) => Ok(()),
        other => other.map_err(|refusal| refusal.error),
    }
}

struct Refusal {
    code: Option<i32>,
    error: ApiServerError,
}

async fn send(api: &Arc<Api>, verb: Verb, namespace: &str, object: &Value) -> Result<(), Refusal> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    let Some(kind) = registry::by_kind(text("/apiVersion"), text("/kind")) else {
        // The registry decides what this server serves; what it does not know is not missed.
        tracing::warn!(kind = text("/kind"), name, "not created at start: no such kind");
        return Ok(());
    };
    let path = ResourcePath {
        group: kind.group().to_owned(),
        version: kind.version().to_owned(),
        namespace: if kind.scope() == Scope::Namespaced { namespace.to_owned() } else { String::new() },
        resource: kind.plural().to_owned(),
        name: if verb == Verb::Create { String::new() } else { name.to_owned() },
        ..ResourcePath::default()
    };
    let call = serve::call::Call {
        user: User::authenticated("system:apiserver", [MASTERS.to_owned()]),
        verb,
        path,
        kind,
        query: serve::Query::default(),
        headers: HeaderMap::new(),
        body: Bytes::from(object.to_string()),
    };
    serve::dispatch(api, &call).await.map(drop).map_err(|failure| Refusal {
        code: failure.0.code,
        error: ApiServerError::Bootstrap {
            object: format!("{}/{name}", kind.plural()),
            message: failure.0.message.clone().unwrap_or_default(),
        },
    })
}
