//! An API server small enough for these tests: it sends every object of a collection, the bookmark that ends them, and
//! then what changes. It decides nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pintle_client::{Client, Identity, Wire};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

#[derive(Clone)]
pub struct Api(Arc<Inner>);

/// Collection, namespace and name.
type Key = (&'static str, String, String);

struct Inner {
    /// The revision, and the objects.
    objects: Mutex<(u64, BTreeMap<Key, Value>)>,
    changes: broadcast::Sender<(&'static str, Value)>,
    /// What was posted, and where.
    posted: Mutex<Vec<(String, Value)>>,
    answers: watch::Sender<Answers>,
    /// How many connections there are.
    connections: AtomicUsize,
    /// How many were tried in vain.
    in_vain: AtomicUsize,
    /// How many watches began with the whole collection, and how many where another had ended.
    listed: AtomicUsize,
    resumed: AtomicUsize,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    All,
    /// Those there are end, new ones are refused.
    Refuses,
    /// Those there are end, new ones hear nothing.
    Silent,
    /// Every watch ends at once, and before the end of a list.
    Ends,
}

pub const SERVICES: &str = "/api/v1/services";
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub const NODES: &str = "/api/v1/nodes";

impl Api {
    pub fn new() -> Self {
        let (changes, _) = broadcast::channel(10_000);
        Self(Arc::new(Inner {
            objects: Mutex::default(),
            changes,
            posted: Mutex::default(),
            answers: watch::Sender::new(Answers::All),
            connections: AtomicUsize::default(),
            in_vain: AtomicUsize::default(),
            listed: AtomicUsize::default(),
            resumed: AtomicUsize::default(),
        }))
    }

    /// Deals with connections otherwise from now on.
    pub fn answers(&self, answers: Answers) {
        self.0.answers.send_replace(answers);
        pintle_testkit::eventually("nobody is connected any more", std::time::Duration::from_secs(10), || {
            (matches!(answers, Answers::All | Answers::Ends) || self.0.connections.load(Ordering::SeqCst) == 0)
                .then_some(())
        });
    }

    /// How many connections were tried in vain so far.
    pub fn in_vain(&self) -> usize {
        self.0.in_vain.load(Ordering::SeqCst)
    }

    /// How many watches began with the whole collection so far, and how many where another had ended.
    pub fn watched(&self) -> (usize, usize) {
        (self.0.listed.load(Ordering::SeqCst), self.0.resumed.load(Ordering::SeqCst))
    }

    pub fn put(&self, collection: &'static str, object: impl serde::Serialize) {
        let mut object = serde_json::to_value(object).unwrap();
        let mut held = self.0.objects.lock().unwrap();
        held.0 += 1;
        object["metadata"]["resourceVersion"] = json!(held.0.to_string());
        let (kind, version) = match collection {
            SERVICES => ("Service", "v1"),
            SLICES => ("EndpointSlice", "discovery.k8s.io/v1"),
            _ => ("Node", "v1"),
        };
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(version);
        let known = held.1.insert(key(collection, &object), object.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        // Nobody may be watching yet.
        drop(self.0.changes.send((collection, json!({"type": kind, "object": object}))));
    }

    pub fn delete(&self, collection: &'static str, object: impl serde::Serialize) {
        let object = serde_json::to_value(object).unwrap();
        let mut held = self.0.objects.lock().unwrap();
        held.0 += 1;
        let mut object = held.1.remove(&key(collection, &object)).expect("an object that is there");
        object["metadata"]["resourceVersion"] = json!(held.0.to_string());
        drop(self.0.changes.send((collection, json!({"type": "DELETED", "object": object}))));
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let dial = move || -> Pin<Box<dyn Future<Output = std::io::Result<Wire>> + Send>> {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let (api, mut answers) = (api.clone(), api.0.answers.subscribe());
            let now = *answers.borrow();
            if matches!(now, Answers::Refuses | Answers::Silent) {
                api.0.in_vain.fetch_add(1, Ordering::SeqCst);
                return Box::pin(async move {
                    // Either it answers otherwise, or the test is over.
                    drop(answers.wait_for(|answers| *answers != Answers::Silent).await);
                    Err(std::io::ErrorKind::ConnectionRefused.into())
                });
            }
            api.0.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let held = api.clone();
                let serve = service_fn(move |request: Request<Incoming>| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), serve);
                // The client hangs up when the test ends.
                tokio::select! {
                    end = connection => drop(end),
                    _ = answers.wait_for(|answers| *answers != now) => {}
                }
                held.0.connections.fetch_sub(1, Ordering::SeqCst);
            });
            let io: Box<dyn pintle_client::Io> = Box::new(theirs);
            Box::pin(async move { Ok(Wire { io, http2: false }) })
        };
        Client::over(Box::new(dial), Identity::None, "test").unwrap()
    }

    /// What was posted to a collection so far.
    pub fn posted(&self, collection: &str) -> Vec<Value> {
        let posted = self.0.posted.lock().unwrap();
        posted.iter().filter(|(to, _)| to == collection).map(|(_, object)| object.clone()).collect()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        if request.method() != Method::POST {
            return self.watch(&request);
        }
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.0.posted.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
        let mut response = Response::new(UnsyncBoxBody::new(Full::new(body)));
        *response.status_mut() = StatusCode::CREATED;
        response
    }

    fn watch(&self, request: &Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let held = self.0.objects.lock().unwrap();
        let ends = *self.0.answers.borrow() == Answers::Ends;
        let first = if query.contains("sendInitialEvents=true") {
            self.0.listed.fetch_add(1, Ordering::SeqCst);
            let mut all = everything(&held, &path);
            all.truncate(all.len() - usize::from(ends));
            all
        } else if query.split('&').any(|part| part == format!("resourceVersion={}", held.0)) {
            self.0.resumed.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        } else {
            // No history is kept.
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410});
            vec![json!({"type": "ERROR", "object": status})]
        };
        let live = futures_util::stream::unfold(self.0.changes.subscribe(), move |mut changes| {
            let path = path.clone();
            async move {
                loop {
                    let (collection, event) = changes.recv().await.ok()?;
                    if collection == path {
                        return Some((event, changes));
                    }
                }
            }
        });
        let lines = futures_util::stream::iter(first).chain(live.take(if ends { 0 } else { usize::MAX }));
        let frames = lines.map(|event| Ok::<_, Infallible>(Frame::data(Bytes::from(event.to_string() + "\n"))));
        Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames))))
    }
}

/// All objects of a collection, and the bookmark that ends them.
fn everything((revision, objects): &(u64, BTreeMap<Key, Value>), path: &str) -> Vec<Value> {
    let there = objects.iter().filter(|((collection, ..), _)| *collection == path);
    let mut events: Vec<Value> = there.map(|(_, object)| json!({"type": "ADDED", "object": object})).collect();
    events.push(json!({"type": "BOOKMARK", "object": {"metadata": {
        "resourceVersion": revision.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }}}));
    events
}

fn key(collection: &'static str, object: &Value) -> Key {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (collection, part("namespace"), part("name"))
}
