//! A request for objects, read and allowed. Owns: nothing but its parts.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, USER_AGENT};
use pintle_api::status::{self, About};
use pintle_control_plan::authz::User;
use pintle_control_plan::kind::Scope;
use pintle_control_plan::registry::{Decoded, DynKind};
use pintle_control_plan::request::{ResourcePath, Verb};

use super::answer::Failure;
use super::input;
use super::negotiate::{self, Shape};
use super::query::Query;

/// See the module.
#[derive(Debug)]
pub struct Call {
    /// Who asks; authorization has said yes.
    pub user: User,
    /// What.
    pub verb: Verb,
    /// Of which objects.
    pub path: ResourcePath,
    /// Their kind.
    pub kind: &'static dyn DynKind,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty where there is none.
    pub body: Bytes,
}

/// How strictly a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validation {
    Ignore,
    Warn,
    Strict,
}

impl Call {
    fn header(&self, name: &HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The form objects go back in.
    ///
    /// # Errors
    /// 406.
    pub fn shape(&self) -> Result<Shape, Failure> {
        negotiate::shape(self.header(&ACCEPT))
    }

    /// Whether the client unpacks gzip.
    pub fn accepts_gzip(&self) -> bool {
        self.header(&ACCEPT_ENCODING).split(',').any(|coding| coding.trim().starts_with("gzip"))
    }

    /// The body's media type with its parameters.
    pub fn content_type(&self) -> &str {
        self.header(&CONTENT_TYPE)
    }

    /// How the client calls itself.
    pub fn user_agent(&self) -> &str {
        self.header(&USER_AGENT)
    }

    /// `pods "web-1"`.
    pub fn about(&self) -> About<'_> {
        self.kind.about(&self.path.name)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// 415 and 400.
    pub fn json(&self) -> Result<Bytes, Failure> {
        input::to_json(self.content_type(), self.body.clone())
    }

    /// The body as an object of the call's kind, with the warnings its reading caused.
    ///
    /// # Errors
    /// 400, 415.
    pub fn object(&self) -> Result<(Decoded, Vec<String>), Failure> {
        self.read(&self.json()?)
    }

    /// JSON as an object of the call's kind, under the call's `fieldValidation`.
    ///
    /// # Errors
    /// 400.
    pub fn read(&self, json: &[u8]) -> Result<(Decoded, Vec<String>), Failure> {
        let decoded = self.kind.decode_request(json)?;
        let warnings = self.judge_complaints(&decoded.complaints)?;
        self.check_names(&decoded)?;
        Ok((decoded, warnings))
    }

    /// Unknown and duplicate fields: an error, warnings, or nothing.
    ///
    /// # Errors
    /// 400 under `Strict`.
    pub fn judge_complaints(&self, complaints: &[String]) -> Result<Vec<String>, Failure> {
        match self.validation()? {
            Validation::Ignore => Ok(Vec::new()),
            Validation::Warn => Ok(complaints.to_vec()),
            Validation::Strict => match self.kind.strict_error(complaints) {
                Some(status) => Err(status.into()),
                None => Ok(Vec::new()),
            },
        }
    }

    fn validation(&self) -> Result<Validation, Failure> {
        match self.query.get("fieldValidation") {
            "Strict" => Ok(Validation::Strict),
            "Ignore" => Ok(Validation::Ignore),
            "" | "Warn" => Ok(Validation::Warn),
            other => Err(status::bad_request(format!(
                "invalid fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))
            .into()),
        }
    }

    /// What the body calls the object must be what the path calls it.
    fn check_names(&self, decoded: &Decoded) -> Result<(), Failure> {
        let metadata = decoded.object.metadata();
        let (name, namespace) =
            (metadata.name.as_deref().unwrap_or_default(), metadata.namespace.as_deref().unwrap_or_default());
        let path = &self.path;
        if !path.name.is_empty() && !name.is_empty() && name != path.name {
            return Err(status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                path.name
            ))
            .into());
        }
        let namespaced = self.kind.scope() == Scope::Namespaced;
        if namespaced && !namespace.is_empty() && namespace != path.namespace {
            return Err(status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            )
            .into());
        }
        Ok(())
    }
}
