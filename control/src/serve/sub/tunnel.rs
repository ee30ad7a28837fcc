//! log, exec, attach, portforward: passed on to the kubelet of the pod's node.
//!
//! Owns: finding the kubelet, the connection to it, carrying bytes both ways after an
//! upgrade without looking at them. Does not own: what the kubelet does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_api::status;
use pintle_control_plan::kind::Subresource;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::Api;
use super::super::answer::{Answer, Failure, Outcome};
use super::super::call::Call;
use super::super::query::Query;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const KUBELET_PORT: i32 = 10250;
/// What one turn of a tunnel carries, in bytes.
const CHUNK_LEN: usize = 16 << 10;
/// How long a client may take to leave after the kubelet's last word.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// Headers of one connection, which do not travel further (RFC 9110 section 7.6.1), unless the connection is upgraded.
const OF_ONE_HOP: &[HeaderName] = &[CONNECTION, UPGRADE, TRANSFER_ENCODING, HOST, CONTENT_LENGTH];

/// A kubelet: where it listens, and under which names its certificate may be.
struct Kubelet {
    address: String,
    port: u16,
    node: String,
}

/// Passes a request on. `upgrade` is the client's connection, for after a 101.
///
/// # Errors
/// 400, 404; 503 if the kubelet cannot be reached.
pub async fn tunnel(
    api: &Arc<Api>,
    call: &Call,
    sub: Subresource,
    method: &Method,
    upgrade: hyper::upgrade::OnUpgrade,
) -> Outcome {
    let pod: Pod =
        api.find("v1", "Pod", &call.path.namespace, &call.path.name).ok_or_else(|| status::not_found(call.about()))?;
    let path = kubelet_path(call, sub, &pod)?;
    let kubelet = kubelet(api, call, &pod)?;
    let mut answer = ask(api, &kubelet, call, method, &path).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(pass_back(answer, sub));
    }
    let theirs = hyper::upgrade::on(&mut answer);
    let mut switched: Answer = Response::new(super::super::answer::whole(Bytes::new()));
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = answer.headers().clone();
    let cancel = api.cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = carry(upgrade, theirs) => {}
        }
    });
    Ok(switched)
}

async fn carry(client: hyper::upgrade::OnUpgrade, kubelet: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(client, kubelet) {
        Ok((client, kubelet)) => {
            let (up, down) = join(TokioIo::new(client), TokioIo::new(kubelet)).await;
            tracing::debug!(up, down, "a tunnel ended");
        }
        Err(error) => tracing::debug!(%error, "a tunnel was not upgraded"),
    }
}

/// Carries bytes both ways until the kubelet has said everything; gives how many went up and down.
///
/// Not `copy_bidirectional`: that gives up at the first error, and a peer that ends its TCP connection without ending
/// TLS first is one. What was still on its way to a slow client, the exit code last, would be lost.
async fn join(client: impl AsyncRead + AsyncWrite, kubelet: impl AsyncRead + AsyncWrite) -> (u64, u64) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_kubelet, to_kubelet) = tokio::io::split(kubelet);
    let up = pour(from_client, to_kubelet, AfterRefusal::Drain);
    let down = pour(from_kubelet, to_client, AfterRefusal::Stop);
    tokio::pin!(up, down);
    tokio::select! {
        up = &mut up => (up, down.await),
        // Closing a socket with something unread in it would take back what the client has not yet received.
        down = &mut down => (tokio::time::timeout(LINGER_MAX, up).await.unwrap_or_default(), down),
    }
}

/// What to do with the rest when its receiver takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterRefusal {
    Stop,
    Drain,
}

/// Passes on all that comes until its end, then tells the receiver of the end.
async fn pour(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, after: AfterRefusal) -> u64 {
    let mut chunk = vec![0; CHUNK_LEN];
    let (mut carried, mut open) = (0, true);
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        // TLS keeps what the socket does not take at once, hence the flush.
        open = open && to.write_all(&chunk[..count]).await.is_ok() && to.flush().await.is_ok();
        if open {
            carried += count as u64;
        } else if after == AfterRefusal::Stop {
            break;
        }
    }
    if let Err(error) = to.shutdown().await {
        tracing::trace!(%error, "the other side was gone");
    }
    carried
}

/// A plain answer: a log, or the kubelet's refusal.
fn pass_back(answer: Response<Incoming>, sub: Subresource) -> Answer {
    let (parts, body) = answer.into_parts();
    let mut passed = Response::new(body.map_err(std::io::Error::other).boxed_unsync());
    *passed.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
        passed.headers_mut().insert(CONTENT_TYPE, kind.clone());
    } else if sub == Subresource::Log {
        passed.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    }
    passed
}

fn kubelet(api: &Arc<Api>, call: &Call, pod: &Pod) -> Result<Kubelet, Failure> {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    if name.is_empty() {
        return Err(status::bad_request(format!("pod {} does not have a host assigned", call.path.name)).into());
    }
    let node: Node =
        api.find("v1", "Node", "", &name).ok_or_else(|| status::not_found(status::About::new("", "nodes", &name)))?;
    let node_status = node.status.unwrap_or_default();
    let address = ["InternalIP", "Hostname", "ExternalIP"].iter().find_map(|kind| {
        node_status.addresses.iter().flatten().find(|address| address.type_ == *kind).map(|found| found.address.clone())
    });
    let address =
        address.ok_or_else(|| status::service_unavailable(format!("node {name:?} does not say its address yet")))?;
    let port = node_status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint).map(|found| found.port);
    let port = u16::try_from(port.unwrap_or(KUBELET_PORT)).unwrap_or(10250);
    Ok(Kubelet { address, port, node: name })
}

async fn ask(
    api: &Arc<Api>,
    kubelet: &Kubelet,
    call: &Call,
    method: &Method,
    path: &str,
) -> Result<Response<Incoming>, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::from(status::service_unavailable(format!(
            "cannot reach the kubelet of node {:?} at {}:{}: {error}",
            kubelet.node, kubelet.address, kubelet.port
        )))
    };
    let config = api.live.kubelets();
    let connect = async {
        let stream = TcpStream::connect((kubelet.address.as_str(), kubelet.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(kubelet.address.clone()).map_err(std::io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    let stream = tokio::time::timeout(CONNECT_MAX, connect)
        .await
        .map_err(|_| refused(&"timed out"))?
        .map_err(|error| refused(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a kubelet ended");
        }
    });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse().map_err(|_| status::bad_request("the request does not make a path"))?;
    *request.headers_mut() = onward_headers(&call.headers, kubelet);
    sender.send_request(request).await.map_err(|error| refused(&error))
}

fn onward_headers(headers: &HeaderMap, kubelet: &Kubelet) -> HeaderMap {
    let mut onward = headers.clone();
    let upgrade = headers.get(UPGRADE).cloned();
    for name in OF_ONE_HOP {
        onward.remove(name);
    }
    // The client's proof is for us; ours is the certificate.
    onward.remove(http::header::AUTHORIZATION);
    if let Some(upgrade) = upgrade {
        onward.insert(UPGRADE, upgrade);
        onward.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    }
    if let Ok(host) = http::HeaderValue::from_str(&format!("{}:{}", kubelet.address, kubelet.port)) {
        onward.insert(HOST, host);
    }
    onward
}

/// Which container is meant: the one named, the one marked as default, the only one.
fn container(call: &Call, pod: &Pod) -> Result<String, Failure> {
    const DEFAULT: &str = "kubectl.kubernetes.io/default-container";
    let spec = pod.spec.as_ref();
    let containers: Vec<&str> = spec.iter().flat_map(|spec| &spec.containers).map(|c| c.name.as_str()).collect();
    let others = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).map(|c| c.name.as_str());
    let ephemeral = spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten()).map(|c| c.name.as_str());
    let asked = call.query.get("container");
    let pod_name = &call.path.name;
    if !asked.is_empty() {
        let known = containers.iter().copied().chain(others).chain(ephemeral).any(|name| name == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(status::bad_request(format!("container {asked} is not valid for pod {pod_name}")).into())
        };
    }
    let marked = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT));
    match (marked, containers.as_slice()) {
        (Some(marked), _) if containers.contains(&marked.as_str()) => Ok(marked.clone()),
        (_, [only]) => Ok((*only).to_owned()),
        (_, all) => Err(status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            all.join(" ")
        ))
        .into()),
    }
}

fn kubelet_path(call: &Call, sub: Subresource, pod: &Pod) -> Result<String, Failure> {
    let (namespace, name) = (&call.path.namespace, &call.path.name);
    Ok(match sub {
        Subresource::PortForward => {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(call.query.all("ports").map(|port| ("ports", port)))
                .finish();
            format!("/portForward/{namespace}/{name}{}", with_mark(&query))
        }
        Subresource::Log => {
            let container = container(call, pod)?;
            format!("/containerLogs/{namespace}/{name}/{container}{}", with_mark(&log_query(&call.query)))
        }
        Subresource::Attach => {
            let container = container(call, pod)?;
            format!("/attach/{namespace}/{name}/{container}{}", with_mark(&stream_query(&call.query)))
        }
        _ => {
            let container = container(call, pod)?;
            format!("/exec/{namespace}/{name}/{container}{}", with_mark(&stream_query(&call.query)))
        }
    })
}

fn with_mark(query: &str) -> String {
    if query.is_empty() { String::new() } else { format!("?{query}") }
}

const LOG_OPTIONS: &[&str] =
    &["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];

fn log_query(query: &Query) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for name in LOG_OPTIONS {
        if let Some(value) = query.option(name) {
            out.append_pair(name, value);
        }
    }
    out.finish()
}

/// The kubelet calls streams `input`, `output` and `error` where the API says stdin, stdout and stderr.
fn stream_query(query: &Query) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    out.extend_pairs(query.all("command").map(|word| ("command", word)));
    // The API's own defaults: stdout and stderr unless said otherwise.
    for (ours, theirs, default) in
        [("stdin", "input", false), ("stdout", "output", true), ("stderr", "error", true), ("tty", "tty", false)]
    {
        let on = if query.option(ours).is_some() { query.flag(ours) } else { default };
        // A terminal has one stream for both.
        if on && !(ours == "stderr" && query.flag("tty")) {
            out.append_pair(theirs, "1");
        }
    }
    out.finish()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn stream_options_are_the_kubelets() {
        let show = |query| stream_query(&Query::parse(query));
        let lines = [
            show("command=sh&command=-c&command=echo+a%26b&stdout=true&stderr=true"),
            show("command=sh&stdin=true&stdout=true&tty=true&container=x"),
            show("stdin=false&stdout=true&stderr=false"),
            log_query(&Query::parse("container=x&follow=true&tailLines=5&pretty=1")),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        command=sh&command=-c&command=echo+a%26b&output=1&error=1
        command=sh&input=1&output=1&tty=1
        output=1
        follow=true&tailLines=5
        ");
    }

    #[test]
    fn onward_headers_carry_the_upgrade_and_no_secret() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
            ("host", "api"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let kubelet = Kubelet { address: "10.0.0.1".to_owned(), port: 10250, node: "n".to_owned() };
        let onward = onward_headers(&headers, &kubelet);
        assert_eq!(onward["upgrade"], "websocket");
        assert_eq!(onward["host"], "10.0.0.1:10250");
        assert_eq!(onward["sec-websocket-key"], "k");
        assert!(!onward.contains_key("authorization"));
    }

    /// Both ends of a TLS connection over a pipe that holds `room` bytes.
    async fn tls(room: usize) -> (impl AsyncRead + AsyncWrite + Unpin, impl AsyncRead + AsyncWrite + Unpin) {
        let pair = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls_pki_types::PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pair.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(room);
        let accept = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far);
        let name = ServerName::try_from("node").unwrap();
        let connect = TlsConnector::from(Arc::new(client)).connect(name, near);
        tokio::try_join!(accept, connect).unwrap()
    }

    #[tokio::test]
    async fn a_slow_client_gets_all_that_a_kubelet_said_before_it_hung_up() {
        let (mut kubelet, ours) = tls(256 << 10).await;
        let (theirs, mut client) = tls(1 << 10).await;
        let tunnel = tokio::spawn(join(theirs, ours));
        let said: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
        kubelet.write_all(&said).await.unwrap();
        kubelet.flush().await.unwrap();
        // Without the end that TLS asks for, as a process that is killed does.
        drop(kubelet);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
        drop(client);
        assert_eq!(tunnel.await.unwrap().1, 40_000);
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_its_kubelets_connection() {
        let (mut kubelet, ours) = tls(1 << 10).await;
        let (theirs, mut client) = tls(1 << 10).await;
        let tunnel = tokio::spawn(join(theirs, ours));
        client.write_all(b"typed").await.unwrap();
        client.flush().await.unwrap();
        drop(client);
        let mut heard = Vec::new();
        kubelet.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"typed");
        drop(kubelet);
        assert_eq!(tunnel.await.unwrap(), (5, 0));
    }
}
