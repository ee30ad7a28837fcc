//! One certificate asked for by a CertificateSigningRequest.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Csr, CertificateSigningRequestSpec as Spec, CertificateSigningRequestStatus as Status,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_client::{Cache, Change, Client, Error};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use std::time::Duration;

/// A signed request is answered at once; one that waits longer waits for a person, or for nobody.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What to ask for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `spec.signerName`.
    pub signer: &'static str,
    /// Subject CN.
    pub common_name: String,
    /// Subject O.
    pub organization: Option<&'static str>,
    /// `spec.usages`.
    pub usages: &'static [&'static str],
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Granted {
    /// The certificate.
    pub cert_pem: String,
    /// The key, made here.
    pub key_pem: String,
}

impl Ask {
    /// The certificate by which a node is `system:node:<name>`.
    pub fn node_client(node: &str) -> Self {
        Self {
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            common_name: format!("system:node:{node}"),
            organization: Some("system:nodes"),
            usages: &["digital signature", "client auth"],
        }
    }

    /// The certificate by which the proxy of a node may read Services, EndpointSlices and Nodes.
    pub fn proxy_client() -> Self {
        Self {
            signer: "pintle.dev/kube-proxy-client",
            common_name: "system:kube-proxy".to_owned(),
            organization: None,
            usages: &["digital signature", "client auth"],
        }
    }

    /// Asks, and waits for the answer.
    pub async fn send(&self, client: &Client) -> Result<Granted, Error> {
        let (request_pem, key_pem) = self.prepare()?;
        let made = client.create(&self.object(&request_pem)).await?;
        let name = made.metadata.name.unwrap_or_default();
        let cert_pem = tokio::time::timeout(ANSWER_LIMIT, answer(client, &name))
            .await
            .map_err(|_| refused(&name, "nobody approved it within 60 s: is the controller manager running?"))??;
        Ok(Granted { cert_pem, key_pem })
    }

    fn prepare(&self) -> Result<(String, String), Error> {
        let failed = |e: rcgen::Error| Error::Config { what: "a certificate request".into(), why: e.to_string() };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, self.common_name.as_str());
        if let Some(organization) = self.organization {
            name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name = name;
        let request = params.serialize_request(&key).and_then(|r| r.pem()).map_err(failed)?;
        Ok((request, key.serialize_pem()))
    }

    fn object(&self, request_pem: &str) -> Csr {
        Csr {
            metadata: ObjectMeta { generate_name: Some("pintle-".into()), ..ObjectMeta::default() },
            spec: Spec {
                request: ByteString(request_pem.as_bytes().to_vec()),
                signer_name: self.signer.to_owned(),
                usages: Some(self.usages.iter().map(|u| (*u).to_owned()).collect()),
                ..Spec::default()
            },
            status: None,
        }
    }
}

/// Waits for the certificate or the refusal.
async fn answer(client: &Client, name: &str) -> Result<String, Error> {
    let cache = Cache::<Csr>::builder(client).fields(&format!("metadata.name={name}")).start();
    let mut changes = cache.subscribe();
    loop {
        match changes.next().await {
            Change::Applied { new, .. } => {
                if let Some(verdict) = new.status.as_ref().and_then(|s| verdict(name, s)) {
                    return verdict;
                }
            }
            Change::Deleted { .. } => return Err(refused(name, "somebody deleted it")),
            Change::Resync => {}
        }
    }
}

fn verdict(name: &str, status: &Status) -> Option<Result<String, Error>> {
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "Denied" || condition.type_ == "Failed" {
            let why = condition.message.clone().or(condition.reason.clone()).unwrap_or_default();
            return Some(Err(refused(name, &format!("{}: {why}", condition.type_))));
        }
    }
    let bytes = status.certificate.as_ref().filter(|c| !c.0.is_empty())?;
    Some(String::from_utf8(bytes.0.clone()).map_err(|_| refused(name, "the certificate is not PEM")))
}

fn refused(name: &str, why: &str) -> Error {
    Error::Config { what: format!("CertificateSigningRequest {name}"), why: why.to_owned() }
}
