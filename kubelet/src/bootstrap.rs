//! The kubelet's certificates: asked for by CertificateSigningRequest, renewed at two thirds of their life.
//!
//! Owns: keys, requests, the kubeconfig file, when to renew. Does not own: signing and approving (control plane).

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_client::{Backoff, Cache, Change, Client, Identity, Kubeconfig, Trust, write_private};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::config::KubeletConfig;
use crate::error::{KubeletError, chain};

/// How long to wait for somebody to sign before asking anew.
const SIGN_S_MAX: u64 = 900;

/// A certificate to ask for.
pub(crate) struct Ask {
    signer: &'static str,
    usages: &'static [&'static str],
    sans: Vec<SanType>,
    node_name: String,
}

impl Ask {
    /// The node's client certificate.
    pub(crate) fn client(config: &KubeletConfig) -> Ask {
        Ask {
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usages: &["digital signature", "client auth"],
            sans: Vec::new(),
            node_name: config.node_name.clone(),
        }
    }
    /// The certificate the kubelet's API serves with.
    pub(crate) fn serving(config: &KubeletConfig) -> Ask {
        let mut sans = vec![SanType::IpAddress(config.node_ip)];
        sans.extend(config.node_name.clone().try_into().map(SanType::DnsName));
        Ask {
            signer: "kubernetes.io/kubelet-serving",
            usages: &["digital signature", "server auth"],
            sans,
            node_name: config.node_name.clone(),
        }
    }
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// The client with the node's own identity: from the kubeconfig, or asked for with the bootstrap one.
pub(crate) async fn client(config: &KubeletConfig) -> Result<Client, KubeletError> {
    if config.kubeconfig.exists() {
        // One that has ended is as good as none; whatever else the file holds is for the API server to judge.
        let ended = |pair: Pair| life(&pair.cert_pem).is_some_and(|(_, to)| to <= Timestamp::now());
        if !own_pair(&config.kubeconfig).is_some_and(ended) {
            return Ok(Client::from_kubeconfig(&config.kubeconfig)?);
        }
    }
    let bootstrap = config.bootstrap_kubeconfig.as_ref().filter(|p| p.exists());
    let Some(bootstrap) = bootstrap else {
        return Err(KubeletError::NoCredentials { kubeconfig: config.kubeconfig.clone() });
    };
    let with_token = Client::from_kubeconfig(bootstrap)?;
    let pair = ask(&with_token, &Ask::client(config)).await?;
    write_kubeconfig(config, bootstrap, &pair)?;
    Ok(Client::from_kubeconfig(&config.kubeconfig)?)
}

/// Keeps the client certificate fresh; ends only with the kubelet.
pub(crate) async fn keep_client(config: KubeletConfig, client: Client) {
    loop {
        let Some(at) = own_pair(&config.kubeconfig).and_then(|pair| renew_at(&pair.cert_pem)) else { return };
        sleep_until(at).await;
        match renew_client(&config, &client).await {
            Ok(()) => tracing::info!("renewed the node's client certificate"),
            Err(e) => {
                tracing::warn!(error = chain(&e), "cannot renew the node's client certificate");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

async fn renew_client(config: &KubeletConfig, client: &Client) -> Result<(), KubeletError> {
    let pair = ask(client, &Ask::client(config)).await?;
    write_kubeconfig(config, &config.kubeconfig, &pair)?;
    Ok(client.reconfigure(Kubeconfig::read(&config.kubeconfig)?.config(&config.kubeconfig)?)?)
}

fn own_pair(path: &Path) -> Option<Pair> {
    match Kubeconfig::read(path).ok()?.config(path).ok()?.identity {
        Identity::Cert { cert_pem, key_pem } => Some(Pair { cert_pem, key_pem }),
        Identity::None | Identity::Token(_) | Identity::TokenFile(_) => None,
    }
}

fn write_kubeconfig(config: &KubeletConfig, like: &Path, pair: &Pair) -> Result<(), KubeletError> {
    let old = Kubeconfig::read(like)?.config(like)?;
    let Trust::Ca(ca) = old.trust else {
        return Err(KubeletError::NoCredentials { kubeconfig: config.kubeconfig.clone() });
    };
    let identity = Identity::Cert { cert_pem: pair.cert_pem.clone(), key_pem: pair.key_pem.clone() };
    let user = format!("system:node:{}", config.node_name);
    Ok(Kubeconfig::new("pintle", &user, &old.server, &ca, &identity).write(&config.kubeconfig)?)
}

/// The serving certificate on disk, if it is for this address and has life left.
pub(crate) fn stored_serving(config: &KubeletConfig) -> Option<Pair> {
    let dir = config.dirs.pki();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let pair = Pair { cert_pem: read("kubelet.crt")?, key_pem: read("kubelet.key")? };
    // It serves until it has ended: the keeper asks for the next one as soon as it is due.
    let current = life(&pair.cert_pem)?.1 > Timestamp::now() && names_address(&pair.cert_pem, config.node_ip);
    current.then_some(pair)
}

/// Asks for a serving certificate and keeps it on disk.
pub(crate) async fn serving(config: &KubeletConfig, client: &Client) -> Result<Pair, KubeletError> {
    let pair = ask(client, &Ask::serving(config)).await?;
    let dir = config.dirs.pki();
    crate::disk::make_dir(&dir, 0o700)?;
    write_private(&dir.join("kubelet.key"), pair.key_pem.as_bytes())?;
    write_private(&dir.join("kubelet.crt"), pair.cert_pem.as_bytes())?;
    Ok(pair)
}

/// The moment at two thirds of a certificate's life.
pub(crate) fn renew_at(cert_pem: &str) -> Option<Timestamp> {
    let (from, to) = life(cert_pem)?;
    Some(from + to.duration_since(from) / 3 * 2)
}

/// From when to when a certificate is good.
fn life(cert_pem: &str) -> Option<(Timestamp, Timestamp)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).ok()?;
    let cert = pem.parse_x509().ok()?;
    let at = |seconds| Timestamp::from_second(seconds).ok();
    Some((at(cert.validity().not_before.timestamp())?, at(cert.validity().not_after.timestamp())?))
}

/// Waits for a moment that may be months away.
pub(crate) async fn sleep_until(at: Timestamp) {
    let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(wait).await;
}

fn names_address(cert_pem: &str, address: std::net::IpAddr) -> bool {
    use x509_parser::extensions::GeneralName;
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()) else { return false };
    let Ok(cert) = pem.parse_x509() else { return false };
    let bytes = match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let names = cert.subject_alternative_name().ok().flatten();
    names.is_some_and(|n| n.value.general_names.iter().any(|g| matches!(g, GeneralName::IPAddress(b) if *b == bytes)))
}

/// Makes a key, asks for a certificate, waits until it is issued.
async fn ask(client: &Client, ask: &Ask) -> Result<Pair, KubeletError> {
    let (key_pem, csr_pem) = request_pem(ask)?;
    let csr = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(csr_pem.into_bytes()),
            signer_name: ask.signer.to_owned(),
            usages: Some(ask.usages.iter().map(|u| (*u).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let made = loop {
        match client.create(&csr).await {
            Ok(made) => break made,
            Err(e) if e.is_transient() => {
                tracing::warn!(error = chain(&e), signer = ask.signer, "cannot ask for a certificate yet");
                tokio::time::sleep(backoff.delay()).await;
            }
            Err(e) => return Err(e.into()),
        }
    };
    let name = made.metadata.name.clone().unwrap_or_default();
    let cert_pem = issued(client, &name, made).await?;
    Ok(Pair { cert_pem, key_pem })
}

async fn issued(client: &Client, name: &str, made: CertificateSigningRequest) -> Result<String, KubeletError> {
    if let Some(outcome) = outcome(name, &made) {
        return outcome;
    }
    let fields = format!("metadata.name={name}");
    let cache = Cache::<CertificateSigningRequest>::builder(client).fields(&fields).start();
    let mut changes = cache.subscribe();
    let wait = async {
        loop {
            if let Change::Applied { new, .. } = changes.next().await
                && let Some(outcome) = outcome(name, &new)
            {
                return outcome;
            }
        }
    };
    let refused = || KubeletError::CsrRefused { name: name.to_owned(), why: "nobody signed it in time".to_owned() };
    tokio::time::timeout(Duration::from_secs(SIGN_S_MAX), wait).await.unwrap_or_else(|_| Err(refused()))
}

fn outcome(name: &str, csr: &CertificateSigningRequest) -> Option<Result<String, KubeletError>> {
    let status = csr.status.as_ref()?;
    let bad = status.conditions.iter().flatten().find(|c| c.type_ == "Denied" || c.type_ == "Failed");
    if let Some(condition) = bad {
        let why = condition.message.clone().unwrap_or_default();
        return Some(Err(KubeletError::CsrRefused { name: name.to_owned(), why }));
    }
    let cert = status.certificate.as_ref().filter(|c| !c.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&cert.0).into_owned()))
}

fn request_pem(ask: &Ask) -> Result<(String, String), KubeletError> {
    let failed = |e: rcgen::Error| KubeletError::Certificate { what: ask.signer.to_owned(), source: e.into() };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{}", ask.node_name));
    params.distinguished_name = name;
    params.subject_alt_names = ask.sans.clone();
    let csr = params.serialize_request(&key).and_then(|r| r.pem()).map_err(failed)?;
    Ok((key.serialize_pem(), csr))
}
