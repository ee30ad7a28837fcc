//! Who may ask: the API server's client certificate, or a member of system:masters.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// Whether the first of the certificates, which TLS verified, names somebody who may ask.
pub(super) fn may_ask(certificates: Option<&[CertificateDer<'_>]>) -> bool {
    let Some(first) = certificates.and_then(|c| c.first()) else { return false };
    let Ok((_, cert)) = X509Certificate::from_der(first) else { return false };
    let subject = cert.subject();
    let is = |value: &x509_parser::x509::AttributeTypeAndValue<'_>, wanted: &str| value.as_str() == Ok(wanted);
    subject.iter_common_name().any(|v| is(v, API_SERVER)) || subject.iter_organization().any(|v| is(v, MASTERS))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn certificate(cn: &str, organization: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, cn);
        name.push(DnType::OrganizationName, organization);
        params.distinguished_name = name;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn only_the_api_server_and_masters_get_in() {
        let table = [
            ("kube-apiserver-kubelet-client", "x", true),
            ("system:admin", "system:masters", true),
            ("system:node:n1", "system:nodes", false),
        ];
        for (cn, organization, allowed) in table {
            assert_eq!(may_ask(Some(&[certificate(cn, organization)])), allowed, "{cn}");
        }
        assert!(!may_ask(None));
    }
}
