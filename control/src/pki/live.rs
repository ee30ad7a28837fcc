//! The API server's own certificates in use: what the next connection gets. Renewal exchanges them under connections
//! that go on.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Pki, PkiError};

/// See the module. Clones share.
#[derive(Clone)]
pub struct Live(Arc<RwLock<Current>>);

struct Current {
    serving: Arc<CertifiedKey>,
    kubelets: Arc<ClientConfig>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Live {
    /// Certificates as loaded.
    ///
    /// # Errors
    /// [`PkiError`] if rustls finds one of them unusable.
    pub fn new(keys: &Pki) -> Result<Live, PkiError> {
        Ok(Live(Arc::new(RwLock::new(Current::new(keys)?))))
    }

    /// Uses these from the next connection on.
    ///
    /// # Errors
    /// As [`Live::new`]; then the old ones stay.
    pub fn replace(&self, keys: &Pki) -> Result<(), PkiError> {
        let current = Current::new(keys)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// TLS towards kubelets.
    pub fn kubelets(&self) -> Arc<ClientConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).kubelets.clone()
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).serving.clone())
    }
}

impl Current {
    fn new(keys: &Pki) -> Result<Current, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Current { serving: serving(keys, &provider)?, kubelets: kubelets(keys, provider)? })
    }
}

fn serving(keys: &Pki, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, PkiError> {
    let (certificate, key) = keys.serving.der()?;
    // The authority too: a machine that joins knows it by its pin only, and must see it to check that.
    let chain = vec![certificate, keys.authority.certificate_der()];
    let unusable = |source| PkiError::Unusable { what: "serving certificate", source };
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(unusable)
}

fn kubelets(keys: &Pki, provider: Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, PkiError> {
    let unusable = |source| PkiError::Unusable { what: "client certificate for kubelets", source };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(keys.authority.certificate_der()).map_err(unusable)?;
    let (certificate, key) = keys.kubelet_client.der()?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(unusable)?;
    Ok(Arc::new(config))
}
