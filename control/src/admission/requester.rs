//! A CertificateSigningRequest says who asked: the server writes that, not the client. Approval and signing trust it.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{Plugin, Review};
use crate::serve::answer::Failure;

pub(super) struct Requester;

impl Plugin for Requester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        if !review.creates("certificates.k8s.io", "certificatesigningrequests") {
            return Ok(());
        }
        let user = review.call.user.clone();
        let object = review.object.as_mut().and_then(|object| object.downcast_mut::<CertificateSigningRequest>());
        if let Some(request) = object {
            request.spec.username = Some(user.name);
            request.spec.uid = (!user.uid.is_empty()).then_some(user.uid);
            request.spec.groups = Some(user.groups);
            request.spec.extra = (!user.extra.is_empty()).then_some(user.extra);
        }
        Ok(())
    }
}
