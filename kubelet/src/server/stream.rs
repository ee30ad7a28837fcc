//! Kubernetes' streaming protocol over WebSockets: several byte streams on one connection.
//!
//! Owns: the handshake, framing (first byte of a message is its channel), the final Status.
//! Channels: 0 stdin, 1 stdout, 2 stderr, 3 the Status, 4 terminal sizes, 255 (v5) closes one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Body, text};

/// Protocols of exec and attach, best first.
pub(super) const PROTOCOLS: [&str; 5] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// How long a client may take to read the rest and to answer the close.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// Something a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes of a channel.
    Data(u8, Bytes),
    /// It will send no more on a channel.
    Closed(u8),
}

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;
pub(super) type Sink = futures_util::stream::SplitSink<Socket, Message>;
pub(super) type Source = futures_util::stream::SplitStream<Socket>;

/// The pairs of a query, decoded.
pub(super) fn query(uri: &Uri) -> Vec<(String, String)> {
    let decode = |word: &str| {
        let word = word.replace('+', " ");
        let mut out = Vec::with_capacity(word.len());
        let mut rest = word.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let hex = tail.get(..2).filter(|_| byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
            match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(value) => {
                    out.push(value);
                    rest = &tail[2..];
                }
                None => {
                    out.push(byte);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pairs = uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty());
    pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// Answers an upgrade request to the first of `protocols` that is offered; `then` runs with the socket. Anything but
/// WebSockets is refused with the reason.
pub(super) fn upgrade<F>(
    mut request: Request<Incoming>,
    protocols: &[&'static str],
    then: impl FnOnce(Sink, Source) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let wanted = header("upgrade").to_lowercase();
    if wanted != "websocket" {
        let why = if wanted.starts_with("spdy") {
            "SPDY is not spoken here; use a client that streams over WebSockets (kubectl 1.31 or newer)\n"
        } else {
            "an upgrade to WebSockets is required\n"
        };
        return text(StatusCode::BAD_REQUEST, why);
    }
    let offered = header("sec-websocket-protocol");
    let offered: Vec<&str> = offered.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    let Some(protocol) = protocols.iter().find(|p| offered.contains(*p)) else {
        return text(StatusCode::BAD_REQUEST, format!("none of the protocols {offered:?} is spoken here\n"));
    };
    let accept = derive_accept_key(header("sec-websocket-key").as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
                let (sink, source) = socket.split();
                Box::pin(then(sink, source)).await;
            }
            Err(e) => tracing::debug!(error = %e, "an upgrade failed"),
        }
    });
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert("sec-websocket-accept", accept);
    }
    answer
}

/// The next thing the client sends; `None` when it is gone.
pub(super) async fn receive(source: &mut Source) -> Option<Received> {
    loop {
        let data = match source.next().await?.ok()? {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match data.split_first() {
            Some((&CLOSE, rest)) => return Some(Received::Closed(rest.first().copied().unwrap_or(STDIN))),
            Some((&channel, _)) => return Some(Received::Data(channel, data.slice(1..))),
            None => {}
        }
    }
}

/// Sends bytes on a channel.
pub(super) async fn send(sink: &mut Sink, channel: u8, bytes: &[u8]) -> bool {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    sink.send(Message::Binary(message.into())).await.is_ok()
}

/// Sends the final Status and the close, and waits until the client has answered it, so that nothing is under way when
/// the connection ends: a socket that is closed with something unread in it takes back what was not yet received.
pub(super) async fn finish(mut sink: Sink, rest: impl Future<Output = Option<Source>>, status: &Value) {
    send(&mut sink, ERROR, status.to_string().as_bytes()).await;
    // Clients take a close without a code for a broken connection. This one may have left already.
    let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    if let Err(error) = sink.send(Message::Close(Some(close))).await {
        return tracing::debug!(%error, "a client left before the end of its stream");
    }
    let Ok(Some(source)) = tokio::time::timeout(GOODBYE_MAX, rest).await else { return };
    if let Ok(mut socket) = sink.reunite(source)
        && let Err(error) = socket.get_mut().shutdown().await
    {
        tracing::debug!(%error, "a client left without a word");
    }
}

/// Reads until the client has left.
pub(super) async fn drain(mut source: Source) -> Option<Source> {
    while receive(&mut source).await.is_some() {}
    Some(source)
}

/// The Status of a process that ended.
pub(super) fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with exit code {code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

/// The Status of something that could not be done.
pub(super) fn failure(message: &str) -> Value {
    json!({ "metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500 })
}

/// The width and height of a resize message.
pub(super) fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: BTreeMap<String, u16> = serde_json::from_slice(bytes).ok()?;
    Some((*size.get("Width")?, *size.get("Height")?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn queries_and_sizes_are_read() {
        let uri: Uri = "/exec/a/b/c?command=sh&command=-c&command=echo%20%22a%2Bb%22+c&tty=1".parse().unwrap();
        let words: Vec<String> = query(&uri).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(words, ["command=sh", "command=-c", "command=echo \"a+b\" c", "tty=1"]);
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(size(b"x"), None);
    }

    #[test]
    fn exit_codes_travel_as_causes() {
        insta::assert_snapshot!(exit_status(3).to_string(), @r#"{"details":{"causes":[{"message":"3","reason":"ExitCode"}]},"message":"command terminated with exit code 3","metadata":{},"reason":"NonZeroExitCode","status":"Failure"}"#);
    }

    #[tokio::test]
    async fn a_stream_ends_once_its_client_has_answered_the_close() {
        use hyper_util::rt::TokioIo;
        let (near, far) = tokio::io::duplex(1 << 10);
        let (tell, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let service = hyper::service::service_fn(move |request| {
            let tell = tell.clone();
            let answer = upgrade(request, &PROTOCOLS, move |sink, source| async move {
                finish(sink, drain(source), &exit_status(0)).await;
                tell.send(()).unwrap();
            });
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        let server = hyper::server::conn::http1::Builder::new();
        tokio::spawn(server.serve_connection(TokioIo::new(far), service).with_upgrades());
        let mut request =
            tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request("ws://node/exec").unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOLS[0]));
        let (mut client, _) = tokio_tungstenite::client_async(request, near).await.unwrap();
        // Something that nobody waits for is on its way all the time.
        for _ in 0..20 {
            client.send(Message::Ping(vec![b'x'; 100].into())).await.unwrap();
        }
        let mut heard = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            match message {
                Message::Binary(data) => heard.push(format!("{} {}", data[0], String::from_utf8_lossy(&data[1..]))),
                Message::Close(frame) => {
                    assert!(ended.try_recv().is_err(), "it waits for our answer, which the next turn sends");
                    heard.push(format!("close {}", frame.unwrap().code));
                }
                _ => {}
            }
        }
        insta::assert_snapshot!(heard.join("\n"), @r#"
        3 {"metadata":{},"status":"Success"}
        close 1000
        "#);
        assert_eq!(ended.recv().await, Some(()));
    }
}
