//! Running hooks: the state on stdin, a time-out, the exit code that counts.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::WaitStatus;
use pintle_runtime_plan::step::Hook;
use pintle_sys::clone::{self, CloneArgs, PointerArray, SingleThreaded};
use pintle_sys::{Errno, Result, fd, pidfd};

/// No hook means more, and every clock can add it.
const YEAR_S: u64 = 31_536_000;

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
    let deadline = hook.timeout_s.map(|s| Instant::now() + Duration::from_secs(s.min(YEAR_S)));
    let ended = feed(&child, stdin, state, deadline).and_then(|()| wait(&child, deadline));
    match ended {
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
        let placed = fd::place_at(read.as_fd(), 0)
            .and_then(|()| pintle_sys::signal::reset_all())
            // Now and not by exec: a hook inside the container may be a script whose interpreter the image chose.
            .and_then(|()| fd::close_all_but(&[]));
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

/// Writes the state as far as the hook takes it: one that ends or closes its stdin without reading may do so.
fn feed(child: &OwnedFd, stdin: OwnedFd, mut state: &[u8], deadline: Option<Instant>) -> Result<()> {
    fd::set_nonblocking(&stdin)?;
    while !state.is_empty() {
        match nix::unistd::write(&stdin, state) {
            Ok(written) => state = &state[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let either = &mut [PollFd::new(stdin.as_fd(), PollFlags::POLLOUT), readable(child)];
                if poll_until(either, deadline)? == 0 || either[1].any().unwrap_or(false) {
                    return Ok(());
                }
            }
            Err(_does_not_read) => return Ok(()),
        }
    }
    Ok(())
}

fn readable(child: &OwnedFd) -> PollFd<'_> {
    PollFd::new(child.as_fd(), PollFlags::POLLIN)
}

/// poll(2), over interruptions; 0 once the deadline is past.
fn poll_until(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<i32> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, or the last millisecond would be spent spinning.
        let left = left.map(|left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        match poll(fds, left.unwrap_or(PollTimeout::NONE)) {
            Err(Errno::EINTR) => {}
            Ok(0) if deadline.is_some_and(|at| Instant::now() < at) => {}
            other => return other,
        }
    }
}

/// Waits for a child; `None` if it had to be killed at the deadline.
fn wait(child: &OwnedFd, deadline: Option<Instant>) -> Result<Option<WaitStatus>> {
    if poll_until(&mut [readable(child)], deadline)? == 0 {
        pidfd::send_signal(child, libc::SIGKILL)?;
        pidfd::wait(child)?;
        return Ok(None);
    }
    pidfd::wait(child).map(Some)
}
