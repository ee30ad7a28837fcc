//! CertificateSigningRequest: asks a signer for a certificate. Who asks is filled in by the server.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pintle_api::field::{FieldErrors, Path};
use pintle_api::{name, time};
use serde_json::Value;

use super::common;
use crate::kind::{Column, Kind, NameRule, Names, Scope, Subresource};

const EXPIRATION_S_MIN: i32 = 600;
const PEM_BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";

/// See the module.
pub struct CertificateSigningRequests;

impl Kind for CertificateSigningRequests {
    type Object = CertificateSigningRequest;
    const NAMES: Names = Names { singular: "certificatesigningrequest", short: &["csr"], categories: &[] };
    const SCOPE: Scope = Scope::Cluster;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Approval];
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Who is to sign."),
        Column::text("Requestor", "Who asked."),
        Column::text("RequestedDuration", "How long the certificate should be valid."),
        Column::text("Condition", "Pending, Approved, Denied, Failed; Issued once there is a certificate."),
    ];
    const FIELDS: &'static [&'static str] = &["spec.signerName"];

    fn prepare_create(object: &mut CertificateSigningRequest) {
        object.status = None;
    }

    fn prepare_update(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
    }

    fn prepare_status(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &CertificateSigningRequest, errors: &mut FieldErrors) {
        let (spec, path) = (&object.spec, Path::new("spec"));
        if !spec.request.0.trim_ascii_start().starts_with(PEM_BEGIN) {
            let why = "PEM block type must be CERTIFICATE REQUEST";
            errors.invalid(&path.child("request"), pintle_api::field::json(&spec.request), why);
        }
        if spec.usages.as_ref().is_none_or(Vec::is_empty) {
            errors.required(&path.child("usages"), "");
        }
        signer(&spec.signer_name, &path.child("signerName"), errors);
        if let Some(duration_s) = spec.expiration_seconds.filter(|duration_s| *duration_s < EXPIRATION_S_MIN) {
            let why = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), duration_s, why);
        }
    }

    fn validate_status(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errors: &mut FieldErrors) {
        let certificate = |csr: &CertificateSigningRequest| csr.status.as_ref().and_then(|s| s.certificate.clone());
        if certificate(old).is_some() && certificate(new) != certificate(old) {
            errors.forbidden(
                &Path::new("status").child("certificate"),
                "updates may not set or change an existing certificate",
            );
        }
    }

    fn row(object: &CertificateSigningRequest, now: Timestamp) -> Vec<Value> {
        let duration = object.spec.expiration_seconds.map(|s| time::human_duration_s(i64::from(s)));
        vec![
            common::name_cell(&object.metadata),
            common::age(&object.metadata, now),
            object.spec.signer_name.clone().into(),
            object.spec.username.clone().unwrap_or_default().into(),
            common::or_none(duration.as_deref()),
            condition(object).into(),
        ]
    }

    fn fields(object: &CertificateSigningRequest) -> Vec<String> {
        vec![object.spec.signer_name.clone()]
    }
}

/// `example.com/signer-name`.
fn signer(text: &str, path: &Path, errors: &mut FieldErrors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let fine = match text.split_once('/') {
        Some((domain, rest)) => {
            domain.contains('.')
                && name::dns1123_subdomain(domain).is_empty()
                && !rest.is_empty()
                && !rest.contains('/')
        }
        None => false,
    };
    if !fine {
        let why = "must be a fully qualified domain and path of the form \"example.com/signer-name\"";
        errors.invalid(path, text, why);
    }
}

fn condition(csr: &CertificateSigningRequest) -> String {
    let status = csr.status.as_ref();
    let has = |kind: &str| status.is_some_and(|s| s.conditions.iter().flatten().any(|c| c.type_ == kind));
    let mut words = Vec::new();
    if has("Denied") {
        words.push("Denied");
    } else if has("Approved") {
        words.push("Approved");
    } else {
        words.push("Pending");
    }
    if has("Failed") {
        words.push("Failed");
    }
    if status.is_some_and(|status| status.certificate.is_some()) {
        words.push("Issued");
    }
    words.join(",")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn requests_are_checked() {
        let csr: CertificateSigningRequest =
            serde_json::from_str(r#"{"spec":{"request":"eA==","signerName":"me","expirationSeconds":5}}"#).unwrap();
        let mut errors = FieldErrors::new();
        CertificateSigningRequests::validate(&csr, &mut errors);
        insta::assert_snapshot!(errors.summary(), @r#"[spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST, spec.usages: Required value, spec.signerName: Invalid value: "me": must be a fully qualified domain and path of the form "example.com/signer-name", spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)]"#);
    }
}
