//! Processes by descriptor: a pid may be reused, a pidfd never lies.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::{Errno, Result, check};

/// Opens the process `pid`. ESRCH if it is gone and reaped.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: two integers in, a new descriptor (close-on-exec by definition) out.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends signal number `signal`; 0 only asks whether the process is there.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no siginfo pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<u8>(), 0) }).map(drop)
}

/// Reaps our child if it has ended; `None` while it runs.
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<WaitStatus>> {
    match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)? {
        WaitStatus::StillAlive => Ok(None),
        status => Ok(Some(status)),
    }
}

/// Waits for our child to end and reaps it.
pub fn wait(pidfd: impl AsFd) -> Result<WaitStatus> {
    loop {
        match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Takes a copy of descriptor `number` out of another process.
pub fn take_fd(pidfd: impl AsFd, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: integers in, a new close-on-exec descriptor out.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
