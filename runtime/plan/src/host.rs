//! What planning must know about the machine: observed by the runtime, handed in as data.

use std::ffi::CString;
use std::path::PathBuf;

use crate::caller::Caller;

/// A mounted cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted on the host.
    pub mountpoint: PathBuf,
    /// Its controllers, or `name=systemd`.
    pub controllers: Vec<String>,
    /// The cgroup in it that the container is in, below the mount point, e.g. `/kubepods/pod1/abc`.
    pub path: String,
}

/// How the first process gets into its cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupJoin {
    /// It stays where we are.
    None,
    /// v1: these files are opened by the parent and `0` written by the single-threaded child, which takes no
    /// global lock where a pid in `cgroup.procs` waits 10 ms for RCU.
    Tasks(Vec<(String, CString)>),
    /// v2: the child is born in this directory.
    Into(CString),
}

/// The machine and the invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// `rootfs` resolved against the bundle.
    pub rootfs: PathBuf,
    /// Where exec.fifo is; `None` for a container that starts at once.
    pub fifo: Option<PathBuf>,
    /// Cgroup membership.
    pub join: CgroupJoin,
    /// The cgroups of `join` are made while the child makes its namespaces: see [`crate::overlaps`].
    pub cgroups_later: bool,
    /// v1 hierarchies with the container's paths; empty on a pure v2 host.
    pub hierarchies: Vec<Hierarchy>,
    /// The v2 cgroup on the host that the container is in, if v2 is what is used.
    pub unified: Option<PathBuf>,
    /// Who we are.
    pub caller: Caller,
    /// --no-pivot.
    pub no_pivot: bool,
    /// --no-new-keyring.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the process inherits.
    pub preserve_fds: u32,
    /// How many of those are sockets of an activation: told to the process with its own pid (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Stdio was passed in slots rather than inherited.
    pub stdio_passed: bool,
    /// $HOME of the user by the container's passwd, when the environment has none.
    pub home: Option<String>,
    /// The state JSON that hooks in the child read on stdin, as (createContainer's, startContainer's).
    pub hook_states: (Vec<u8>, Vec<u8>),
}
