//! Running hooks: the state on stdin, a time-out, the exit code that counts.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::WaitStatus;
use pintle_runtime_plan::step::Hook;
use pintle_sys::clone::{self, CloneArgs, PointerArray, SingleThreaded};
use pintle_sys::{Errno, Result, fd, pidfd};

/// Why a hook failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error running hook {at}: {reason}")]
pub struct HookError {
    /// Which.
    pub at: String,
    /// What happened.
    pub reason: String,
    /// As near as an errno comes to it.
    pub errno: Errno,
}

/// Runs one hook with `state` on its stdin and waits for it.
pub fn run(proof: SingleThreaded, hook: &Hook, state: &[u8]) -> std::result::Result<(), HookError> {
    let failure = |reason: String, errno| HookError { at: hook.at.clone(), reason, errno };
    let (child, stdin) = spawn(proof, hook).map_err(|errno| failure(crate::error::text(errno), errno))?;
    // A hook that does not read its state breaks the pipe; that is its right.
    let _hook_may_not_read = feed(stdin, state);
    let timeout = hook
        .timeout_s
        .map_or(PollTimeout::NONE, |s| PollTimeout::try_from(s.saturating_mul(1000)).unwrap_or(PollTimeout::MAX));
    match wait(&child, timeout) {
        Ok(Some(WaitStatus::Exited(_, 0))) => Ok(()),
        Ok(Some(WaitStatus::Exited(_, 127))) => {
            Err(failure("the program cannot be executed".to_owned(), Errno::ENOENT))
        }
        Ok(Some(WaitStatus::Exited(_, code))) => Err(failure(format!("exit status {code}"), Errno::ECANCELED)),
        Ok(Some(other)) => Err(failure(format!("ended by {other:?}"), Errno::ECANCELED)),
        Ok(None) => {
            Err(failure(format!("timed out after {} s and was killed", hook.timeout_s.unwrap_or(0)), Errno::ETIMEDOUT))
        }
        Err(errno) => Err(failure(crate::error::text(errno), errno)),
    }
}

fn spawn(proof: SingleThreaded, hook: &Hook) -> Result<(OwnedFd, OwnedFd)> {
    let argv = PointerArray::new(hook.argv.clone());
    let envp = PointerArray::new(hook.envp.clone().unwrap_or_else(own_environment));
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (_pid, child) = clone::clone3(proof, CloneArgs::default(), || {
        let placed = fd::place_at(read.as_fd(), 0).and_then(|()| pintle_sys::signal::reset_all());
        if placed.is_ok() {
            clone::exec(&hook.path, &argv, &envp);
        }
        clone::exit_now(127)
    })?;
    Ok((child, write))
}

fn own_environment() -> Vec<std::ffi::CString> {
    use std::os::unix::ffi::OsStringExt as _;
    let join = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut bytes = key.into_vec();
        bytes.push(b'=');
        bytes.extend(value.into_vec());
        std::ffi::CString::new(bytes).ok()
    };
    std::env::vars_os().filter_map(join).collect()
}

fn feed(stdin: OwnedFd, state: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    std::fs::File::from(stdin).write_all(state)
}

/// Waits for a child; `None` if it had to be killed at the end of `timeout`.
fn wait(child: &OwnedFd, timeout: PollTimeout) -> Result<Option<WaitStatus>> {
    loop {
        match poll(&mut [PollFd::new(child.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) => {
                pidfd::send_signal(child, libc::SIGKILL)?;
                pidfd::wait(child)?;
                return Ok(None);
            }
            Ok(_) => return pidfd::wait(child).map(Some),
            Err(errno) => return Err(errno),
        }
    }
}
