//! CertificateSubjectRestriction: nobody asks for a certificate that would make them a member of system:masters, whoever
//! might approve it. The signer refuses more than that; this is said to who asks, at once.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pintle_api::status;
use pintle_control_plan::authz::MASTERS;

use super::{Plugin, Review};
use crate::pki;
use crate::serve::answer::Failure;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateSubject;

impl Plugin for CertificateSubject {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if !review.creates("certificates.k8s.io", "certificatesigningrequests") {
            return Ok(());
        }
        let about = review.call.kind.about(review.name);
        let object = review.object.as_ref().and_then(|object| object.downcast_ref::<CertificateSigningRequest>());
        let Some(request) = object.filter(|request| request.spec.signer_name == SIGNER) else { return Ok(()) };
        // One that cannot be read is refused by the signer, which says why.
        let facts = std::str::from_utf8(&request.spec.request.0).ok().and_then(|pem| pki::csr_facts(pem).ok());
        if facts.is_some_and(|facts| facts.organizations.iter().any(|group| group == MASTERS)) {
            let why = format!("use of {SIGNER} signer with {MASTERS} group is not allowed");
            return Err(status::forbidden(about, &why).into());
        }
        Ok(())
    }
}
