//! A GET for probes and hooks: no certificate checked, nothing kept, redirects followed as far as the same host.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Go's clients, and so every kubelet, give up at the tenth.
const REDIRECTS_MAX: usize = 10;

/// What to ask for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) agent: &'static str,
}

/// An answer from 200 to 399.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Good {
    /// Good as it is.
    Plain,
    /// A redirect that was not followed: it leads to another host, or nowhere. People are told.
    Redirect(String),
}

/// Asks; what is not good says why.
pub(super) async fn get(request: &Request, limit: Duration) -> Result<Good, String> {
    let url = url(request);
    match tokio::time::timeout(limit, Box::pin(follow(request.clone()))).await {
        Ok(Ok(good)) => good,
        Ok(Err(why)) => Err(format!("Get \"{url}\": {why}")),
        Err(_) => Err(format!("Get \"{url}\": no answer within {} ms", limit.as_millis())),
    }
}

/// Opens and closes a connection.
pub(super) async fn dial(host: &str, port: u16, limit: Duration) -> Result<(), String> {
    let address = format!("{}:{port}", bracketed(host));
    match tokio::time::timeout(limit, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("dial tcp {address}: {e}")),
        Err(_) => Err(format!("dial tcp {address}: no answer within {} ms", limit.as_millis())),
    }
}

/// The inner result is the verdict of an answer that came.
async fn follow(mut request: Request) -> Result<Result<Good, String>, String> {
    for _ in 0..REDIRECTS_MAX {
        let (code, location) = ask(&request).await?;
        match code {
            200..=299 => return Ok(Ok(Good::Plain)),
            300..=399 => {}
            code => return Ok(Err(format!("HTTP probe failed with statuscode: {code}"))),
        }
        let next = location.filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308));
        match next.and_then(|location| redirected(&request, &location)) {
            Some(next) => request = next,
            None => return Ok(Ok(Good::Redirect(format!("Probe terminated redirects, last answer: {code}")))),
        }
    }
    Err(format!("stopped after {REDIRECTS_MAX} redirects"))
}

/// The request a redirect asks for, if it is to the same host.
fn redirected(request: &Request, location: &str) -> Option<Request> {
    if !location.contains("://") {
        let base = request.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let path = if location.starts_with('/') { location.to_owned() } else { format!("{base}/{location}") };
        return (!location.starts_with("//")).then(|| Request { path, ..request.clone() });
    }
    let uri: Uri = location.parse().ok()?;
    let (host, path) = (uri.host()?, uri.path_and_query().map_or("/", |p| p.as_str()).to_owned());
    let https = uri.scheme_str() == Some("https");
    let same = host.trim_matches(['[', ']']) == request.host;
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    same.then(|| Request { https, port, path, ..request.clone() })
}

/// Status code and `Location`.
async fn ask(request: &Request) -> Result<(u16, Option<String>), String> {
    let address = format!("{}:{}", bracketed(&request.host), request.port);
    let stream = TcpStream::connect(&address).await.map_err(|e| format!("dial tcp {address}: {e}"))?;
    let answer = if request.https {
        let name = ServerName::try_from(request.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(trusting()?);
        let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
        exchange(stream, request).await?
    } else {
        exchange(stream, request).await?
    };
    let location = answer.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
    Ok((answer.status().as_u16(), location))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: &Request,
) -> Result<Response<hyper::body::Incoming>, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let mut builder = hyper::Request::get(&request.path).header("Connection", "close");
    let mut own = ["host", "user-agent", "accept"].map(|n| (n, true));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
        own.iter_mut().filter(|(n, _)| name.eq_ignore_ascii_case(n)).for_each(|n| n.1 = false);
    }
    let defaults =
        [format!("{}:{}", bracketed(&request.host), request.port), request.agent.to_owned(), "*/*".to_owned()];
    for ((name, missing), value) in own.into_iter().zip(defaults) {
        if missing {
            builder = builder.header(name, value);
        }
    }
    let message = builder.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let send = sender.send_request(message);
    tokio::pin!(send, connection);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut send => return answer.map_err(|e| e.to_string()),
            // A server may close after its answer: the answer is there all the same.
            ended = &mut connection, if open => {
                open = false;
                ended.map_err(|e| e.to_string())?;
            }
        }
    }
}

fn url(request: &Request) -> String {
    let scheme = if request.https { "https" } else { "http" };
    format!("{scheme}://{}:{}{}", bracketed(&request.host), request.port, request.path)
}

pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Probes check that something answers, not who: as Kubernetes documents, certificates are not verified.
/// Made once: it holds the whole list of cipher suites.
fn trusting() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        Ok(Arc::new(config))
    };
    CONFIG.get_or_init(make).clone()
}

#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    /// Answers each path with a status line and a Location; `SELF` in one is the server's own address.
    async fn server(answers: &'static [(&'static str, &'static str, &'static str)]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut lines = BufReader::new(&mut stream).lines();
                let first = lines.next_line().await.unwrap().unwrap();
                while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let (_, status, location) = answers.iter().find(|(p, ..)| *p == path).unwrap();
                let location = location.replace("SELF", &format!("http://127.0.0.1:{port}"));
                let answer = format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_and_told_of_elsewhere() {
        let port = server(&[
            ("/ok", "204", ""),
            ("/bad", "500", ""),
            ("/absolute", "301", "SELF/ok"),
            ("/rooted", "302", "/ok"),
            ("/relative", "307", "ok"),
            ("/to-bad", "302", "/bad"),
            ("/away", "302", "http://192.0.2.1/ok"),
            ("/unchanged", "304", ""),
            ("/round", "302", "/round"),
        ])
        .await;
        let mut told = Vec::new();
        for path in ["/ok", "/bad", "/absolute", "/rooted", "/relative", "/to-bad", "/away", "/unchanged", "/round"] {
            let host = "127.0.0.1".to_owned();
            let request =
                Request { https: false, host, port, path: path.to_owned(), headers: Vec::new(), agent: "test" };
            let answer = get(&request, Duration::from_secs(30)).await;
            told.push(format!("{path}: {answer:?}").replace(&port.to_string(), "PORT"));
        }
        insta::assert_snapshot!(told.join("\n"), @r#"
        /ok: Ok(Plain)
        /bad: Err("HTTP probe failed with statuscode: 500")
        /absolute: Ok(Plain)
        /rooted: Ok(Plain)
        /relative: Ok(Plain)
        /to-bad: Err("HTTP probe failed with statuscode: 500")
        /away: Ok(Redirect("Probe terminated redirects, last answer: 302"))
        /unchanged: Ok(Redirect("Probe terminated redirects, last answer: 304"))
        /round: Err("Get \"http://127.0.0.1:PORT/round\": stopped after 10 redirects")
        "#);
    }
}
