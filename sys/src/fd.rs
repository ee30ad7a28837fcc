//! File descriptors: close-on-exec, inheriting, the descriptors a caller handed us by number.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::{Result, check};

/// Clears close-on-exec.
pub fn keep_on_exec(fd: impl AsFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

/// Sets close-on-exec on every descriptor from `first` on; kernels before 5.11 lack this, then each is walked.
pub fn close_on_exec_from(first: RawFd) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: takes three integers; marks descriptors, closes none.
    let done = check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) });
    match done {
        Ok(_) => Ok(()),
        Err(crate::Errno::ENOSYS | crate::Errno::EINVAL) => walk_close_on_exec(first),
        Err(errno) => Err(errno),
    }
}

fn walk_close_on_exec(first: RawFd) -> Result<()> {
    let (most, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    for number in first..RawFd::try_from(most).unwrap_or(65536).min(1 << 20) {
        // SAFETY: only sets a flag; a number that is not open gives EBADF, which is fine.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Takes over descriptor `number`, which the caller of this program passed by convention (LISTEN_FDS, --preserve-fds).
/// `None` if nothing is open there. Marks it close-on-exec.
///
/// Call it once per number, at start-up: afterwards the number is owned.
pub fn inherit(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_SETFD on an arbitrary number is harmless; success proves it is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open (just checked) and, by this function's contract, nothing else in this program owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether something is open at `number`.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD on an arbitrary number is harmless.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Duplicates `fd` onto `number`, without close-on-exec.
pub fn place_at(fd: impl AsFd, number: RawFd) -> Result<()> {
    let from = fd.as_fd().as_raw_fd();
    if from == number {
        return keep_on_exec(fd);
    }
    // SAFETY: dup2 of an open descriptor; callers use it in a child that is about to exec, on numbers they planned.
    check(libc::c_long::from(unsafe { libc::dup2(from, number) })).map(drop)
}

/// Another handle on the same open file.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Makes reads and writes return EAGAIN instead of waiting.
pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    let flags = nix::fcntl::OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK)).map(drop)
}

/// Closes every descriptor from 3 on but those in `keep`, which must be sorted. For a child that owns nothing else:
/// values that own the closed descriptors must never be dropped or used there again.
pub fn close_all_but(keep: &[RawFd]) -> Result<()> {
    let mut first: libc::c_uint = 3;
    for kept in keep.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()) {
        if kept > first {
            close_range(first, kept - 1)?;
        }
        first = first.max(kept + 1);
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<()> {
    // SAFETY: by the contract of `close_all_but` nobody uses these numbers afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}
