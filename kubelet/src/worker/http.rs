//! A GET for probes and hooks: no redirects followed, no certificate checked, nothing kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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

/// Asks; the status code if it is 200 to 399, else what to tell people.
pub(super) async fn get(request: &Request, limit: Duration) -> Result<u16, String> {
    let scheme = if request.https { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", bracketed(&request.host), request.port, request.path);
    match tokio::time::timeout(limit, Box::pin(ask(request))).await {
        Ok(Ok(code @ 200..=399)) => Ok(code),
        Ok(Ok(code)) => Err(format!("HTTP probe failed with statuscode: {code}")),
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

async fn ask(request: &Request) -> Result<u16, String> {
    let address = format!("{}:{}", bracketed(&request.host), request.port);
    let stream = TcpStream::connect(&address).await.map_err(|e| format!("dial tcp {address}: {e}"))?;
    if !request.https {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(request.host.clone()).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(trusting()?);
    let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: &Request,
) -> Result<u16, String> {
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
            answer = &mut send => return answer.map(|a| a.status().as_u16()).map_err(|e| e.to_string()),
            // A server may close after its answer: the answer is there all the same.
            ended = &mut connection, if open => {
                open = false;
                ended.map_err(|e| e.to_string())?;
            }
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Probes check that something answers, not who: as Kubernetes documents, certificates are not verified.
fn trusting() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
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
