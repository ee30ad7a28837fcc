//! What is wrong with an object, field by field (`Status.details.causes` of a 422).
//!
//! Owns: paths, reasons and the sentences people know from Kubernetes (apimachinery's util/validation/field). Does not
//! own: any rule; those live beside the words they are about (`name`, `metadata`, …) and in the kinds.

use std::fmt;

/// A path such as `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(String);

impl Path {
    /// The path's first step.
    pub fn new(step: &str) -> Path {
        Path(step.to_owned())
    }
    /// The whole object.
    pub fn root() -> Path {
        Path::default()
    }
    /// `self.step`.
    #[must_use]
    pub fn child(&self, step: &str) -> Path {
        if self.0.is_empty() { Path::new(step) } else { Path(format!("{}.{step}", self.0)) }
    }
    /// `self[index]`.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }
    /// `self[key]`, for maps.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }
    /// The text, e.g. `spec.replicas`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a field is refused; the names are those of `metav1.CauseType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Missing.
    Required,
    /// Malformed or not allowed together with others.
    Invalid,
    /// Not one of the supported values.
    NotSupported,
    /// The same key twice.
    Duplicate,
    /// May not be set here.
    Forbidden,
    /// Too long.
    TooLong,
    /// Too many items.
    TooMany,
    /// Refers to something absent.
    NotFound,
    /// Of the wrong JSON type.
    TypeInvalid,
}

impl Reason {
    /// `metav1.CauseType`, e.g. `FieldValueRequired`.
    pub fn cause_type(self) -> &'static str {
        match self {
            Reason::Required => "FieldValueRequired",
            Reason::Invalid => "FieldValueInvalid",
            Reason::NotSupported => "FieldValueNotSupported",
            Reason::Duplicate => "FieldValueDuplicate",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::TooLong => "FieldValueTooLong",
            Reason::TooMany => "FieldValueTooMany",
            Reason::NotFound => "FieldValueNotFound",
            Reason::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
    /// How a sentence about it begins, e.g. `Required value`.
    pub fn title(self) -> &'static str {
        match self {
            Reason::Required => "Required value",
            Reason::Invalid | Reason::TypeInvalid => "Invalid value",
            Reason::NotSupported => "Unsupported value",
            Reason::Duplicate => "Duplicate value",
            Reason::Forbidden => "Forbidden",
            Reason::TooLong => "Too long",
            Reason::TooMany => "Too many",
            Reason::NotFound => "Not found",
        }
    }
}

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Which field.
    pub path: Path,
    /// Why.
    pub reason: Reason,
    /// The value as shown to people, already quoted if it is a string; empty where the value says nothing.
    pub value: String,
    /// The rule, e.g. `must be greater than or equal to 0`.
    pub detail: String,
}

impl FieldError {
    /// The complaint without its path, e.g. `Invalid value: -1: must be greater than or equal to 0`.
    pub fn body(&self) -> String {
        let mut text = self.reason.title().to_owned();
        for part in [&self.value, &self.detail] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A value as a complaint shows it: strings quoted, numbers and booleans bare, structures as JSON.
pub trait Shown {
    /// The text.
    fn shown(&self) -> String;
}

impl<T: Shown + ?Sized> Shown for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}
impl Shown for str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}
impl Shown for String {
    fn shown(&self) -> String {
        self.as_str().shown()
    }
}
impl Shown for serde_json::Value {
    fn shown(&self) -> String {
        self.to_string()
    }
}
macro_rules! shown_bare {
    ($($t:ty),*) => { $(impl Shown for $t { fn shown(&self) -> String { self.to_string() } })* };
}
shown_bare!(i32, i64, u64, usize, bool);

/// A structure shown as JSON.
pub fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// All complaints about one object, in the order of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// None yet.
    pub fn new() -> FieldErrors {
        FieldErrors::default()
    }
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn push(&mut self, path: &Path, reason: Reason, value: String, detail: impl Into<String>) {
        self.0.push(FieldError { path: path.clone(), reason, value, detail: detail.into() });
    }
    /// `path: Required value[: detail]`.
    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Reason::Required, String::new(), detail);
    }
    /// `path: Invalid value: value: detail`.
    pub fn invalid(&mut self, path: &Path, value: impl Shown, detail: impl Into<String>) {
        self.push(path, Reason::Invalid, value.shown(), detail);
    }
    /// `path: Unsupported value: "value": supported values: "a", "b"`.
    pub fn not_supported(&mut self, path: &Path, value: impl Shown, supported: &[&str]) {
        self.push(path, Reason::NotSupported, value.shown(), format!("supported values: {}", quoted(supported)));
    }
    /// `path: Duplicate value: value`.
    pub fn duplicate(&mut self, path: &Path, value: impl Shown) {
        self.push(path, Reason::Duplicate, value.shown(), "");
    }
    /// `path: Forbidden: detail`.
    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Reason::Forbidden, String::new(), detail);
    }
    /// `path: Too long: may not be more than N bytes`.
    pub fn too_long(&mut self, path: &Path, bytes_max: usize) {
        self.push(path, Reason::TooLong, String::new(), format!("may not be more than {bytes_max} bytes"));
    }
    /// `path: Too many: N: must have at most M items`.
    pub fn too_many(&mut self, path: &Path, count: usize, count_max: usize) {
        let plural = if count_max == 1 { "" } else { "s" };
        self.push(path, Reason::TooMany, count.shown(), format!("must have at most {count_max} item{plural}"));
    }
    /// `path: Not found: value`.
    pub fn not_found(&mut self, path: &Path, value: impl Shown) {
        self.push(path, Reason::NotFound, value.shown(), "");
    }
    /// One `Invalid value` per message, as the validators of `name` return them.
    pub fn invalid_each(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }
    /// `must be greater than or equal to 0`, unless it is.
    pub fn non_negative(&mut self, path: &Path, value: i64) {
        if value < 0 {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }
    /// `Required value` if absent or empty, `Unsupported value` if not among `supported`.
    pub fn one_of(&mut self, path: &Path, value: Option<&str>, supported: &[&str]) {
        match value {
            None | Some("") => self.required(path, format!("valid values: {}", quoted(supported))),
            Some(value) if !supported.contains(&value) => self.not_supported(path, value, supported),
            Some(_) => {}
        }
    }
    /// `Invalid value: …: field is immutable`, unless equal.
    pub fn immutable<T: PartialEq + serde::Serialize>(&mut self, path: &Path, new: &T, old: &T) {
        if new != old {
            self.invalid(path, json(new), "field is immutable");
        }
    }
    /// The aggregate as people see it: one sentence, or `[a, b]`, without repetition.
    pub fn summary(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for error in &self.0 {
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_read_like_kubernetes() {
        let mut errors = FieldErrors::new();
        let spec = Path::new("spec");
        errors.invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0");
        errors.required(&spec.child("containers").index(0).child("image"), "");
        errors.not_supported(&spec.child("type"), "x", &["a", "b"]);
        errors.duplicate(&spec.key("k"), "dup");
        errors.too_long(&spec, 253);
        errors.too_many(&spec, 5, 4);
        errors.forbidden(&spec, "no");
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.containers[0].image: Required value
        spec.type: Unsupported value: "x": supported values: "a", "b"
        spec[k]: Duplicate value: "dup"
        spec: Too long: may not be more than 253 bytes
        spec: Too many: 5: must have at most 4 items
        spec: Forbidden: no
        "#);
    }
}
