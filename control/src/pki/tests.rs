#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;

use super::*;

const NOW_S: u64 = 1_800_000_000;

fn config(directory: &Path) -> PkiConfig {
    PkiConfig {
        state_dir: directory.to_owned(),
        names: vec!["10.41.0.2".to_owned(), "node-1".to_owned()],
        server_url: "https://10.41.0.2:6443".to_owned(),
        life_s: LEAF_LIFE_S,
    }
}

fn snapshot(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let files = ["kubeconfig", "server/pki/ca.crt", "server/pki/apiserver.crt", "server/pki/sa.key"];
    files.iter().map(|name| ((*name).to_owned(), std::fs::read(directory.join(name)).unwrap())).collect()
}

#[test]
fn a_second_start_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    ensure(&config(directory.path()), NOW_S).unwrap();
    let first = snapshot(directory.path());
    ensure(&config(directory.path()), NOW_S + 86_400).unwrap();
    assert_eq!(snapshot(directory.path()), first);
}

#[test]
fn secrets_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let pki = ensure(&config, NOW_S).unwrap();
    ensure_join_token(&config, &pki.authority, |bytes| bytes.fill(7)).unwrap();
    let secret = [
        "kubeconfig",
        "server/token",
        "server/scheduler.kubeconfig",
        "server/controller-manager.kubeconfig",
        "server/proxy.kubeconfig",
    ];
    let keys = ["ca.key", "apiserver.key", "apiserver-kubelet-client.key", "sa.key"].map(|k| format!("server/pki/{k}"));
    for name in secret.iter().map(|s| (*s).to_owned()).chain(keys) {
        let mode = std::fs::metadata(directory.path().join(&name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}

#[test]
fn certificates_are_renewed_near_their_end_or_when_they_lack_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    ensure(&config, NOW_S).unwrap();
    let first = snapshot(directory.path());
    ensure(&config, NOW_S + 300 * 86_400).unwrap();
    let later = snapshot(directory.path());
    assert_eq!(first[1], later[1], "the authority stays");
    assert_ne!(first[0], later[0], "the administrator's certificate is renewed");
    assert_ne!(first[2], later[2], "the serving certificate is renewed");

    config.names.push("10.9.9.9".to_owned());
    ensure(&config, NOW_S + 300 * 86_400).unwrap();
    let named = snapshot(directory.path());
    assert_eq!(later[0], named[0]);
    assert_ne!(later[2], named[2]);
}

#[test]
fn a_request_is_signed_with_its_own_subject_and_only_the_granted_purpose() {
    let directory = tempfile::tempdir().unwrap();
    let authority = ensure(&config(directory.path()), NOW_S).unwrap().authority;
    let mut params = CertificateParams::new(vec!["10.0.0.7".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, "system:node:n1");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();

    let signed = authority.sign_csr(&csr, Purpose::Server, NOW_S, 3600).unwrap();
    let pair = Certificate { certificate: signed, key: key.serialize_pem() };
    let wanted = Subject {
        common_name: "system:node:n1".to_owned(),
        organizations: vec!["system:nodes".to_owned()],
        names: vec!["10.0.0.7".to_owned()],
        purpose: Purpose::Server,
    };
    assert!(pair.serves(&authority, &wanted, NOW_S, 0));
    assert!(!pair.serves(&authority, &wanted, NOW_S, 3601));
    let der = pair.der().unwrap().0;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!parsed.is_ca());
    assert!(authority.sign_csr("nonsense", Purpose::Client, NOW_S, 1).is_err());
}

/// A request whose subject rcgen cannot write: its certificate is made by the code under test, so the request comes from
/// `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null
/// -subj "/O=team:red/O=team:blue/CN=jane"`.
const TWO_ORGANIZATIONS: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHxMIGYAgEAMDYxETAPBgNVBAoMCHRlYW06cmVkMRIwEAYDVQQKDAl0ZWFtOmJs
dWUxDTALBgNVBAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARAC9zF
bmlSEwEyZF/OIsW7ml68PGohgD/468PYf21uHR1hdLVURbsd0Rhft8D/YHg86B19
97jwPhh+37Erns8IoAAwCgYIKoZIzj0EAwIDSAAwRQIhAMZabN4usOvJ0iQs8nU6
XwCFNZBe7ZUKZE0+L1kd58viAiBByrb6EAQMth6aqa8Bvozmo/fOfT2I09Wk654i
rU4ixg==
-----END CERTIFICATE REQUEST-----
";

#[test]
fn every_organization_of_a_request_is_in_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = ensure(&config(directory.path()), NOW_S).unwrap().authority;
    let facts = csr_facts(TWO_ORGANIZATIONS).unwrap();
    assert_eq!(
        (facts.common_name.as_str(), facts.organizations.as_slice()),
        ("jane", &["team:red".to_owned(), "team:blue".to_owned()][..])
    );
    let signed = authority.sign_csr(TWO_ORGANIZATIONS, Purpose::Client, NOW_S, 3600).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap();
    let der = rustls_pki_types::CertificateDer::from(block.contents);
    assert_eq!(subject_of(&der), Some(("jane".to_owned(), facts.organizations)));
    let client = authority.issue(&Subject::client("bob", &["a", "b", "c"]), NOW_S, 3600).unwrap();
    let groups: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(subject_of(&client.der().unwrap().0), Some(("bob".to_owned(), groups)));
    assert!(client.serves(&authority, &Subject::client("bob", &["a", "b", "c"]), NOW_S, 0), "the signature holds");
    trusts(&authority, &client);
    trusts(&authority, &Certificate { certificate: signed, key: String::new() });
}

/// Panics unless a TLS server that trusts the authority accepts the client certificate.
fn trusts(authority: &Authority, client: &Certificate) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(client.certificate.as_bytes()).unwrap();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW_S));
    verifier.verify_client_cert(&block.contents.into(), &[], now).unwrap();
}

#[test]
fn tokens_verify_only_with_their_own_key_and_untouched() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = directories.each_ref().map(|d| TokenKey::ensure(d.path()).unwrap());
    let claims = json!({"sub": "system:serviceaccount:default:default"});
    let token = ours.sign(&claims).unwrap();
    assert_eq!(ours.verifier().verify(&token), Ok(claims));
    assert_eq!(theirs.verifier().verify(&token), Err(JwtError::Signature));
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[1] = "e30";
    assert_eq!(ours.verifier().verify(&parts.join(".")), Err(JwtError::Signature));
    assert_eq!(ours.verifier().verify("nonsense"), Err(JwtError::Malformed));
    assert_eq!(ours.verifier().jwks()["keys"][0]["x"].as_str().unwrap().len(), 43);
}

#[test]
fn join_tokens_read_back_as_written() {
    let token = JoinToken { ca_hash: "0f".repeat(32), bootstrap: BootstrapToken::generate(|b| b.fill(3)) };
    assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
    assert_eq!(token.bootstrap.to_string(), "dddddd.dddddddddddddddd");
    for wrong in ["", "K10", "K10ab::abcdef.0123456789abcdef", "abcdef.0123456789abcdef"] {
        assert_eq!(wrong.parse::<JoinToken>(), Err(TokenFormatError::Pin), "{wrong}");
    }
    let wrong = format!("K10{}::abcdef.short", "0".repeat(64));
    assert_eq!(wrong.parse::<JoinToken>(), Err(TokenFormatError::Bootstrap));
}
