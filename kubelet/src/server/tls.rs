//! TLS of the kubelet's API: a certificate that can be replaced while serving, client certificates of the cluster's CA.

use std::sync::{Arc, PoisonError, RwLock};

use pintle_client::{Kubeconfig, Trust};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::bootstrap::Pair;
use crate::config::KubeletConfig;
use crate::error::KubeletError;

/// The certificate in use; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Keys {
    /// Serves with another certificate from the next handshake on.
    pub(super) fn replace(&self, pair: &Pair) -> Result<(), KubeletError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(unusable)?;
        let key = CertifiedKey::from_der(chain.map_err(unusable)?, key, &rustls::crypto::ring::default_provider())
            .map_err(unusable)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
        Ok(())
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Accepts clients with a certificate of the CA in the kubelet's kubeconfig.
pub(super) fn acceptor(config: &KubeletConfig, keys: Keys) -> Result<TlsAcceptor, KubeletError> {
    let client = Kubeconfig::read(&config.kubeconfig)?.config(&config.kubeconfig)?;
    let Trust::Ca(ca) = client.trust else {
        return Err(KubeletError::NoCredentials { kubeconfig: config.kubeconfig.clone() });
    };
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(cert.map_err(unusable)?).map_err(unusable)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.build().map_err(unusable)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(keys));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn unusable(source: impl std::error::Error + Send + Sync + 'static) -> KubeletError {
    KubeletError::Certificate { what: "of the kubelet's API".to_owned(), source: Box::new(source) }
}
