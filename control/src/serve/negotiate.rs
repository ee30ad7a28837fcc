//! The form of an answer, from the Accept header. Owns: reading it. Does not own: producing the form.

use pintle_api::status;

use super::answer::Failure;

/// In which form objects go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As they are.
    Whole,
    /// meta.k8s.io/v1 Table.
    Table,
    /// meta.k8s.io/v1 PartialObjectMetadata, or a list of them.
    Metadata,
}

const ACCEPTED: &[&str] = &["application/json", "application/json;as=Table;g=meta.k8s.io;v=v1"];

/// The first of the client's wishes that can be fulfilled; weights are ignored, as upstream orders by position too when
/// they are absent, and clients do not send them for the types in question.
///
/// # Errors
/// 406 if none can.
pub fn shape(accept: &str) -> Result<Shape, Failure> {
    if accept.trim().is_empty() {
        return Ok(Shape::Whole);
    }
    accept.split(',').find_map(one).ok_or_else(|| status::not_acceptable(ACCEPTED).into())
}

fn one(clause: &str) -> Option<Shape> {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next()?;
    if !matches!(media, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut form, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => form = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    match (form, group, version) {
        ("", _, _) => Some(Shape::Whole),
        ("Table", "meta.k8s.io", "v1") => Some(Shape::Table),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Some(Shape::Metadata),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wish_that_can_be_fulfilled_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let cases = [
            ("", Some(Shape::Whole)),
            ("*/*", Some(Shape::Whole)),
            ("application/json", Some(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf, application/json", Some(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf", None),
            (table, Some(Shape::Table)),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Some(Shape::Whole)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", None),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Shape::Metadata)),
            ("text/html", None),
        ];
        for (accept, wanted) in cases {
            assert_eq!(shape(accept).ok(), wanted, "{accept}");
        }
    }
}
