//! What a request can end in, and the questions callers ask of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use std::path::PathBuf;

/// The API server answered with a failure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{method} {path}: {} ({code})", self.message())]
pub struct ApiError {
    /// HTTP method of the request.
    pub method: String,
    /// Path and query of the request.
    pub path: String,
    /// HTTP status code.
    pub code: u16,
    /// The `metav1.Status` of the answer; synthesised from the HTTP status when the body carried none.
    pub status: Box<Status>,
}

impl ApiError {
    /// The machine-readable reason (`NotFound`, `AlreadyExists`, …), empty when the server gave none.
    pub fn reason(&self) -> &str {
        self.status.reason.as_deref().unwrap_or_default()
    }

    /// The human-readable message of the Status.
    pub fn message(&self) -> &str {
        self.status.message.as_deref().unwrap_or("no message")
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// The revision sent is not the current one (409 with reason `Conflict`).
    pub fn is_conflict(&self) -> bool {
        self.code == 409 && self.reason() != "AlreadyExists"
    }

    /// An object of that name exists.
    pub fn is_already_exists(&self) -> bool {
        self.code == 409 && self.reason() == "AlreadyExists"
    }

    /// The revision asked for was compacted: list again (410, `Expired` or `Gone`).
    pub fn is_gone(&self) -> bool {
        self.code == 410
    }

    /// The server asks to try again later (429, 503).
    pub fn is_overloaded(&self) -> bool {
        self.code == 429 || self.code == 503
    }
}

/// Why a request did not bring an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No connection to the API server.
    #[error("cannot connect to {server}")]
    Connect {
        /// `host:port` of the server.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke during the request.
    #[error("{method} {path}: the connection failed")]
    Http {
        /// HTTP method.
        method: String,
        /// Path and query.
        path: String,
        /// Why.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("{method} {path}: no answer within {timeout_ms} ms")]
    Timeout {
        /// HTTP method.
        method: String,
        /// Path and query.
        path: String,
        /// The limit that passed.
        timeout_ms: u64,
    },
    /// An answer or a watch event that is not the JSON it should be.
    #[error("{what}: malformed JSON")]
    Decode {
        /// What was being read.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An object that could not be encoded.
    #[error("cannot encode {what}")]
    Encode {
        /// What was being written.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A request that cannot be expressed as HTTP (a name with forbidden bytes, for example).
    #[error("cannot build the request {path:?}")]
    Request {
        /// Path and query.
        path: String,
        /// Why.
        source: http::Error,
    },
    /// A file of the configuration cannot be read or written.
    #[error("{op} {}", path.display())]
    File {
        /// `read` or `write`.
        op: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration that makes no sense.
    #[error("{what}: {why}")]
    Config {
        /// Which configuration.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// TLS material that cannot be used.
    #[error("{what}")]
    Tls {
        /// Which material.
        what: String,
        /// Why.
        source: rustls::Error,
    },
}

impl Error {
    /// The server's answer, when there was one.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Error::Api(e) => Some(e),
            _ => None,
        }
    }

    /// See [`ApiError::is_not_found`].
    pub fn is_not_found(&self) -> bool {
        self.api().is_some_and(ApiError::is_not_found)
    }

    /// See [`ApiError::is_conflict`].
    pub fn is_conflict(&self) -> bool {
        self.api().is_some_and(ApiError::is_conflict)
    }

    /// See [`ApiError::is_already_exists`].
    pub fn is_already_exists(&self) -> bool {
        self.api().is_some_and(ApiError::is_already_exists)
    }

    /// See [`ApiError::is_gone`].
    pub fn is_gone(&self) -> bool {
        self.api().is_some_and(ApiError::is_gone)
    }

    /// The request may succeed when repeated later: the network, a time-out, an overloaded or restarting server.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Api(e) => e.is_overloaded() || e.code >= 500,
            Error::Connect { .. } | Error::Http { .. } | Error::Timeout { .. } => true,
            Error::Decode { .. }
            | Error::Encode { .. }
            | Error::Request { .. }
            | Error::File { .. }
            | Error::Config { .. }
            | Error::Tls { .. } => false,
        }
    }
}
