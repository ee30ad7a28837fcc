//! How certificates fail. Owns no behaviour.

use std::path::PathBuf;

use super::TokenFormatError;

/// A certificate, key or file that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or directory.
    #[error("cannot {verb} {path}")]
    File {
        /// `read`, `write`, …
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate on disk that does not parse.
    #[error("{path} does not hold a usable {what}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// `certificate`, `private key`.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Signing or key generation.
    #[error("cannot {verb} a certificate for {subject}")]
    Issue {
        /// `make`, `sign`.
        verb: &'static str,
        /// Common name.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate signing request that cannot be honoured.
    #[error("cannot sign the request: {why}")]
    Request {
        /// What is wrong with it.
        why: String,
    },
    /// A certificate of ours that TLS refuses.
    #[error("the {what} cannot be used for TLS")]
    Unusable {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A key ring refuses.
    #[error("{path} does not hold a P-256 key in PKCS #8")]
    TokenKey {
        /// Which file.
        path: PathBuf,
    },
    /// A malformed join token.
    #[error("{path} does not hold a join token")]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TokenFormatError,
    },
}
