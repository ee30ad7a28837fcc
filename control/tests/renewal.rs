//! The API server's certificates are renewed while it runs, and those who hold a kubeconfig follow.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use pintle_client::Client;
use pintle_control::apiserver::{self, ApiServerConfig, Handle, LEAF_LIFE_S, ServiceRanges};
use pintle_store::FakeStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Renewed after two thirds of it; long enough for a slow machine to be in time.
const LIFE_S: u64 = 15;

async fn start(state: &Path, listen: SocketAddr, life_s: u64, cancel: &CancellationToken) -> Handle {
    let config = ApiServerConfig {
        state_dir: state.to_owned(),
        listen: vec![listen],
        server_url: format!("https://{listen}"),
        names: Vec::new(),
        advertise: None,
        ranges: ServiceRanges::default(),
        certificate_life_s: life_s,
    };
    apiserver::start_over(Arc::new(FakeStore::default()), config, cancel.clone()).await.unwrap()
}

/// A connection of a client that trusts the cluster's authority, and the certificate it was shown.
async fn connect(handle: &Handle) -> (SendRequest<Empty<bytes::Bytes>>, CertificateDer<'static>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(handle.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(handle.addresses[0]).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    (sender, shown)
}

async fn is_served(sender: &mut SendRequest<Empty<bytes::Bytes>>) -> bool {
    sender.ready().await.unwrap();
    let request = http::Request::get("/livez").header("host", "127.0.0.1").body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let is_ok = answer.status() == 200;
    answer.into_body().collect().await.unwrap();
    is_ok
}

#[tokio::test]
async fn certificates_are_renewed_under_connections_that_go_on() {
    let state = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let began = SystemTime::now();
    let handle = start(state.path(), "127.0.0.1:0".parse().unwrap(), LIFE_S, &cancel).await;
    let kubeconfig = std::fs::read(state.path().join("kubeconfig")).unwrap();
    let (mut old, first) = connect(&handle).await;
    assert!(is_served(&mut old).await);
    // Every one of these handshakes checks that what is shown is valid now.
    let mut shown = first.clone();
    while shown == first {
        assert!(began.elapsed().unwrap() < Duration::from_secs(LIFE_S), "still the first certificate at its end");
        tokio::time::sleep(Duration::from_millis(100)).await;
        shown = connect(&handle).await.1;
    }
    let after = began.elapsed().unwrap();
    assert!(after >= Duration::from_secs(LIFE_S * 2 / 3 - 1), "renewed without need after {after:?}");
    assert!(is_served(&mut old).await, "the connection from before");
    assert_ne!(
        std::fs::read(state.path().join("kubeconfig")).unwrap(),
        kubeconfig,
        "the administrator's is renewed too"
    );
    cancel.cancel();
}

async fn user(client: &Client) -> String {
    let review = client.review(&SelfSubjectReview::default()).await.unwrap();
    review.status.unwrap().user_info.unwrap().username.unwrap()
}

#[tokio::test]
async fn a_client_takes_what_its_kubeconfig_holds_for_every_new_connection() {
    let (state, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cancel = CancellationToken::new();
    // The URL in the kubeconfigs names the port, which the system chooses.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let handle = start(state.path(), port, LEAF_LIFE_S, &cancel).await;
    let server = state.path().join("server");
    let file = copy.path().join("kubeconfig");
    std::fs::copy(server.join("scheduler.kubeconfig"), &file).unwrap();
    let client = Client::from_kubeconfig(&file).unwrap();
    assert_eq!(user(&client).await, "system:kube-scheduler");
    std::fs::copy(server.join("controller-manager.kubeconfig"), &file).unwrap();
    assert_eq!(user(&client).await, "system:kube-scheduler", "the connection lives on");
    cancel.cancel();
    handle.stopped().await;

    let cancel = CancellationToken::new();
    let handle = start(state.path(), port, LEAF_LIFE_S, &cancel).await;
    assert_eq!(user(&client).await, "system:kube-controller-manager");
    std::fs::write(&file, "half a fi").unwrap();
    cancel.cancel();
    handle.stopped().await;
    let cancel = CancellationToken::new();
    let handle = start(state.path(), port, LEAF_LIFE_S, &cancel).await;
    assert_eq!(user(&client).await, "system:kube-scheduler", "what was read first is better than nothing");
    cancel.cancel();
    handle.stopped().await;
}
