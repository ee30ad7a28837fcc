//! Typed requests.
//!
//! A request that certainly never left is repeated on a new connection; a GET also when the connection broke while
//! waiting. Nothing else is repeated: whether a write may be sent twice is its caller's knowledge.

use crate::connection::{Dial, Endpoint, SendFailure, Sender};
use crate::pace::Pace;
use crate::path::Query;
use crate::{ApiError, Config, Error, Identity, List, ListParams, Object, collection_path, object_path};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Attempts at a request that never left or may be repeated.
const ATTEMPTS_MAX: u32 = 3;

/// A handle to an API server. Clones share one connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<RwLock<Arc<Target>>>,
    /// How often it may ask; `None` for as often as it likes.
    pace: Option<Arc<Pace>>,
}

/// One configuration, put in use as a whole.
struct Target {
    endpoint: Endpoint,
    identity: Identity,
    user_agent: HeaderValue,
    timeout: Duration,
}

/// A patch, by its content type.
#[derive(Debug, Clone)]
pub enum Patch {
    /// `application/merge-patch+json`.
    Merge(serde_json::Value),
    /// `application/strategic-merge-patch+json`.
    Strategic(serde_json::Value),
    /// `application/json-patch+json`: an array of operations.
    Json(serde_json::Value),
}

impl Patch {
    fn parts(&self) -> (&'static str, &serde_json::Value) {
        match self {
            Patch::Merge(v) => ("application/merge-patch+json", v),
            Patch::Strategic(v) => ("application/strategic-merge-patch+json", v),
            Patch::Json(v) => ("application/json-patch+json", v),
        }
    }
}

/// Options of a delete that must hit this very object. `grace_s` is `gracePeriodSeconds`.
pub fn delete_options(uid: Option<&str>, grace_s: Option<i64>) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: grace_s,
        preconditions: uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteOptions::default()
    }
}

/// One request before it is HTTP.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'a str,
    pub(crate) body: Bytes,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, content_type: "application/json", accept: "application/json", body: Bytes::new() }
    }

    fn with(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = content_type;
        self.body = body.into();
        self
    }

    fn failed(&self, source: hyper::Error) -> Error {
        Error::Http { method: self.method.to_string(), path: self.path.clone(), source }
    }
}

impl Client {
    /// A client over TCP and TLS. Does not connect yet.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self::of(Target::tls(config)?))
    }

    /// A client as the file's current context says. Every new connection uses the certificate that the file then holds.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, Error> {
        Self::from_kubeconfig_at(path, None)
    }

    /// The same, with another server (`https://host:port`) than the file names.
    pub fn from_kubeconfig_at(path: &Path, server: Option<&str>) -> Result<Self, Error> {
        let mut config = crate::Kubeconfig::read(path)?.config(path)?;
        if let Some(server) = server {
            server.clone_into(&mut config.server);
        }
        let endpoint = Endpoint::following(&config, path.to_owned())?;
        Ok(Self::of(Target::new(endpoint, config)?))
    }

    fn of(target: Target) -> Self {
        Self { inner: Arc::new(RwLock::new(Arc::new(target))), pace: None }
    }

    /// Makes at most so many requests a second, and `burst` at once after a pause, as client-go's `QPS` and `Burst`; all
    /// of them with a rate below nothing. For this handle and its clones; a watch is one request.
    #[must_use]
    pub fn paced(self, per_second: f32, burst: u32) -> Self {
        Self { pace: Pace::new(per_second, burst).map(Arc::new), ..self }
    }

    /// Waits until a request may be made.
    async fn wait_for_turn(&self) {
        if let Some(pace) = &self.pace {
            tokio::time::sleep_until(pace.reserve(Instant::now()).into()).await;
        }
    }

    /// A client over streams that `dial` opens, without TLS: for a server in the same process. Identity, if the server
    /// does not take it from the stream, is a bearer token.
    pub fn over(dial: Box<Dial>, identity: Identity, user_agent: &str) -> Result<Self, Error> {
        let target = Target {
            endpoint: Endpoint::custom(dial),
            identity,
            user_agent: agent_header(user_agent)?,
            timeout: Duration::from_secs(30),
        };
        Ok(Self::of(target))
    }

    /// Uses another configuration (a renewed certificate, for example) from the next request on. Requests and watches
    /// under way finish on the old connection.
    pub fn reconfigure(&self, config: Config) -> Result<(), Error> {
        let target = Arc::new(Target::tls(config)?);
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = target;
        Ok(())
    }

    /// The server's base URL, `https://host:port`.
    pub fn server(&self) -> String {
        self.target().endpoint.base.clone()
    }

    /// The authority found behind a [`crate::Trust::SpkiPin`], PEM; `None` before the first successful connection.
    pub fn pinned_ca(&self) -> Option<String> {
        use base64::Engine as _;
        let target = self.target();
        let der = target.endpoint.pinned.get()?;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).expect("base64 is ASCII")).collect();
        Some(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
    }

    /// Reads one object; `namespace` is empty for cluster-scoped kinds.
    pub async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<K, Error> {
        self.json(Call::new(Method::GET, object_path::<K>(namespace, name, ""))).await
    }

    /// Reads a subresource (`scale`, `status`) as any type.
    pub async fn get_sub<K: Resource, R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
    ) -> Result<R, Error> {
        self.json(Call::new(Method::GET, object_path::<K>(namespace, name, subresource))).await
    }

    /// Reads a whole list, following its pages. An empty namespace means all of them.
    pub async fn list<K: Object>(&self, namespace: &str, params: &ListParams) -> Result<List<K>, Error> {
        self.list_path(&collection_path::<K>(namespace), params, "application/json").await
    }

    pub(crate) async fn list_path<K: DeserializeOwned>(
        &self,
        path: &str,
        params: &ListParams,
        accept: &str,
    ) -> Result<List<K>, Error> {
        match self.list_pages(path, params, accept).await {
            // The pages' revision was compacted while we read: one answer without pages cannot meet that.
            Err(e) if e.is_gone() && params.limit > 0 => {
                self.list_pages(path, &ListParams { limit: 0, ..params.clone() }, accept).await
            }
            other => other,
        }
    }

    async fn list_pages<K: DeserializeOwned>(
        &self,
        path: &str,
        params: &ListParams,
        accept: &str,
    ) -> Result<List<K>, Error> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let mut query = Query::default();
            query.put("labelSelector", &params.labels).put("fieldSelector", &params.fields);
            if params.limit > 0 {
                query.put("limit", &params.limit.to_string());
            }
            if token.is_empty() {
                query.put("resourceVersion", params.resource_version.as_deref().unwrap_or_default());
            }
            query.put("continue", &token);
            let mut call = Call::new(Method::GET, query.on(path));
            call.accept = accept;
            let page: List<K> = self.json(call).await?;
            items.extend(page.items);
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => token = next,
                _ => return Ok(List { metadata: page.metadata, items }),
            }
        }
    }

    /// Creates an object in the namespace its metadata names.
    pub async fn create<K: Object>(&self, object: &K) -> Result<K, Error> {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        let path = collection_path::<K>(namespace);
        self.json(Call::new(Method::POST, path).with("application/json", encode(object)?)).await
    }

    /// Replaces an object. With `metadata.resourceVersion` set, only at that revision.
    pub async fn update<K: Object>(&self, object: &K) -> Result<K, Error> {
        self.replace(object, "").await
    }

    /// Replaces an object's status.
    pub async fn update_status<K: Object>(&self, object: &K) -> Result<K, Error> {
        self.replace(object, "status").await
    }

    async fn replace<K: Object>(&self, object: &K, subresource: &str) -> Result<K, Error> {
        let key = crate::ObjectKey::of(object);
        let path = object_path::<K>(&key.namespace, &key.name, subresource);
        self.json(Call::new(Method::PUT, path).with("application/json", encode(object)?)).await
    }

    /// Patches an object.
    pub async fn patch<K: Object>(&self, namespace: &str, name: &str, patch: &Patch) -> Result<K, Error> {
        self.patch_sub(namespace, name, "", patch).await
    }

    /// Patches an object's subresource (empty: the object itself).
    pub async fn patch_sub<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<K, Error> {
        let (content_type, value) = patch.parts();
        let path = object_path::<K>(namespace, name, subresource);
        self.json(Call::new(Method::PATCH, path).with(content_type, encode(value)?)).await
    }

    /// Deletes an object. `Some` is the object as it now stands (graceful deletion, finalizers) or last stood, when the
    /// server tells; `None` when it answers with a Status only.
    pub async fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Option<K>, Error> {
        let path = object_path::<K>(namespace, name, "");
        let call = Call::new(Method::DELETE, path).with("application/json", encode(options)?);
        let what = format!("DELETE {}", call.path);
        let body = self.bytes(call).await?;
        let is_object = serde_json::from_slice::<KindOnly>(&body).is_ok_and(|k| k.kind == K::KIND);
        if is_object { decode(&what, &body).map(Some) } else { Ok(None) }
    }

    /// Deletes what the selectors match.
    pub async fn delete_collection<K: Object>(
        &self,
        namespace: &str,
        params: &ListParams,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let mut query = Query::default();
        query.put("labelSelector", &params.labels).put("fieldSelector", &params.fields);
        let path = query.on(&collection_path::<K>(namespace));
        self.bytes(Call::new(Method::DELETE, path).with("application/json", encode(options)?)).await.map(drop)
    }

    /// Posts to a subresource: `token`, `binding`, `eviction`, ….
    pub async fn create_sub<K: Resource, B: Serialize, R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R, Error> {
        let path = object_path::<K>(namespace, name, subresource);
        self.json(Call::new(Method::POST, path).with("application/json", encode(body)?)).await
    }

    /// Posts an object that is answered, not stored: `TokenReview`, `SubjectAccessReview`.
    pub async fn review<K: Resource + Serialize + DeserializeOwned>(&self, object: &K) -> Result<K, Error> {
        self.json(Call::new(Method::POST, collection_path::<K>("")).with("application/json", encode(object)?)).await
    }

    /// Any request; the answer's body on success. `content_type` is ignored when there is no body.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Bytes, Error> {
        self.bytes(Call::new(method, path.to_owned()).with(content_type, body)).await
    }

    /// Reads any path as JSON.
    pub async fn get_json<R: DeserializeOwned>(&self, path: &str) -> Result<R, Error> {
        self.json(Call::new(Method::GET, path.to_owned())).await
    }

    async fn json<R: DeserializeOwned>(&self, call: Call<'_>) -> Result<R, Error> {
        let what = format!("{} {}", call.method, call.path);
        decode(&what, &self.bytes(call).await?)
    }

    async fn bytes(&self, call: Call<'_>) -> Result<Bytes, Error> {
        self.wait_for_turn().await;
        let target = self.target();
        let exchange = async {
            let (response, sender) = self.send(&target, &call).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| call.failed(e))?.to_bytes();
            target.endpoint.checkin(sender).await;
            if parts.status.is_success() { Ok(body) } else { Err(refusal(&call, parts.status, &body)) }
        };
        tokio::time::timeout(target.timeout, exchange).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                method: call.method.to_string(),
                path: call.path.clone(),
                timeout_ms: u64::try_from(target.timeout.as_millis()).unwrap_or(u64::MAX),
            })
        })
    }

    /// Opens a stream: the answer's body as it comes. The time limit covers the headers only.
    pub(crate) async fn stream(&self, call: Call<'_>) -> Result<Incoming, Error> {
        self.wait_for_turn().await;
        let target = self.target();
        let limit = target.timeout;
        let exchange = async {
            let (response, _sender) = self.send(&target, &call).await?;
            let (parts, body) = response.into_parts();
            if parts.status.is_success() {
                return Ok(body);
            }
            let body = body.collect().await.map_err(|e| call.failed(e))?.to_bytes();
            Err(refusal(&call, parts.status, &body))
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                method: call.method.to_string(),
                path: call.path.clone(),
                timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            })
        })
    }

    async fn send(&self, target: &Target, call: &Call<'_>) -> Result<(Response<Incoming>, Sender), Error> {
        let mut attempt = 1;
        loop {
            let mut sender = target.endpoint.checkout().await?;
            match sender.send(target.request(call)?).await {
                Ok(response) => return Ok((response, sender)),
                Err(SendFailure { source, unsent }) => {
                    let repeatable = unsent.is_some() || call.method == Method::GET;
                    if !repeatable || attempt >= ATTEMPTS_MAX {
                        return Err(call.failed(source));
                    }
                    attempt += 1;
                }
            }
        }
    }

    fn target(&self) -> Arc<Target> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Target {
    fn tls(config: Config) -> Result<Self, Error> {
        Self::new(Endpoint::tls(&config)?, config)
    }

    fn new(endpoint: Endpoint, config: Config) -> Result<Self, Error> {
        Ok(Self {
            endpoint,
            user_agent: agent_header(&config.user_agent)?,
            identity: config.identity,
            timeout: config.timeout,
        })
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.endpoint.base, call.path))
            .header(header::USER_AGENT, self.user_agent.clone())
            .header(header::ACCEPT, call.accept);
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.content_type);
        }
        if let Some(token) = self.token()? {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        request.body(Full::new(call.body.clone())).map_err(|source| Error::Request { path: call.path.clone(), source })
    }

    fn token(&self) -> Result<Option<String>, Error> {
        match &self.identity {
            Identity::None | Identity::Cert { .. } => Ok(None),
            Identity::Token(token) => Ok(Some(token.clone())),
            Identity::TokenFile(path) => std::fs::read_to_string(path).map(Some).map_err(|source| Error::File {
                op: "read",
                path: path.clone(),
                source,
            }),
        }
    }
}

#[derive(serde::Deserialize)]
struct KindOnly {
    #[serde(default)]
    kind: String,
}

fn agent_header(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|e| Error::Config { what: format!("user agent {text:?}"), why: e.to_string() })
}

fn encode<B: Serialize>(body: &B) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(|source| Error::Encode { what: std::any::type_name::<B>().to_owned(), source })
}

fn decode<R: DeserializeOwned>(what: &str, body: &[u8]) -> Result<R, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Decode { what: what.to_owned(), source })
}

/// The error for an answer that is no success; a body that is not a Status becomes the message.
fn refusal(call: &Call<'_>, code: http::StatusCode, body: &[u8]) -> Error {
    let status = serde_json::from_slice::<KindOnly>(body)
        .ok()
        .filter(|k| k.kind == "Status")
        .and_then(|_| serde_json::from_slice::<Status>(body).ok())
        .unwrap_or_else(|| Status {
            code: Some(i32::from(code.as_u16())),
            message: Some(match String::from_utf8_lossy(&body[..body.len().min(512)]).trim() {
                "" => code.to_string(),
                text => text.to_owned(),
            }),
            ..Status::default()
        });
    let (method, path) = (call.method.to_string(), call.path.clone());
    Error::Api(ApiError { method, path, code: code.as_u16(), status: Box::new(status) })
}
