//! Certificates obtained earlier: whether they may be used again, and when they want renewal.

use super::Joining;
use anyhow::{Context as _, Result};
use pintle_client::{Config, Identity, Kubeconfig, Trust};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The life of a certificate, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before_s: u64,
    not_after_s: u64,
}

/// Unix time in seconds.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Validity {
    /// Of the first certificate of a PEM text.
    pub fn of(pem: &str) -> Result<Self> {
        Ok(facts(pem)?.1)
    }

    fn renewal_s(self) -> u64 {
        self.not_before_s + self.not_after_s.saturating_sub(self.not_before_s) / 3 * 2
    }

    /// How long to wait before renewing.
    pub fn until_renewal(self, now_s: u64) -> Duration {
        Duration::from_secs(self.renewal_s().saturating_sub(now_s))
    }

    fn is_usable(self, now_s: u64) -> bool {
        now_s < self.not_after_s
    }
}

/// The configuration in `path`, if its certificate is for `common_name` and valid, and it trusts the authority that the
/// token names. Anything else is as good as nothing: joining again replaces it.
pub(super) fn usable(path: &Path, joining: &Joining, common_name: &str) -> Result<Option<(Config, Validity)>> {
    if !path.try_exists().with_context(|| format!("cannot look for {}", path.display()))? {
        return Ok(None);
    }
    let Ok(mut config) = Kubeconfig::read(path).and_then(|k| k.config(path)) else { return Ok(None) };
    let (Identity::Cert { cert_pem, .. }, Trust::Ca(ca)) = (&config.identity, &config.trust) else { return Ok(None) };
    let (Ok((name, validity)), Ok(pin)) = (facts(cert_pem), spki_sha256(ca)) else { return Ok(None) };
    let same_cluster = joining.token.as_ref().is_none_or(|t| t.ca_hash == pin);
    if name != common_name || !validity.is_usable(now_s()) || !same_cluster {
        return Ok(None);
    }
    // The server may have moved: its identity is its authority, not its address.
    config.server.clone_from(&joining.server);
    Ok(Some((config, validity)))
}

/// Common name and validity.
fn facts(pem: &str) -> Result<(String, Validity)> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("not PEM")?;
    let certificate = block.parse_x509().context("not a certificate")?;
    let name = certificate.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or_default();
    let seconds = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
    let validity = certificate.validity();
    let validity = Validity { not_before_s: seconds(validity.not_before), not_after_s: seconds(validity.not_after) };
    Ok((name.to_owned(), validity))
}

/// The pin of an authority: lower-case hex.
fn spki_sha256(pem: &str) -> Result<String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("not PEM")?;
    let certificate = block.parse_x509().context("not a certificate")?;
    Ok(hex::encode(Sha256::digest(certificate.public_key().raw)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::flags::Dirs;
    use pintle_control::pki::{BootstrapToken, JoinToken};
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn self_signed(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn renewal_is_due_after_two_thirds_of_a_certificate_s_life() {
        let validity = Validity { not_before_s: 1000, not_after_s: 1300 };
        assert_eq!(validity.until_renewal(1000), Duration::from_secs(200));
        assert_eq!(validity.until_renewal(1250), Duration::ZERO);
        assert!(validity.is_usable(1299) && !validity.is_usable(1300));
    }

    #[test]
    fn a_kept_certificate_is_used_only_for_the_same_node_of_the_same_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.kubeconfig");
        let ((ca, _), (cert_pem, key_pem)) = (self_signed("ca"), self_signed("system:node:a"));
        let identity = Identity::Cert { cert_pem, key_pem };
        Kubeconfig::new("pintle", "u", "https://old:6443", &ca, &identity).write(&path).unwrap();
        let dirs = Dirs { state_dir: dir.path().into(), run_dir: dir.path().into() };
        let bootstrap: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
        let token = JoinToken { ca_hash: spki_sha256(&ca).unwrap(), bootstrap };
        let same = Joining::new(&dirs, "https://new:6443/", Some(token.clone()), "a".into());
        let (config, _) = usable(&path, &same, "system:node:a").unwrap().unwrap();
        assert_eq!(config.server, "https://new:6443");
        assert!(usable(&path, &same, "system:node:b").unwrap().is_none(), "the node was renamed");
        let other = JoinToken { ca_hash: "0".repeat(64), ..token };
        let other = Joining::new(&dirs, "https://new:6443", Some(other), "a".into());
        assert!(usable(&path, &other, "system:node:a").unwrap().is_none(), "the token names another cluster");
    }
}
