//! Label and field selectors of lists and watches. Owns: deciding whether stored bytes are selected, decoding no more
//! than the selector needs. Does not own: the selectors' grammar (`api`).

use std::borrow::Cow;

use bytes::Bytes;
use pintle_api::selector::{FieldSelector, Labels, Selector};
use pintle_api::status;
use pintle_control_plan::registry::DynKind;
use serde::Deserialize;

use super::answer::Failure;
use super::query::Query;

/// What a list or watch is narrowed to.
#[derive(Debug, Clone)]
pub struct Filter {
    kind: &'static dyn DynKind,
    labels: Selector,
    fields: FieldSelector,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    metadata: PeekMetadata<'a>,
}

#[derive(Deserialize)]
struct PeekMetadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(default)]
    labels: Option<Labels>,
}

impl Filter {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for a malformed selector or a field the kind cannot be selected by.
    pub fn parse(kind: &'static dyn DynKind, query: &Query) -> Result<Filter, Failure> {
        let labels = Selector::parse(query.get("labelSelector"))
            .map_err(|error| status::bad_request(format!("unable to parse requirement: {error}")))?;
        let fields = FieldSelector::parse(query.get("fieldSelector"))
            .map_err(|error| status::bad_request(format!("unable to parse field selector: {error}")))?;
        let known = |label: &str| {
            matches!(label, "metadata.name" | "metadata.namespace") || kind.field_names().contains(&label)
        };
        if let Some(label) = fields.unknown_field(known) {
            return Err(status::bad_request(format!("field label not supported: {label}")).into());
        }
        Ok(Filter { kind, labels, fields })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.labels.is_everything() && self.fields.0.is_empty()
    }

    /// The one name that can be selected, if there is one.
    pub fn only_name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// Whether this object is selected.
    ///
    /// # Errors
    /// 500 if what is stored cannot be read.
    pub fn matches(&self, bytes: &Bytes) -> Result<bool, Failure> {
        if self.is_empty() {
            return Ok(true);
        }
        let peek: Peek<'_> = serde_json::from_slice(bytes).map_err(status::internal_error)?;
        if !self.labels.matches(peek.metadata.labels.as_ref()) {
            return Ok(false);
        }
        let mut decoded = None;
        let mut failed = None;
        let selected = self.fields.matches(|label| match label {
            "metadata.name" => Some(peek.metadata.name.to_string()),
            "metadata.namespace" => Some(peek.metadata.namespace.to_string()),
            label => {
                if decoded.is_none() {
                    decoded = self.kind.decode(bytes).map_err(|error| failed = Some(error)).ok();
                }
                decoded.as_ref().and_then(|object| object.field(label))
            }
        });
        match failed {
            Some(error) => Err(status::internal_error(error).into()),
            None => Ok(selected),
        }
    }
}
