//! Objects as Table rows and as bare metadata. Owns: the two forms. Does not own: columns and cells (the kind's).

use bytes::Bytes;
use jiff::Timestamp;
use pintle_api::status;
use pintle_control_plan::registry::DynKind;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::Failure;
use super::negotiate::Shape;
use super::object::decode;

/// How much of each object a Table's rows carry (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata; the default.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads the query parameter.
    pub fn parse(text: &str) -> Include {
        match text {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        }
    }
}

/// A form with everything needed to bring objects of one kind into it.
#[derive(Clone, Copy)]
pub struct Former {
    /// The objects' kind.
    pub kind: &'static dyn DynKind,
    /// The form.
    pub shape: Shape,
    /// For Tables.
    pub include: Include,
    /// For ages.
    pub now: fn() -> Timestamp,
}

#[derive(Deserialize)]
struct MetadataOnly<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl Former {
    /// One object in this form. `columns` asks a Table to say its columns (only the first of a watch does).
    ///
    /// # Errors
    /// 500 if what is stored cannot be read.
    pub fn one(&self, bytes: &Bytes, columns: bool) -> Result<Bytes, Failure> {
        match self.shape {
            Shape::Whole => self.whole(bytes),
            Shape::Metadata => partial(bytes).map(Bytes::from),
            Shape::Table => {
                let row = self.row(bytes)?;
                let version = revision_in(bytes)?;
                let mut table = json!({
                    "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": version},
                    "columnDefinitions": Value::Null,
                    "rows": [row],
                });
                if columns {
                    table["columnDefinitions"] = self.columns();
                }
                Ok(table.to_string().into())
            }
        }
    }

    /// One item of a list in this form: a Table's row, or the object itself.
    ///
    /// # Errors
    /// 500 if what is stored cannot be read.
    pub fn item(&self, bytes: &Bytes) -> Result<Bytes, Failure> {
        match self.shape {
            Shape::Whole => self.whole(bytes),
            Shape::Metadata => partial(bytes).map(Bytes::from),
            Shape::Table => Ok(self.row(bytes)?.to_string().into()),
        }
    }

    /// The object itself; a second view converts what is stored as another kind.
    fn whole(&self, bytes: &Bytes) -> Result<Bytes, Failure> {
        if !self.kind.is_view() {
            return Ok(bytes.clone());
        }
        Ok(decode(self.kind, bytes)?.encode().into())
    }

    /// What stands before a list's items. `metadata` is the list's, as JSON.
    pub fn list_head(&self, metadata: &Value) -> String {
        let (api_version, kind) = (self.kind.api_version(), self.kind.kind());
        match self.shape {
            Shape::Whole => {
                format!(r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{metadata},"items":["#)
            }
            Shape::Metadata => format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"items":["#
            ),
            Shape::Table => format!(
                r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"columnDefinitions":{},"rows":["#,
                self.columns()
            ),
        }
    }

    /// An object that says nothing but a revision: what a bookmark carries.
    pub fn bookmark(&self, revision: pintle_store::Revision, annotations: Option<Value>) -> Value {
        let (kind, api_version) = match self.shape {
            Shape::Whole => (self.kind.kind(), self.kind.api_version()),
            Shape::Table => ("Table", "meta.k8s.io/v1"),
            Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
        };
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": Value::Null});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        if self.shape == Shape::Table {
            // The annotations travel in a row's object: a Table's own metadata has none.
            let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            return json!({
                "kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision.to_string()},
                "columnDefinitions": Value::Null, "rows": [{"cells": [], "object": object}],
            });
        }
        json!({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    }

    fn columns(&self) -> Value {
        let column = |column: &pintle_control_plan::kind::Column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        };
        self.kind.columns().iter().map(column).collect()
    }

    fn row(&self, bytes: &Bytes) -> Result<Value, Failure> {
        let object = self.kind.decode(bytes).map_err(status::internal_error)?;
        let mut row = json!({"cells": object.row((self.now)())});
        let raw = |text: &[u8]| serde_json::from_slice::<Value>(text).map_err(status::internal_error);
        match self.include {
            Include::None => {}
            Include::Metadata => row["object"] = raw(&partial(bytes)?)?,
            Include::Object => row["object"] = raw(bytes)?,
        }
        Ok(row)
    }
}

/// PartialObjectMetadata, made without decoding more than the outermost braces.
fn partial(bytes: &Bytes) -> Result<Vec<u8>, Failure> {
    let found: MetadataOnly<'_> = serde_json::from_slice(bytes).map_err(status::internal_error)?;
    let metadata = found.metadata.get();
    let text = format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#);
    Ok(text.into_bytes())
}

fn revision_in(bytes: &Bytes) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Outer {
        metadata: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        resource_version: String,
    }
    let found: Outer = serde_json::from_slice(bytes).map_err(status::internal_error)?;
    Ok(found.metadata.resource_version)
}
