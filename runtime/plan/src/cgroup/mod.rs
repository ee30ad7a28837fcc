//! `linux.resources` into writes to cgroup files.
//!
//! Owns: which file gets which text, for v1 and v2, how to take a write back, and the device programs of v2. Does not
//! own: where hierarchies are mounted, and writing.

pub mod device_list;
pub mod device_program;
pub mod devices;
mod partners;
mod restore;
pub mod stats;
mod v1;
mod v2;

use oci_spec::runtime::LinuxResources;

pub use partners::partners;
pub use restore::restore;
pub use v2::{domain_controllers, swap_of_v2, weight_from_shares};

/// Which of the two a container's cgroups are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller, or a few of them.
    V1,
    /// One for all.
    V2,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where in config.json it comes from, below `linux.resources`.
    pub at: String,
    /// The controller: on v1 its hierarchy holds the file, on v2 it must be enabled for the file to be there.
    pub controller: &'static str,
    /// File name.
    pub file: String,
    /// Text.
    pub value: String,
    /// File and text for kernels that do not have `file`.
    pub or: Option<(String, String)>,
    /// What the failure of this write means.
    pub on_failure: OnFailure,
}

/// What the failure of a write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The limit cannot be had.
    Fail,
    /// A missing file means the same as the value written: older kernel, or a feature not built in.
    IgnoreMissing,
    /// EINVAL may come from another file's old value: to be tried again after the other writes.
    AgainLast,
}

/// The writes for one set of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// `memory.checkBeforeUpdate` on v2: refuse if more bytes than this are in use.
    pub usage_max: Option<u64>,
    /// In order.
    pub writes: Vec<Write>,
}

/// Resources that cannot be expressed in this kind of hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// `unified` names files of v2.
    #[error("linux.resources.unified: this host uses cgroup v1")]
    UnifiedOnV1,
    /// `unified` keys are file names.
    #[error("linux.resources.unified[{key:?}]: must be a file name in the form CONTROLLER.PARAMETER")]
    UnifiedKey { key: String },
    /// v2 has nothing like it.
    #[error("linux.resources.{at}: cgroup v2 has nothing like it")]
    NotOnV2 { at: &'static str },
    /// The value means nothing.
    #[error("linux.resources.{at}: {why}")]
    Value { at: String, why: String },
}

/// A value that means nothing.
pub(crate) fn refuse(at: impl Into<String>, why: impl Into<String>) -> ResourceError {
    ResourceError::Value { at: at.into(), why: why.into() }
}

/// The writes for v1, in order.
pub fn plan_v1(resources: &LinuxResources) -> Result<Plan, ResourceError> {
    v1::plan(resources)
}

/// The writes for v2, in order.
pub fn plan_v2(resources: &LinuxResources) -> Result<Plan, ResourceError> {
    v2::plan(resources)
}

fn write(at: impl Into<String>, controller: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
    let (at, file, value) = (at.into(), file.into(), value.to_string());
    Write { at, controller, file, value, or: None, on_failure: OnFailure::Fail }
}

impl Write {
    fn or(self, file: impl Into<String>, value: impl ToString) -> Write {
        Write { or: Some((file.into(), value.to_string())), ..self }
    }

    fn on_failure(self, on_failure: OnFailure) -> Write {
        Write { on_failure, ..self }
    }
}

/// Negative means no limit; 0 is a limit.
fn max_or(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// pids.max of `pids.limit`. A limit of 0 is written as 1, as runc does with every driver: systemd takes no 0, and the
/// kernel would make no first process under it.
fn pids_max(limit: i64) -> String {
    if limit == 0 { "1".to_owned() } else { max_or(limit) }
}

/// The line of rdma.max, which is the same on both versions.
fn rdma(device: &str, limits: &oci_spec::runtime::LinuxRdma) -> String {
    let mut line = device.to_owned();
    for (key, value) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

fn plan_rdma(resources: &LinuxResources, writes: &mut Vec<Write>) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(device, _)| *device);
    for (device, limits) in devices {
        writes.push(write(format!("rdma[{device:?}]"), "rdma", "rdma.max", rdma(device, limits)));
    }
}

/// A page size becomes part of a file's name.
fn page_size(index: usize, size: &str) -> Result<&str, ResourceError> {
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &size[digits.len()..];
    let known = ["B", "KB", "MB", "GB", "TB", "PB"].contains(&unit);
    if known && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(size);
    }
    Err(refuse(format!("hugepageLimits[{index}].pageSize"), format!("{size:?} is no page size such as 2MB")))
}

#[cfg(test)]
mod tests;
