//! Opening paths that somebody else controls: beneath a root, never through magic links.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Errno, Result, check};

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

fn openat2(dir: impl AsFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: u64::from(mode), resolve };
    // A concurrent rename anywhere makes the kernel answer EAGAIN for a lookup with `..` in it (openat2(2)).
    for _ in 0..64 {
        // SAFETY: `how` and `path` outlive the call; the size is that of the struct we pass.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        });
        match fd {
            // SAFETY: the kernel just gave us this descriptor.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

/// Opens `path` as if `root` were `/`: absolute links and `..` stay inside; magic links are refused.
pub fn in_root(root: impl AsFd, path: &CStr, flags: i32) -> Result<OwnedFd> {
    openat2(root, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// Opens `path` beneath `dir`, which it may not leave, without following any symlink.
pub fn beneath(dir: impl AsFd, path: &CStr, flags: i32) -> Result<OwnedFd> {
    openat2(dir, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
}

/// Opens `path` beneath `dir`, within its one mount and without symlinks: for procfs, where a mount on top is an attack.
pub fn beneath_same_mount(dir: impl AsFd, path: &CStr, flags: i32) -> Result<OwnedFd> {
    openat2(dir, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
}

/// Plain openat with O_CLOEXEC; follows links as usual.
pub fn at(dir: impl AsFd, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    // SAFETY: `path` outlives the call.
    let fd = check(libc::c_long::from(unsafe {
        libc::openat(dir.as_fd().as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC, mode)
    }))?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
