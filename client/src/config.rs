//! How to reach an API server and who we are. Plain data.

use std::path::PathBuf;
use std::time::Duration;

/// Whom we believe to be the API server.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Certificates issued by one of these authorities (PEM, one or more).
    Ca(String),
    /// The SHA-256 of the DER SubjectPublicKeyInfo of an authority that the server sends as the last certificate of
    /// its chain. Used once, to join: afterwards [`crate::Client::pinned_ca`] tells the authority's certificate.
    SpkiPin([u8; 32]),
}

/// Who we are.
#[derive(Clone, Default)]
pub enum Identity {
    /// Nobody (`system:anonymous`).
    #[default]
    None,
    /// A bearer token.
    Token(String),
    /// A bearer token in a file that somebody rotates: read anew for every request.
    TokenFile(PathBuf),
    /// A client certificate.
    Cert {
        /// The certificate chain, PEM.
        cert_pem: String,
        /// Its private key, PEM.
        key_pem: String,
    },
}

impl std::fmt::Debug for Identity {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Identity::None => "None",
            Identity::Token(_) => "Token",
            Identity::TokenFile(_) => "TokenFile",
            Identity::Cert { .. } => "Cert",
        })
    }
}

/// Everything [`crate::Client::new`] needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https://host:port`.
    pub server: String,
    /// Whom to believe.
    pub trust: Trust,
    /// Who we are.
    pub identity: Identity,
    /// `User-Agent`; also what audit logs and field managers show.
    pub user_agent: String,
    /// Limit for one request and its answer; watches have none.
    pub timeout: Duration,
}

impl Config {
    /// A configuration with the usual limits.
    pub fn new(server: impl Into<String>, trust: Trust, identity: Identity) -> Self {
        Self {
            server: server.into(),
            trust,
            identity,
            user_agent: concat!("pintle/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: Duration::from_secs(30),
        }
    }
}
