//! Handing a seccomp notification descriptor to the agent that listens at `seccomp.listenerPath`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use crate::error::{Doing as _, Error, Result};
use crate::state::Stored;

/// Sends the container process state (runtime-spec, config-linux.md) with the descriptor attached.
pub fn hand_over(listener: &OwnedFd, seccomp: &LinuxSeccomp, stored: &Stored, pid: i32) -> Result<()> {
    let Some(path) = seccomp.listener_path() else {
        return Err(Error::Usage("linux.seccomp.listenerPath: is needed for SCMP_ACT_NOTIFY".to_owned()));
    };
    let what = || format!("hand the seccomp listener to {}", path.display());
    let state =
        serde_json::from_slice::<serde_json::Value>(&crate::container::hook_state(stored, Some(pid), "creating"));
    let message = json!({
        "ociVersion": stored.config.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.listener_metadata().clone().unwrap_or_default(),
        "state": state.unwrap_or_default(),
    });
    let socket = UnixStream::connect(path).doing(what)?;
    pintle_sys::scm::send(&socket, message.to_string().as_bytes(), &[listener.as_fd()]).doing(what).map(drop)
}
