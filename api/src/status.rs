//! `metav1.Status` for everything the API server answers with instead of an object.
//!
//! Owns: codes, reasons and sentences as Kubernetes clients know them (apimachinery's api/errors). Does not own: when to
//! answer which.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::field::FieldErrors;

/// What an answer is about: `deployments.apps "web"`. Group and name may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct About<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural resource name, e.g. `pods`.
    pub resource: &'a str,
    /// Object name, may be empty.
    pub name: &'a str,
}

impl<'a> About<'a> {
    /// Group, resource and name in one go.
    pub fn new(group: &'a str, resource: &'a str, name: &'a str) -> About<'a> {
        About { group, resource, name }
    }
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }
    fn details(&self) -> StatusDetails {
        StatusDetails {
            group: non_empty(self.group),
            kind: non_empty(self.resource),
            name: non_empty(self.name),
            ..StatusDetails::default()
        }
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn failure(code: i32, reason: &str, message: String, details: Option<StatusDetails>) -> Box<Status> {
    Box::new(Status {
        code: Some(code),
        details,
        message: Some(message),
        reason: non_empty(reason),
        status: Some("Failure".to_owned()),
        ..Status::default()
    })
}

/// 200: what a delete answers.
pub fn success(details: Option<StatusDetails>) -> Box<Status> {
    Box::new(Status { details, status: Some("Success".to_owned()), ..Status::default() })
}

/// What a finished deletion answers: names and uid of the object.
pub fn deleted(about: About<'_>, uid: &str) -> Box<Status> {
    success(Some(StatusDetails { uid: non_empty(uid), ..about.details() }))
}

/// 404 for an object.
pub fn not_found(about: About<'_>) -> Box<Status> {
    let message = format!("{} {:?} not found", about.qualified(), about.name);
    failure(404, "NotFound", message, Some(about.details()))
}

/// 404 for a path that is no resource.
pub fn no_such_path() -> Box<Status> {
    let details = StatusDetails::default();
    failure(404, "NotFound", "the server could not find the requested resource".to_owned(), Some(details))
}

/// 409 on create.
pub fn already_exists(about: About<'_>) -> Box<Status> {
    let message = format!("{} {:?} already exists", about.qualified(), about.name);
    failure(409, "AlreadyExists", message, Some(about.details()))
}

/// 409 on create with generateName, after all tries.
pub fn generate_name_conflict(about: About<'_>) -> Box<Status> {
    let message = format!(
        "{} {:?} already exists, the server was not able to generate a unique name for the object",
        about.qualified(),
        about.name
    );
    failure(409, "AlreadyExists", message, Some(StatusDetails { retry_after_seconds: Some(1), ..about.details() }))
}

/// 409 with a reason of one's own.
pub fn conflict(about: About<'_>, why: &str) -> Box<Status> {
    let message = format!("Operation cannot be fulfilled on {} {:?}: {why}", about.qualified(), about.name);
    failure(409, "Conflict", message, Some(about.details()))
}

/// 409 for an update with an old resourceVersion.
pub fn stale(about: About<'_>) -> Box<Status> {
    conflict(about, "the object has been modified; please apply your changes to the latest version and try again")
}

/// 409 for server-side apply: each cause names an owner (`conflict with "kubectl"`) and a field of theirs.
pub fn apply_conflict(causes: Vec<StatusCause>) -> Box<Status> {
    let field = |cause: &StatusCause| cause.field.clone().unwrap_or_default();
    let owner = |cause: &StatusCause| cause.message.clone().unwrap_or_default();
    let told = match causes.as_slice() {
        [one] => format!("{}: {}", owner(one), field(one)),
        causes => {
            let mut by_owner = std::collections::BTreeMap::<String, Vec<String>>::new();
            for cause in causes {
                let owner = owner(cause).replacen("conflict", "conflicts", 1);
                by_owner.entry(owner).or_default().push(format!("- {}", field(cause)));
            }
            by_owner
                .iter()
                .map(|(owner, fields)| format!("{owner}:\n{}", fields.join("\n")))
                .collect::<Vec<_>>()
                .join("\n")
        }
    };
    let plural = if causes.len() == 1 { "" } else { "s" };
    let message = format!("Apply failed with {} conflict{plural}: {told}", causes.len());
    failure(409, "Conflict", message, Some(StatusDetails { causes: Some(causes), ..StatusDetails::default() }))
}

/// 422 with one cause per complaint. `about.resource` is the *kind* here, e.g. `Pod`, as upstream has it.
pub fn invalid(about: About<'_>, errors: &FieldErrors) -> Box<Status> {
    let causes = errors
        .0
        .iter()
        .map(|error| StatusCause {
            field: non_empty(error.path.as_str()),
            message: Some(error.body()),
            reason: Some(error.reason.cause_type().to_owned()),
        })
        .collect();
    let message = if errors.is_empty() {
        format!("{} {:?} is invalid", about.qualified(), about.name)
    } else {
        format!("{} {:?} is invalid: {}", about.qualified(), about.name, errors.summary())
    };
    failure(422, "Invalid", message, Some(StatusDetails { causes: Some(causes), ..about.details() }))
}

/// 400.
pub fn bad_request(message: impl Into<String>) -> Box<Status> {
    failure(400, "BadRequest", message.into(), None)
}

/// 401.
pub fn unauthorized() -> Box<Status> {
    failure(401, "Unauthorized", "Unauthorized".to_owned(), None)
}

/// 403; `why` e.g. `User "x" cannot list resource "pods" in API group "" in the namespace "y"`.
pub fn forbidden(about: About<'_>, why: &str) -> Box<Status> {
    let message = match (about.resource, about.name) {
        ("", _) => format!("forbidden: {why}"),
        (_, "") => format!("{} is forbidden: {why}", about.qualified()),
        _ => format!("{} {:?} is forbidden: {why}", about.qualified(), about.name),
    };
    failure(403, "Forbidden", message, Some(about.details()))
}

/// 405.
pub fn method_not_allowed(about: About<'_>, verb: &str) -> Box<Status> {
    let message = format!("{verb} is not supported on resources of kind {:?}", about.qualified());
    failure(405, "MethodNotAllowed", message, Some(StatusDetails { name: None, ..about.details() }))
}

/// 406.
pub fn not_acceptable(accepted: &[&str]) -> Box<Status> {
    let message = format!("only the following media types are accepted: {}", accepted.join(", "));
    failure(406, "NotAcceptable", message, None)
}

/// 410: the revision was compacted; list again.
pub fn expired(message: impl Into<String>) -> Box<Status> {
    failure(410, "Expired", message.into(), None)
}

/// 410 for a watch from a compacted revision.
pub fn too_old_resource_version(asked: u64, oldest: u64) -> Box<Status> {
    expired(format!("too old resource version: {asked} ({oldest})"))
}

/// 413.
pub fn too_large(message: impl Into<String>) -> Box<Status> {
    failure(413, "RequestEntityTooLarge", message.into(), None)
}

/// 415.
pub fn unsupported_media_type(accepted: &[&str]) -> Box<Status> {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    failure(415, "UnsupportedMediaType", message, None)
}

/// 429 with a hint when to come back.
pub fn too_many_requests(message: impl Into<String>, retry_after_s: i32) -> Box<Status> {
    let details = StatusDetails { retry_after_seconds: Some(retry_after_s), ..StatusDetails::default() };
    failure(429, "TooManyRequests", message.into(), Some(details))
}

/// 500.
pub fn internal_error(why: impl std::fmt::Display) -> Box<Status> {
    let cause = StatusCause { message: Some(why.to_string()), ..StatusCause::default() };
    let details = StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() };
    failure(500, "InternalError", format!("Internal error occurred: {why}"), Some(details))
}

/// 507 (RFC 4918): the store has no room.
pub fn insufficient_storage(why: impl Into<String>) -> Box<Status> {
    failure(507, "InsufficientStorage", why.into(), None)
}

/// 503.
pub fn service_unavailable(why: impl Into<String>) -> Box<Status> {
    failure(503, "ServiceUnavailable", why.into(), None)
}

/// 504.
pub fn timeout(why: &str, retry_after_s: i32) -> Box<Status> {
    let details = StatusDetails { retry_after_seconds: Some(retry_after_s), ..StatusDetails::default() };
    failure(504, "Timeout", format!("Timeout: {why}"), Some(details))
}

/// 504 for a resourceVersion from the future.
pub fn future_resource_version(asked: u64, current: u64) -> Box<Status> {
    let cause = StatusCause {
        message: Some("Too large resource version".to_owned()),
        reason: Some("ResourceVersionTooLarge".to_owned()),
        ..StatusCause::default()
    };
    let details = StatusDetails { causes: Some(vec![cause]), retry_after_seconds: Some(1), ..StatusDetails::default() };
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    failure(504, "Timeout", message, Some(details))
}

/// The HTTP code of a Status; 500 where it carries none and is a failure.
pub fn http_code(status: &Status) -> u16 {
    match status.code {
        Some(code) => u16::try_from(code).unwrap_or(500),
        None if status.status.as_deref() == Some("Success") => 200,
        None => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn a_422_lists_one_cause_per_field() {
        let mut errors = FieldErrors::new();
        errors.invalid(&Path::new("spec").child("replicas"), -1, "must be greater than or equal to 0");
        let status = invalid(About::new("apps", "Deployment", "web"), &errors);
        insta::assert_snapshot!(serde_json::to_string(&status).expect("status"), @r#"{"apiVersion":"v1","kind":"Status","code":422,"details":{"causes":[{"field":"spec.replicas","message":"Invalid value: -1: must be greater than or equal to 0","reason":"FieldValueInvalid"}],"group":"apps","kind":"Deployment","name":"web"},"message":"Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0","metadata":{},"reason":"Invalid","status":"Failure"}"#);
    }

    #[test]
    fn messages_name_resource_group_and_object() {
        let about = About::new("apps", "deployments", "web");
        let pods = About::new("", "pods", "");
        let texts: Vec<String> = [
            not_found(about),
            already_exists(about),
            stale(about),
            forbidden(pods, "no"),
            method_not_allowed(pods, "PUT"),
            future_resource_version(9, 3),
        ]
        .into_iter()
        .map(|s| format!("{} {} {}", http_code(&s), s.reason.unwrap_or_default(), s.message.unwrap_or_default()))
        .collect();
        insta::assert_snapshot!(texts.join("\n"), @r#"
        404 NotFound deployments.apps "web" not found
        409 AlreadyExists deployments.apps "web" already exists
        409 Conflict Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again
        403 Forbidden pods is forbidden: no
        405 MethodNotAllowed PUT is not supported on resources of kind "pods"
        504 Timeout Timeout: Too large resource version: 9, current: 3
        "#);
    }
}
