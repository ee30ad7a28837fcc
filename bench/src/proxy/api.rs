//! An API server for one proxy: three collections, each answered with a watch that tells everything there is and then
//! what changes. Objects are encoded once, outside of what is measured.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::broadcast;

/// A collection: its path, and the kind and version of its objects.
pub type Collection = (&'static str, &'static str, &'static str);

pub const SERVICES: Collection = ("/api/v1/services", "Service", "v1");
pub const SLICES: Collection = ("/apis/discovery.k8s.io/v1/endpointslices", "EndpointSlice", "discovery.k8s.io/v1");
pub const NODES: Collection = ("/api/v1/nodes", "Node", "v1");

/// A line of a watch, and of which collection.
pub type Event = (&'static str, Bytes);

#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    revision: Mutex<u64>,
    first: Mutex<BTreeMap<&'static str, Vec<Bytes>>>,
    changes: broadcast::Sender<Event>,
}

impl Api {
    pub fn new() -> Self {
        let inner = Inner { revision: Mutex::default(), first: Mutex::default(), changes: broadcast::channel(1024).0 };
        Self(Arc::new(inner))
    }

    /// An object that is there from the beginning.
    pub fn put(&self, collection: Collection, object: &impl serde::Serialize) -> Result<()> {
        let line = self.line("ADDED", collection, object)?;
        self.0.first.lock().unwrap_or_else(PoisonError::into_inner).entry(collection.0).or_default().push(line);
        Ok(())
    }

    /// A changed object, to be sent later.
    pub fn event(&self, collection: Collection, object: &impl serde::Serialize) -> Result<Event> {
        Ok((collection.0, self.line("MODIFIED", collection, object)?))
    }

    /// Tells everybody who watches.
    pub fn send(&self, event: Event) {
        // Without a watcher nobody is told, which the measurement then finds out.
        drop(self.0.changes.send(event));
    }

    fn line(&self, event: &str, collection: Collection, object: &impl serde::Serialize) -> Result<Bytes> {
        let mut revision = self.0.revision.lock().unwrap_or_else(PoisonError::into_inner);
        *revision += 1;
        let mut object = serde_json::to_value(object)?;
        object["kind"] = json!(collection.1);
        object["apiVersion"] = json!(collection.2);
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        Ok((json!({"type": event, "object": object}).to_string() + "\n").into())
    }

    /// Answers on a socket, on the current runtime, for as long as that lives.
    pub fn serve(&self, listener: UnixListener) {
        let api = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = api.clone();
                let serve = service_fn(move |request: Request<Incoming>| {
                    let response = api.watch(request.uri().path());
                    async { Ok::<_, Infallible>(response) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
                // The proxy hangs up when it is done.
                tokio::spawn(async { drop(connection.await) });
            }
        });
    }

    fn watch(&self, path: &str) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let live = self.0.changes.subscribe();
        let mut first =
            self.0.first.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned().unwrap_or_default();
        let revision = *self.0.revision.lock().unwrap_or_else(PoisonError::into_inner);
        let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {
            "resourceVersion": revision.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"},
        }}});
        first.push((bookmark.to_string() + "\n").into());
        let path = path.to_owned();
        let live = futures_util::stream::unfold((live, path), |(mut live, path)| async move {
            loop {
                let (collection, line) = live.recv().await.ok()?;
                if collection == path {
                    return Some((line, (live, path)));
                }
            }
        });
        let frames = futures_util::stream::iter(first).chain(live).map(|line| Ok(Frame::data(line)));
        Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames))))
    }
}
