//! What `ctr` and the CRI plugin may pass to Create and Checkpoint in the name of a runtime (containerd,
//! api/types/runc/options/oci.proto and api/types/runtimeoptions/v1).

use prost::Message;

/// Type of [`RuncOptions`].
pub const RUNC: &str = "containerd.runc.v1.Options";
/// Type of [`CheckpointOptions`].
pub const CHECKPOINT: &str = "containerd.runc.v1.CheckpointOptions";
/// Type of [`RuntimeOptions`].
pub const RUNTIME: &str = "runtimeoptions.v1.Options";

/// For Create, by the runc shim's name.
#[derive(Clone, PartialEq, Message)]
pub struct RuncOptions {
    /// As runc's --no-pivot.
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    /// As runc's --no-new-keyring.
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    /// Cgroup of the shim itself.
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    /// Owner of the pipes that are stdio.
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    /// Their group.
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    /// The runtime's program.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// Where runc keeps its state.
    #[prost(string, tag = "7")]
    pub root: String,
    /// Up to containerd 1.7: criu's program.
    #[prost(string, tag = "8")]
    pub criu_path: String,
    /// cgroupsPath is a slice and a scope.
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
    /// Directory of images; containerd itself makes [`crate::task::CreateRequest::checkpoint`] of it.
    #[prost(string, tag = "10")]
    pub criu_image_path: String,
    /// Directory for CRIU's log.
    #[prost(string, tag = "11")]
    pub criu_work_path: String,
    /// Since containerd 2.0: where another process serves the task.
    #[prost(string, tag = "12")]
    pub task_api_address: String,
    /// Since containerd 2.0.
    #[prost(uint32, tag = "13")]
    pub task_api_version: u32,
}

/// For Create, to any runtime.
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeOptions {
    /// What the configuration is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Where it is.
    #[prost(string, tag = "2")]
    pub config_path: String,
    /// Or the whole of it.
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}

/// For Checkpoint.
#[derive(Clone, PartialEq, Message)]
pub struct CheckpointOptions {
    /// The task ends; otherwise it goes on.
    #[prost(bool, tag = "1")]
    pub exit: bool,
    /// As runc's --tcp-established.
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    /// As runc's --ext-unix-sk.
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    /// As runc's --shell-job.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// As runc's --file-locks.
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    /// As runc's --empty-ns.
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    /// As runc's --manage-cgroups-mode.
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    /// Directory of images; containerd itself makes [`crate::task::CheckpointRequest::path`] of it.
    #[prost(string, tag = "8")]
    pub image_path: String,
    /// Directory for CRIU's log.
    #[prost(string, tag = "9")]
    pub work_path: String,
}
