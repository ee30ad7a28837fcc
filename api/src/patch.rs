//! Patches: strategic merge, JSON merge (RFC 7386), JSON patch (RFC 6902).
//!
//! Owns: applying them to JSON, and what is wrong with them. Does not own: server-side apply (`apply`),
//! typing the result.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use serde_json::Value;

use crate::status;

pub mod merge_keys;
pub mod strategic;

/// Most operations a JSON patch may have.
pub const JSON_PATCH_OPS_MAX: usize = 10_000;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not what it says it is.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not apply to this object.
    #[error("{0}")]
    DoesNotApply(String),
    /// Too many operations.
    #[error("The allowed maximum operations in a JSON patch is {JSON_PATCH_OPS_MAX}, got {0}")]
    TooManyOperations(usize),
}

impl PatchError {
    /// The answer to give.
    pub fn to_status(&self) -> Box<Status> {
        match self {
            PatchError::Malformed(why) => status::bad_request(why.clone()),
            PatchError::TooManyOperations(_) => status::too_large(self.to_string()),
            PatchError::DoesNotApply(why) => {
                let cause = StatusCause {
                    message: Some(why.clone()),
                    reason: Some("UnexpectedServerResponse".to_owned()),
                    ..StatusCause::default()
                };
                Box::new(Status {
                    code: Some(422),
                    message: Some("the server rejected our request due to an error in our request".to_owned()),
                    reason: Some("Invalid".to_owned()),
                    status: Some("Failure".to_owned()),
                    details: Some(StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() }),
                    ..Status::default()
                })
            }
        }
    }
}

/// JSON merge patch: objects merge, null removes, everything else replaces.
pub fn merge(original: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("a merge patch must be an object".to_owned()));
    }
    json_patch::merge(original, patch);
    Ok(())
}

/// JSON patch: a list of operations, all or none. `original` is unchanged on error.
pub fn json(original: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().ok_or_else(|| {
        PatchError::Malformed("error decoding patch: a JSON patch must be a list of operations".to_owned())
    })?;
    if operations.len() > JSON_PATCH_OPS_MAX {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    json_patch::patch(original, &patch).map_err(|error| PatchError::DoesNotApply(json_patch_error(&error)))
}

fn json_patch_error(error: &json_patch::PatchError) -> String {
    match &error.kind {
        json_patch::PatchErrorKind::TestFailed => format!("testing path {} failed", error.path),
        kind => format!("operation {} at {:?}: {kind}", error.operation, error.path.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_json_patch_applies_as_a_whole_or_not_at_all() {
        let mut value = json!({"a": {"b": [1, 2]}});
        json(&mut value, &json!([{"op": "add", "path": "/a/b/-", "value": 3}, {"op": "remove", "path": "/a/b/0"}]))
            .unwrap();
        assert_eq!(value, json!({"a": {"b": [2, 3]}}));
        let before = value.clone();
        let error =
            json(&mut value, &json!([{"op": "remove", "path": "/a/b"}, {"op": "test", "path": "/a", "value": 1}]))
                .unwrap_err();
        assert_eq!(value, before);
        assert_eq!(error.to_string(), "testing path /a failed");
        assert_eq!(error.to_status().code, Some(422));
        assert_eq!(json(&mut value, &json!({})).unwrap_err().to_status().code, Some(400));
    }

    #[test]
    fn a_merge_patch_removes_with_null() {
        let mut value = json!({"a": 1, "b": {"c": 1, "d": 2}, "l": [1, 2]});
        merge(&mut value, &json!({"a": null, "b": {"c": 3}, "l": [9]})).unwrap();
        assert_eq!(value, json!({"b": {"c": 3, "d": 2}, "l": [9]}));
        assert!(merge(&mut value, &json!([])).is_err());
    }
}
