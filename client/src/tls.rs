//! TLS towards the API server: an authority we hold, or one we know only by the digest of its key.

use crate::{Config, Error, Identity, Trust};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, OnceLock};

/// A rustls configuration and, for a pinned authority, the place where its certificate will appear.
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) pinned: Arc<OnceLock<CertificateDer<'static>>>,
}

pub(crate) fn client_config(config: &Config) -> Result<Tls, Error> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Arc::new(OnceLock::new());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { what: "TLS versions".into(), source })?;
    let builder = match &config.trust {
        Trust::Ca(pem) => builder.with_root_certificates(roots(pem)?),
        Trust::SpkiPin(spki_sha256) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(PinnedAuthority {
                spki_sha256: *spki_sha256,
                seen: pinned.clone(),
                provider,
            }))
        }
    };
    let mut tls = match &config.identity {
        Identity::Cert { cert_pem, key_pem } => {
            let (chain, key) = identity(cert_pem, key_pem)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| Error::Tls { what: "the client certificate".into(), source })?
        }
        Identity::None | Identity::Token(_) | Identity::TokenFile(_) => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(tls), pinned })
}

fn roots(pem: &str) -> Result<RootCertStore, Error> {
    let bad = |why: String| Error::Config { what: "the certificate authority".into(), why };
    let mut store = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let cert = cert.map_err(|e| bad(e.to_string()))?;
        store.add(cert).map_err(|source| Error::Tls { what: "the certificate authority".into(), source })?;
    }
    if store.is_empty() { Err(bad("no certificate in the PEM text".into())) } else { Ok(store) }
}

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(cert_pem: &str, key_pem: &str) -> Result<Chain, Error> {
    let bad = |why: String| Error::Config { what: "the client certificate".into(), why };
    let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| bad(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| bad(format!("private key: {e}")))?;
    if chain.is_empty() { Err(bad("no certificate in the PEM text".into())) } else { Ok((chain, key)) }
}

/// Believes a chain whose last certificate has the expected public key, and whose first is issued by it.
#[derive(Debug)]
struct PinnedAuthority {
    spki_sha256: [u8; 32],
    seen: Arc<OnceLock<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl PinnedAuthority {
    fn authority<'a>(
        &self,
        chain: &'a [CertificateDer<'a>],
    ) -> Result<(&'a CertificateDer<'a>, &'a [CertificateDer<'a>]), rustls::Error> {
        let general = |why: &str| rustls::Error::General(why.to_owned());
        let (authority, between) =
            chain.split_last().ok_or_else(|| general("the server did not send its certificate authority"))?;
        let spki = rustls::server::ParsedCertificate::try_from(authority)?.subject_public_key_info();
        if Sha256::digest(spki.as_ref()).as_slice() == self.spki_sha256 {
            Ok((authority, between))
        } else {
            Err(general("the server's certificate authority is not the one the token names"))
        }
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (authority, between) = self.authority(intermediates)?;
        let authority = authority.clone().into_owned();
        let mut store = RootCertStore::empty();
        store.add(authority.clone())?;
        let verified = WebPkiServerVerifier::builder_with_provider(Arc::new(store), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, between, server_name, ocsp, now)?;
        // Already set when a second connection sees the same authority, which is what we want.
        let _already_known = self.seen.set(authority);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
