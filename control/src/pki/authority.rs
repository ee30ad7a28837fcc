//! The certificate authority: issues and signs. Owns: what a certificate of ours looks like. Does not own: files beyond
//! its own pair, nor who deserves one.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

use super::subject::with_subject;
use super::{PkiError, as_address, files};

/// Clocks of joining machines may be behind ours by this much.
const BACKDATE_S: u64 = 300;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// TLS client authentication.
    Client,
    /// TLS server authentication.
    Server,
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// User name, or the server's.
    pub common_name: String,
    /// Groups.
    pub organizations: Vec<String>,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// What for.
    pub purpose: Purpose,
}

impl Subject {
    /// A user with groups.
    pub fn client(user: &str, groups: &[&str]) -> Subject {
        Subject {
            common_name: user.to_owned(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            names: Vec::new(),
            purpose: Purpose::Client,
        }
    }
    /// A server under several names.
    pub fn server(name: &str, names: Vec<String>) -> Subject {
        Subject { common_name: name.to_owned(), organizations: Vec::new(), names, purpose: Purpose::Server }
    }
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Certificate {
    /// `-----BEGIN CERTIFICATE-----`.
    pub certificate: String,
    /// `-----BEGIN PRIVATE KEY-----`.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Certificate {
    /// When it ends, Unix time; 0 if it cannot be read.
    pub(super) fn end_s(&self) -> u64 {
        let Ok(der) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else { return 0 };
        let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return 0 };
        u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0)
    }

    /// Whether this pair was issued by `authority` for `subject` and has more than `left_s` seconds to live.
    pub(super) fn serves(&self, authority: &Authority, subject: &Subject, now_s: u64, left_s: u64) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else { return false };
        let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
        let Ok(key) = KeyPair::from_pem(&self.key) else { return false };
        let Some(facts) = facts(&parsed) else { return false };
        let names_covered = subject.names.iter().all(|name| facts.names.contains(name));
        parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && parsed.verify_signature(authority.parsed_key().as_ref()).is_ok()
            && u64::try_from(parsed.validity().not_after.timestamp()).is_ok_and(|end_s| end_s > now_s + left_s)
            && facts.common_name == subject.common_name
            && facts.organizations == subject.organizations
            && names_covered
    }

    /// For rustls.
    ///
    /// # Errors
    /// [`PkiError::Request`] if one of the two does not parse.
    pub fn der(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), PkiError> {
        let wrong = |what: &str| PkiError::Request { why: format!("the {what} is not valid PEM") };
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|_| wrong("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| wrong("key"))?;
        Ok((certificate, key))
    }
}

/// The cluster's authority.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.pem).finish_non_exhaustive()
    }
}

impl Authority {
    /// Loads `ca.crt` and `ca.key` from a directory.
    ///
    /// # Errors
    /// [`PkiError`], also if one of them is missing.
    pub fn load(directory: &Path) -> Result<Authority, PkiError> {
        let (cert_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        let pem = required(&cert_path)?;
        let key = KeyPair::from_pem(&required(&key_path)?).map_err(|source| PkiError::Malformed {
            path: key_path,
            what: "private key",
            source,
        })?;
        Authority::new(pem, key).map_err(|source| PkiError::Malformed { path: cert_path, what: "certificate", source })
    }

    pub(super) fn ensure(directory: &Path, now_s: u64, life_s: u64) -> Result<Authority, PkiError> {
        let (cert_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        if cert_path.exists() {
            return Authority::load(directory);
        }
        let made = make_authority(now_s, life_s).map_err(|source| PkiError::Issue {
            verb: "make",
            subject: "pintle-ca".to_owned(),
            source,
        })?;
        // The certificate last: its existence says that the pair is complete.
        files::write_atomic(&key_path, made.key.as_bytes(), 0o600)?;
        files::write_atomic(&cert_path, made.certificate.as_bytes(), 0o644)?;
        Authority::load(directory)
    }

    fn new(pem: String, key: KeyPair) -> Result<Authority, rcgen::Error> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Authority { pem, der, issuer })
    }

    /// PEM, as handed to clients.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// DER.
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// Lower-case hex of SHA-256 over the public key's SubjectPublicKeyInfo: what `K10…` pins.
    pub fn spki_sha256(&self) -> String {
        // Parsed when the authority was made.
        let spki = X509Certificate::from_der(&self.der).map(|(_, parsed)| parsed.public_key().raw.to_vec());
        hex::encode(Sha256::digest(spki.unwrap_or_default()))
    }

    fn parsed_key(&self) -> Option<x509_parser::x509::SubjectPublicKeyInfo<'_>> {
        X509Certificate::from_der(&self.der).ok().map(|(_, parsed)| parsed.tbs_certificate.subject_pki)
    }

    /// A new key and a certificate for it.
    ///
    /// # Errors
    /// [`PkiError::Issue`].
    pub fn issue(&self, subject: &Subject, now_s: u64, life_s: u64) -> Result<Certificate, PkiError> {
        let error = |source| PkiError::Issue { verb: "make", subject: subject.common_name.clone(), source };
        let params = leaf_params(subject, now_s, life_s).map_err(error)?;
        let key = KeyPair::generate().map_err(error)?;
        let made = params.signed_by(&key, &self.issuer).map_err(error)?;
        Ok(Certificate { certificate: self.whole(&made, subject).map_err(error)?, key: key.serialize_pem() })
    }

    /// The certificate as PEM, with every organization.
    fn whole(&self, made: &rcgen::Certificate, subject: &Subject) -> Result<String, rcgen::Error> {
        if subject.organizations.len() < 2 {
            return Ok(made.pem());
        }
        let der = with_subject(made.der(), subject, self.issuer.key())?;
        let der = der.ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok(pem_text("CERTIFICATE", &der))
    }

    /// Signs a PEM certificate signing request: its subject, names and key, for `purpose` and nothing else it asks.
    ///
    /// # Errors
    /// [`PkiError::Request`] if it is malformed or its signature does not hold.
    pub fn sign_csr(&self, pem: &str, purpose: Purpose, now_s: u64, life_s: u64) -> Result<String, PkiError> {
        let request = |error: rcgen::Error| PkiError::Request { why: error.to_string() };
        let facts = csr_facts(pem)?;
        let mut csr = CertificateSigningRequestParams::from_pem(pem).map_err(request)?;
        let subject =
            Subject { common_name: facts.common_name, organizations: facts.organizations, names: facts.names, purpose };
        csr.params = leaf_params(&subject, now_s, life_s).map_err(request)?;
        let made = csr.signed_by(&self.issuer).map_err(request)?;
        self.whole(&made, &subject).map_err(request)
    }
}

/// What a certificate signing request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CsrFacts {
    /// Subject CN.
    pub common_name: String,
    /// Subject O, in order.
    pub organizations: Vec<String>,
    /// DNS names and addresses, in text.
    pub names: Vec<String>,
    /// Whether other subject alternative names are asked for: e-mail addresses, URIs.
    pub other_names: bool,
}

/// Reads a PEM certificate signing request after verifying its signature.
///
/// # Errors
/// [`PkiError::Request`].
pub fn csr_facts(pem: &str) -> Result<CsrFacts, PkiError> {
    let wrong = |why: &str| PkiError::Request { why: why.to_owned() };
    // rcgen checks the signature and reads the alternative names; of several organizations it keeps the last.
    let csr = CertificateSigningRequestParams::from_pem(pem).map_err(|error| wrong(&error.to_string()))?;
    let mut facts = CsrFacts::default();
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| wrong("it is not PEM"))?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&block.contents).map_err(|_| wrong("it is not a PKCS #10 request"))?;
    for part in parsed.certification_request_info.subject.iter_attributes() {
        let text = part.as_str().map_err(|_| wrong("the subject is in an unusual character set"))?.to_owned();
        if *part.attr_type() == x509_parser::oid_registry::OID_X509_COMMON_NAME {
            if !facts.common_name.is_empty() {
                return Err(wrong("the subject has several common names"));
            }
            facts.common_name = text;
        } else if *part.attr_type() == x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME {
            facts.organizations.push(text);
        } else {
            return Err(wrong("the subject has parts other than CN and O"));
        }
    }
    for name in &csr.params.subject_alt_names {
        match name {
            SanType::DnsName(name) => facts.names.push(name.to_string()),
            SanType::IpAddress(address) => facts.names.push(address.to_string()),
            _ => facts.other_names = true,
        }
    }
    Ok(facts)
}

/// Reads the subject of a verified client certificate: (CN, O…).
pub fn subject_of(der: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let facts = facts(&parsed)?;
    Some((facts.common_name, facts.organizations))
}

fn facts(parsed: &X509Certificate<'_>) -> Option<CsrFacts> {
    let subject = parsed.subject();
    let common_name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations =
        subject.iter_organization().filter_map(|o| o.as_str().ok()).map(ToOwned::to_owned).collect::<Vec<_>>();
    let mut names = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                x509_parser::prelude::GeneralName::DNSName(name) => names.push((*name).to_owned()),
                x509_parser::prelude::GeneralName::IPAddress(bytes) => names.extend(address_text(bytes)),
                _ => {}
            }
        }
    }
    Some(CsrFacts { common_name, organizations, names, other_names: false })
}

fn pem_text(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

fn address_text(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

fn required(path: &Path) -> Result<String, PkiError> {
    files::read_text(path)?.ok_or_else(|| PkiError::File {
        verb: "read",
        path: path.to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound),
    })
}

fn set_validity(params: &mut CertificateParams, now_s: u64, life_s: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(BACKDATE_S));
    params.not_after = epoch + Duration::from_secs(now_s + life_s);
}

fn distinguished_name(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value per type; where there are more, `subject` completes the certificate.
    if let Some(organization) = subject.organizations.first() {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, subject.common_name.as_str());
    name
}

fn leaf_params(subject: &Subject, now_s: u64, life_s: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    set_validity(&mut params, now_s, life_s);
    params.distinguished_name = distinguished_name(subject);
    for name in &subject.names {
        params.subject_alt_names.push(match as_address(name) {
            Some(address) => SanType::IpAddress(address),
            None => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match subject.purpose {
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn make_authority(now_s: u64, life_s: u64) -> Result<Certificate, rcgen::Error> {
    let mut params = CertificateParams::default();
    set_validity(&mut params, now_s, life_s);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "pintle-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
}
