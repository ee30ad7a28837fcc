//! A server over a store in memory, and clients of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pintle_control::apiserver::{ApiServerConfig, Handle, LEAF_LIFE_S, ServiceRanges, start_over};
use pintle_store::FakeStore;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub struct Server {
    pub handle: Handle,
    _state: TempDir,
}

pub struct Client(SendRequest<Full<Bytes>>);

pub struct Reply {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Reply {
    pub fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }
    pub fn message(&self) -> String {
        format!("{} {}", self.code, self.at("/message").as_str().unwrap_or_default())
    }
    pub fn version(&self) -> String {
        self.at("/metadata/resourceVersion").as_str().unwrap_or_default().to_owned()
    }
    pub fn names(&self) -> Vec<&str> {
        let items = self.at("/items").as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
    }
}

pub async fn server() -> Server {
    let state = tempfile::tempdir().unwrap();
    let config = ApiServerConfig {
        state_dir: state.path().to_owned(),
        listen: Vec::new(),
        server_url: "https://127.0.0.1:6443".to_owned(),
        names: Vec::new(),
        advertise: Some("10.41.0.2:6443".parse().unwrap()),
        ranges: ServiceRanges::default(),
        certificate_life_s: LEAF_LIFE_S,
    };
    let handle = start_over(Arc::new(FakeStore::default()), config, CancellationToken::new()).await.unwrap();
    Server { handle, _state: state }
}

impl Server {
    pub async fn client(&self, user: &str, groups: &[&str]) -> Client {
        let (sender, connection) =
            handshake(TokioIo::new(self.handle.local_client_stream(user, groups))).await.unwrap();
        tokio::spawn(connection);
        Client(sender)
    }
    pub async fn admin(&self) -> Client {
        self.client("admin", &["system:masters"]).await
    }
}

impl Client {
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.0.ready().await.unwrap();
        self.0.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await.unwrap()
    }
    pub async fn ask(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let answer = self.send(method, path, headers, body).await;
        let code = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        Reply { code, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), warnings }
    }
    pub async fn get(&mut self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[], "").await
    }
    pub async fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.ask(Method::POST, path, &[], &body.to_string()).await
    }
    pub async fn put(&mut self, path: &str, body: &Value) -> Reply {
        self.ask(Method::PUT, path, &[], &body.to_string()).await
    }
    pub async fn patch(&mut self, path: &str, kind: &str, body: &Value) -> Reply {
        self.ask(Method::PATCH, path, &[("content-type", kind)], &body.to_string()).await
    }
    pub async fn delete(&mut self, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(Method::DELETE, path, &[], &body).await
    }
}
