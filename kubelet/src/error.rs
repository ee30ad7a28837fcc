//! What can go wrong on the edge.

use std::path::{Path, PathBuf};

use pintle_kubelet_plan::env::ConfigError;

/// Why the kubelet cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The runtime binary is absent.
    #[error("cannot use the runtime {}", path.display())]
    Runtime {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither a kubeconfig nor a bootstrap kubeconfig.
    #[error("no credentials: neither {} nor a bootstrap kubeconfig exists", kubeconfig.display())]
    NoCredentials {
        /// Where the kubeconfig should be.
        kubeconfig: PathBuf,
    },
    /// The CSR was turned down.
    #[error("the certificate request {name} was refused: {why}")]
    CsrRefused {
        /// Its name.
        name: String,
        /// The message of its condition.
        why: String,
    },
    /// A certificate or key cannot be made or read.
    #[error("cannot use the certificate {what}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The node is not usable.
    #[error("cannot register the node {name}")]
    Register {
        /// Its name.
        name: String,
        /// Why.
        source: pintle_client::Error,
    },
    /// The API server.
    #[error(transparent)]
    Api(#[from] pintle_client::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl KubeletError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            KubeletError::Runtime { .. } => Some("build it with `make build`, or say where it is with --runtime"),
            KubeletError::NoCredentials { .. } => Some("join with `pintle agent --server … --token …`"),
            KubeletError::Listen { .. } => Some("is another kubelet running? `ss -ltnp` shows who holds the port"),
            KubeletError::CsrRefused { .. }
            | KubeletError::Certificate { .. }
            | KubeletError::Register { .. }
            | KubeletError::Api(_)
            | KubeletError::File(_) => None,
        }
    }
}

/// A file-system operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}", path.display())]
pub struct FileError {
    /// E.g. `write`.
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Names the operation and the path of an I/O error.
pub(crate) trait At<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|e| FileError { op, path: path.to_owned(), source: e.into() })
    }
}

/// Why one step of a pod's life failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot set up the pod's network")]
    Net(#[from] pintle_net::NetError),
    #[error("the node has no pod CIDR yet")]
    NoPodCidr,
    #[error("spec.runtimeClassName: RuntimeClass \"{name}\" not found")]
    NoRuntimeClass { name: String },
    #[error("spec.runtimeClassName: this node has no handler \"{handler}\", which RuntimeClass \"{name}\" names")]
    NoHandler { name: String, handler: String },
    #[error("the API server does not answer, and the container has no environment of an earlier start")]
    NoEnvironment,
    #[error(transparent)]
    Shim(#[from] crate::shim::ShimError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Api(#[from] pintle_client::Error),
    #[error(transparent)]
    Image(#[from] crate::images::ImageError),
    #[error("hostPath type check failed: {path} is not {expected}")]
    HostPath { path: String, expected: &'static str },
    #[error("cannot read the seccomp profile {path}")]
    Seccomp { path: String, source: serde_json::Error },
    #[error("{0}")]
    Hook(String),
}

/// An error and its causes in one line, as events and statuses show it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        out.push_str(": ");
        out.push_str(&inner.to_string());
        cause = inner.source();
    }
    out
}
