//! What is wrong with an object, field by field (`Status.details.causes` of a 422).

use std::fmt;

/// A path such as `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(String);

impl Path {
    /// The path's first step.
    pub fn new(step: &str) -> Path {
        Path(step.to_owned())
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

/// All complaints about one object, in the order of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldErrors(pub Vec<FieldError>);
