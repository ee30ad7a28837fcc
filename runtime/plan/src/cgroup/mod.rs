//! `linux.resources` into writes to cgroup files.
//!
//! Owns: which file gets which text, for v1 and v2, and the device programs of v2. Does not own: where hierarchies
//! are mounted, and writing.

pub mod device_program;
pub mod devices;
mod v1;
mod v2;

use oci_spec::runtime::LinuxResources;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// v1: the controller whose hierarchy holds the file; empty on v2.
    pub controller: &'static str,
    /// File name.
    pub file: String,
    /// Text.
    pub value: String,
    /// What the failure of this write means.
    pub on_failure: OnFailure,
}

/// What the failure of a write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The container cannot be made.
    Fail,
    /// A missing file is fine: older kernel, or a feature not built in.
    IgnoreMissing,
}

/// Resources that cannot be expressed in this kind of hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// `unified` names files of v2.
    #[error("linux.resources.unified: this host uses cgroup v1")]
    UnifiedOnV1,
    /// `unified` keys are file names.
    #[error("linux.resources.unified[{key:?}]: is not the name of a cgroup file")]
    UnifiedKey { key: String },
}

/// The writes for v1, in order.
pub fn plan_v1(resources: &LinuxResources) -> Result<Vec<Write>, ResourceError> {
    v1::plan(resources)
}

/// The writes for v2, in order.
pub fn plan_v2(resources: &LinuxResources) -> Result<Vec<Write>, ResourceError> {
    v2::plan(resources)
}

fn write(controller: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
    Write { controller, file: file.into(), value: value.to_string(), on_failure: OnFailure::Fail }
}

#[cfg(test)]
mod tests;
