//! What goes back to a client. Owns: bodies, failures and the headers every answer has. Does not own: what is said.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Serialize;

/// The body of an answer: whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Answer = Response<Body>;
/// An answer, or the Status that takes its place.
pub type Outcome = Result<Answer, Failure>;

/// A Status on its way to the client. Boxed, as it is large and rare.
#[derive(Debug, Clone)]
pub struct Failure(pub Box<Status>);

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure(Box::new(status))
    }
}

impl From<Box<Status>> for Failure {
    fn from(status: Box<Status>) -> Failure {
        Failure(status)
    }
}

impl Failure {
    /// The failure as an answer.
    pub fn answer(&self) -> Answer {
        let code =
            StatusCode::from_u16(pintle_api::status::http_code(&self.0)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = json(code, &*self.0);
        let retry_after = self.0.details.as_ref().and_then(|details| details.retry_after_seconds);
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

/// A body of one piece.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Bytes of a type.
pub fn typed(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
    with_body(code, content_type, whole(bytes))
}

/// A body of a type.
pub fn with_body(code: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// JSON that is encoded already.
pub fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Answer {
    typed(code, "application/json", bytes)
}

/// JSON.
pub fn json(code: StatusCode, value: &impl Serialize) -> Answer {
    // API types and `Value`s have string keys and no failing serializers.
    json_bytes(code, serde_json::to_vec(value).unwrap_or_default())
}

/// Text for people and probes.
pub fn text(code: StatusCode, text: impl Into<String>) -> Answer {
    typed(code, "text/plain; charset=utf-8", text.into())
}

/// Adds `Warning: 299` headers, one for each sentence.
pub fn add_warnings(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        // A sentence that is no header value (a control character in a field's name) is not worth failing for.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(http::header::WARNING, value);
        }
    }
}
