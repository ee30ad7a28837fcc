//! NamespaceLifecycle: nothing is created in a namespace that is missing or on its way out, and the namespaces every
//! cluster has are not deleted.

use k8s_openapi::api::core::v1::Namespace;
use pintle_api::status::{self, About};
use pintle_control_plan::kind::Scope;

use super::{Plugin, Review};
use crate::serve::answer::Failure;

/// Namespaces that may not be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn admit(&self, review: &mut Review<'_>) -> Result<(), Failure> {
        let kind = review.call.kind;
        let deletes = review.object.is_none();
        if kind.group().is_empty() && kind.plural() == "namespaces" {
            if deletes && IMMORTAL.contains(&review.name) {
                return Err(status::forbidden(kind.about(review.name), "this namespace may not be deleted").into());
            }
            return Ok(());
        }
        if kind.scope() == Scope::Cluster || review.old.is_some() {
            return Ok(());
        }
        let namespace = review.call.path.namespace.as_str();
        let found: Option<Namespace> = review.find("v1", "Namespace", "", namespace);
        match decide(found.as_ref()) {
            Verdict::Welcome => Ok(()),
            Verdict::Missing => Err(status::not_found(About::new("", "namespaces", namespace)).into()),
            Verdict::Terminating => {
                let why =
                    format!("unable to create new content in namespace {namespace} because it is being terminated");
                let mut status = status::forbidden(kind.about(review.name), &why);
                if let Some(details) = &mut status.details {
                    details.causes = Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause {
                        reason: Some("NamespaceTerminating".to_owned()),
                        message: Some(format!("namespace {namespace} is being terminated")),
                        field: Some("metadata.namespace".to_owned()),
                    }]);
                }
                Err(status.into())
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Welcome,
    Missing,
    Terminating,
}

fn decide(namespace: Option<&Namespace>) -> Verdict {
    match namespace {
        None => Verdict::Missing,
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => Verdict::Terminating,
        Some(_) => Verdict::Welcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    #[test]
    fn only_a_living_namespace_takes_new_objects() {
        let living = Namespace::default();
        let deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        let metadata = ObjectMeta { deletion_timestamp, ..ObjectMeta::default() };
        let dying = Namespace { metadata, ..Namespace::default() };
        assert_eq!(decide(Some(&living)), Verdict::Welcome);
        assert_eq!(decide(Some(&dying)), Verdict::Terminating);
        assert_eq!(decide(None), Verdict::Missing);
    }
}
