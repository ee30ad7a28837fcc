//! The cluster's certificates and keys under `<state-dir>/server/pki`.
//!
//! Owns: creating, loading and renewing them, the kubeconfigs and the join token made from them. Does not own: who may
//! have a certificate (that is decided over CertificateSigningRequests) nor what it allows (authorization).
//!
//! Everything is written to a temporary file and renamed, keys with mode 0600, so that a kill at any moment leaves
//! either the old or the new file.

mod authority;
mod error;
mod files;
mod jwt;
mod kubeconfig;
mod live;
mod subject;
mod token;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use authority::{Authority, Certificate, CsrFacts, Purpose, Subject, csr_facts, subject_of};
pub use error::PkiError;
pub use files::{read_text, write_atomic};
pub use jwt::{JwtError, TokenKey, TokenVerifier};
pub use kubeconfig::{Credentials, kubeconfig};
pub use live::Live;
pub use token::{BootstrapToken, JoinToken, TokenFormatError};

/// Life of the authority's certificate: ten years.
const CA_LIFE_S: u64 = 10 * 365 * 86_400;
/// Life of every other certificate, unless configured; renewed when a third of it is left.
pub const LEAF_LIFE_S: u64 = 365 * 86_400;

/// What the certificates have to say.
#[derive(Debug, Clone)]
pub struct PkiConfig {
    /// `<state-dir>`.
    pub state_dir: PathBuf,
    /// Names and addresses under which clients reach the API server, besides the fixed ones.
    pub names: Vec<String>,
    /// `https://…:6443` as written into kubeconfigs.
    pub server_url: String,
    /// Life of certificates but the authority's; they are renewed when a third of it is left.
    pub life_s: u64,
}

/// Everything the servers need, loaded.
#[derive(Debug)]
pub struct Pki {
    /// Signs certificates.
    pub authority: Authority,
    /// The API server's serving certificate.
    pub serving: Certificate,
    /// Its client certificate for kubelets.
    pub kubelet_client: Certificate,
    /// Signs ServiceAccount tokens.
    pub tokens: TokenKey,
    /// When the first of all certificates is due to be renewed, Unix time.
    pub renew_at_s: u64,
}

impl PkiConfig {
    /// Less left than this, and a certificate is renewed.
    fn least_left_s(&self) -> u64 {
        self.life_s / 3
    }
    fn server(&self) -> PathBuf {
        self.state_dir.join("server")
    }
    fn pki(&self) -> PathBuf {
        self.server().join("pki")
    }
}

/// Names every API server answers to.
const SERVING_NAMES: &[&str] = &[
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    "::1",
];

/// Loads what is there, creates what is missing and renews what is near its end. `now_s` is Unix time.
///
/// # Errors
/// [`PkiError`].
pub fn ensure(config: &PkiConfig, now_s: u64) -> Result<Pki, PkiError> {
    let pki = config.pki();
    files::make_private_directory(&config.state_dir)?;
    files::make_private_directory(&config.server())?;
    files::make_private_directory(&pki)?;
    let authority = Authority::ensure(&pki, now_s, CA_LIFE_S)?;
    let mut names: Vec<String> = SERVING_NAMES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(config.names.iter().filter(|name| !SERVING_NAMES.contains(&name.as_str())).cloned());
    let serving = ensure_leaf(config, "apiserver", &authority, &Subject::server("kube-apiserver", names), now_s)?;
    let client = Subject::client("kube-apiserver-kubelet-client", &[]);
    let kubelet_client = ensure_leaf(config, "apiserver-kubelet-client", &authority, &client, now_s)?;
    let tokens = TokenKey::ensure(&pki)?;
    let mut first_end_s = serving.end_s().min(kubelet_client.end_s());
    for (path, user, group) in [
        (config.state_dir.join("kubeconfig"), "system:admin", Some("system:masters")),
        (config.server().join("scheduler.kubeconfig"), "system:kube-scheduler", None),
        (config.server().join("controller-manager.kubeconfig"), "system:kube-controller-manager", None),
        // For a proxy that is started alone; agents ask for a certificate of their own.
        (config.server().join("proxy.kubeconfig"), "system:kube-proxy", None),
    ] {
        first_end_s = first_end_s.min(ensure_kubeconfig(&path, config, &authority, user, group, now_s)?);
    }
    let renew_at_s = first_end_s.saturating_sub(config.least_left_s());
    Ok(Pki { authority, serving, kubelet_client, tokens, renew_at_s })
}

/// The join token in `server/token`, made if missing. `random` fills bytes.
///
/// # Errors
/// [`PkiError`].
pub fn ensure_join_token(
    config: &PkiConfig,
    authority: &Authority,
    random: impl FnMut(&mut [u8]),
) -> Result<JoinToken, PkiError> {
    let path = config.server().join("token");
    if let Some(text) = files::read_text(&path)? {
        let token = text.trim().parse::<JoinToken>();
        let token = token.map_err(|source| PkiError::Token { path: path.clone(), source })?;
        if token.ca_hash == authority.spki_sha256() {
            return Ok(token);
        }
    }
    let token = JoinToken { ca_hash: authority.spki_sha256(), bootstrap: BootstrapToken::generate(random) };
    files::write_atomic(&path, format!("{token}\n").as_bytes(), 0o600)?;
    Ok(token)
}

fn ensure_leaf(
    config: &PkiConfig,
    name: &str,
    authority: &Authority,
    subject: &Subject,
    now_s: u64,
) -> Result<Certificate, PkiError> {
    let pki = config.pki();
    let (cert_path, key_path) = (pki.join(format!("{name}.crt")), pki.join(format!("{name}.key")));
    if let (Some(certificate), Some(key)) = (files::read_text(&cert_path)?, files::read_text(&key_path)?) {
        let loaded = Certificate { certificate, key };
        if loaded.serves(authority, subject, now_s, config.least_left_s()) {
            return Ok(loaded);
        }
    }
    let made = authority.issue(subject, now_s, config.life_s)?;
    // The key first: a certificate without its key would be taken for a pair after a kill in between, and `serves`
    // compares them anyway.
    files::write_atomic(&key_path, made.key.as_bytes(), 0o600)?;
    files::write_atomic(&cert_path, made.certificate.as_bytes(), 0o644)?;
    Ok(made)
}

/// When the kubeconfig's certificate ends, Unix time.
fn ensure_kubeconfig(
    path: &Path,
    config: &PkiConfig,
    authority: &Authority,
    user: &str,
    group: Option<&str>,
    now_s: u64,
) -> Result<u64, PkiError> {
    let groups: Vec<&str> = group.into_iter().collect();
    let subject = Subject::client(user, &groups);
    if let Some(text) = files::read_text(path)?
        && let Some(found) = kubeconfig::parse(&text)
        && found.server == config.server_url
        && found.ca.trim() == authority.certificate_pem().trim()
        && found.certificate.serves(authority, &subject, now_s, config.least_left_s())
    {
        return Ok(found.certificate.end_s());
    }
    let certificate = authority.issue(&subject, now_s, config.life_s)?;
    let credentials = Credentials::Certificate(&certificate);
    let text = kubeconfig(&config.server_url, authority.certificate_pem(), user, &credentials);
    files::write_atomic(path, text.as_bytes(), 0o600)?;
    Ok(certificate.end_s())
}

/// Whether a name is an address, for the right kind of subject alternative name.
fn as_address(name: &str) -> Option<IpAddr> {
    name.parse().ok()
}

#[cfg(test)]
mod tests;
