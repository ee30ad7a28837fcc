//! The gRPC health check: `grpc.health.v1.Health/Check`, one request and one answer over HTTP/2 without TLS.
//!
//! Two messages with one field each do not need a code generator: a request is `{ string service = 1 }`, an answer
//! `{ enum status = 1 }` (grpc/grpc-proto, grpc/health/v1/health.proto). Each is preceded by a flag and its length.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::HeaderMap;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::http::bracketed;

const SERVING: u64 = 1;
const OK: &str = "0";
const UNIMPLEMENTED: &str = "12";
/// An answer is a few bytes; more is none.
const ANSWER_MAX: usize = 1 << 10;

/// Asks; what is not SERVING says why.
pub(super) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let address = format!("{}:{port}", bracketed(host));
    match tokio::time::timeout(limit, Box::pin(ask(&address, service))).await {
        Ok(verdict) => verdict,
        Err(_) => Err(format!("timeout: health rpc did not complete within {} ms", limit.as_millis())),
    }
}

async fn ask(address: &str, service: &str) -> Result<(), String> {
    let unreachable = |why: String| format!("failed to connect service \"{address}\": {why}");
    let stream = TcpStream::connect(address).await.map_err(|e| unreachable(e.to_string()))?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?;
    let connection = tokio::spawn(connection);
    let answer = exchange(&mut sender, address, service).await;
    connection.abort();
    let (status, message, body) = answer.map_err(unreachable)?;
    match status.as_str() {
        OK => judge(&body),
        UNIMPLEMENTED => {
            Err(format!("this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"))
        }
        code => Err(format!("rpc error: code = {code} desc = {message}")),
    }
}

/// The answer's status, its message, and the body.
async fn exchange(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    address: &str,
    service: &str,
) -> Result<(String, String, Bytes), String> {
    let request = hyper::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(question(service)))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    if answer.status() != hyper::StatusCode::OK {
        return Err(format!("HTTP status {}", answer.status()));
    }
    // An error without a body tells its status in the headers.
    let early = answer.headers().clone();
    let body = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX);
    let whole = body.collect().await.map_err(|e| e.to_string())?;
    let late = whole.trailers().cloned().unwrap_or_default();
    let word = |name: &str| text(&late, name).or_else(|| text(&early, name)).unwrap_or_default();
    Ok((word("grpc-status"), word("grpc-message"), whole.to_bytes()))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put(message);
    out.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// An absent field is 0, UNKNOWN.
fn judge(body: &[u8]) -> Result<(), String> {
    let status = match body.get(5..) {
        Some([tag, value, ..]) if *tag == 1 << 3 => u64::from(*value),
        _ => 0,
    };
    let word = match status {
        SERVING => return Ok(()),
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    };
    Err(format!("service unhealthy (responded with \"{word}\")"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use tokio::net::TcpListener;

    /// A health server as gRPC's own are: what it answers depends on the service it is asked for.
    async fn answer(
        request: Request<Incoming>,
    ) -> Result<
        Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>,
        std::convert::Infallible,
    > {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let (head, message) = body.split_at(5);
        assert_eq!(head, [0, 0, 0, 0, u8::try_from(message.len()).unwrap()]);
        let service = message.get(2..).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
        let (status, value) = match service.as_str() {
            "" => ("0", 1u8),
            "sick" => ("0", 2),
            "odd" => ("12", 0),
            _ => ("5", 0),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        trailers.insert("grpc-message", "so it is".parse().unwrap());
        let data = if value == 0 { Bytes::new() } else { Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, value]) };
        let frames = [Frame::data(data), Frame::trailers(trailers)].map(Ok);
        Ok(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
    }

    #[tokio::test]
    async fn a_health_server_is_asked_and_its_words_are_passed_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        let mut told = Vec::new();
        for service in ["", "sick", "odd", "none"] {
            let verdict = check("127.0.0.1", port, service, Duration::from_secs(30)).await;
            told.push(format!("{service:?}: {verdict:?}"));
        }
        insta::assert_snapshot!(told.join("\n"), @r#"
        "": Ok(())
        "sick": Err("service unhealthy (responded with \"NOT_SERVING\")")
        "odd": Err("this server does not implement the grpc health protocol (grpc.health.v1.Health): so it is")
        "none": Err("rpc error: code = 5 desc = so it is")
        "#);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_told_by_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let verdict = check("127.0.0.1", port, "", Duration::from_millis(50)).await;
        assert_eq!(verdict.unwrap_err(), "timeout: health rpc did not complete within 50 ms");
    }
}
