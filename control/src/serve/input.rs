//! A request's body as JSON. Owns: media types, sizes, YAML and protobuf to JSON. Does not own: what the JSON means.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use pintle_api::status;

use super::answer::Failure;
use super::proto;

/// Upstream's limit for request bodies.
const BODY_BYTES_MAX: usize = 3 << 20;

const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The whole body.
///
/// # Errors
/// 413 if it is too large, 400 if the client broke off.
pub async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(status::too_large(format!("the request is larger than {BODY_BYTES_MAX} bytes")).into())
        }
        Err(error) => Err(status::bad_request(format!("cannot read the request's body: {error}")).into()),
    }
}

/// The media type without parameters, in lower case.
pub fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// An object's body as JSON.
///
/// # Errors
/// 415 for other media types, 400 for malformed YAML or protobuf.
pub fn to_json(content_type: &str, body: Bytes) -> Result<Bytes, Failure> {
    match media_type(content_type).as_str() {
        "" | "application/json" | "*/*" => Ok(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml_to_json(&body),
        "application/vnd.kubernetes.protobuf" => proto::to_json(&body),
        _ => Err(status::unsupported_media_type(OBJECT_TYPES).into()),
    }
}

/// YAML (or JSON, which is YAML) as JSON.
///
/// # Errors
/// 400 with the parser's place and reason.
pub fn yaml_to_json(body: &[u8]) -> Result<Bytes, Failure> {
    let value: serde_json::Value = serde_yaml_ng::from_slice(body)
        .map_err(|error| status::bad_request(format!("error decoding YAML: {error}")))?;
    Ok(value.to_string().into())
}
