//! A client of the container runtime interface: unary gRPC calls over a Unix socket.
//!
//! A call is one HTTP/2 POST. Messages are prefixed by a byte (0: not compressed) and a length (4 bytes, big-endian); the
//! outcome is in the trailers (grpc/grpc, doc/PROTOCOL-HTTP2.md).

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::http::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

const PREFIX_LEN: usize = 5;

/// A connection.
pub struct Cri {
    tokio: tokio::runtime::Runtime,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Cri {
    /// Connects.
    pub fn connect(socket: &Path) -> Result<Cri> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sender = tokio.block_on(async {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            // It ends with the sender; what it says then is of no interest.
            tokio::spawn(connection);
            anyhow::Ok(sender)
        });
        let sender = sender.with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Cri { tokio, sender })
    }

    /// Calls `service/method`, e.g. `RuntimeService/Version`. A refusal is an error with its code and message.
    pub fn call<A: Message + Default>(&mut self, method: &str, request: &impl Message) -> Result<A> {
        let Cri { tokio, sender } = self;
        let body = prefixed(&request.encode_to_vec());
        let request = Request::post(format!("http://localhost/runtime.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))?;
        let (headers, body) = tokio.block_on(async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            anyhow::Ok((head.headers, body.collect().await?))
        })?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        refusal(method, &headers, &trailers)?;
        let data = body.to_bytes();
        ensure!(data.len() >= PREFIX_LEN, "{method}: the answer has no message");
        Ok(A::decode(&data[PREFIX_LEN..])?)
    }
}

fn prefixed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A call that failed at once has its trailers among the headers.
fn refusal(method: &str, headers: &HeaderMap, trailers: &HeaderMap) -> Result<()> {
    let find = |name: &str| trailers.get(name).or_else(|| headers.get(name));
    let text = |name: &str| find(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        Some(code) => bail!("{method}: code {code}: {}", text("grpc-message").unwrap_or_default()),
        None => bail!("{method}: the answer has no status"),
    }
}
