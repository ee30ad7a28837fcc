//! Installing a seccomp filter.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::{Result, check};

/// One BPF instruction, as the kernel lays it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: libc::c_ushort,
    filter: *const SockFilter,
}

/// SECCOMP_FILTER_FLAG_NEW_LISTENER: the call gives a notification descriptor.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;

/// Installs `program` for this process. A descriptor comes back iff FLAG_NEW_LISTENER is among `flags`.
pub fn install(program: &[SockFilter], flags: u32) -> Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    let len = libc::c_ushort::try_from(program.len()).map_err(|_too_long| crate::Errno::EINVAL)?;
    let fprog = SockFprog { len, filter: program.as_ptr() };
    // SAFETY: `fprog` points to `len` instructions and both outlive the call; the kernel copies and checks them.
    let fd = check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) })?;
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with that flag the kernel returns a fresh close-on-exec descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
}

/// Whether the kernel knows an action (SECCOMP_RET_*).
pub fn action_is_known(action: u32) -> bool {
    const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;
    // SAFETY: `action` outlives the call.
    unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}
