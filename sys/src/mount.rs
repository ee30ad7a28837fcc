//! The mount API of Linux 5.2: mounts as descriptors, configured before anyone sees them, attached by descriptor.
//!
//! Owns: fsopen, fsconfig, fsmount, open_tree, move_mount, mount_setattr. mount(2) and umount2(2) are nix's.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::{Result, check};

/// Read-only.
pub const ATTR_RDONLY: u64 = 0x01;
/// Ignore set-uid bits.
pub const ATTR_NOSUID: u64 = 0x02;
/// Ignore device nodes.
pub const ATTR_NODEV: u64 = 0x04;
/// No execution.
pub const ATTR_NOEXEC: u64 = 0x08;
/// The bits of access-time policy; 0 is relatime.
pub const ATTR_ATIME_MASK: u64 = 0x70;
/// Never update access times.
pub const ATTR_NOATIME: u64 = 0x10;
/// Always update access times.
pub const ATTR_STRICTATIME: u64 = 0x20;
/// Not for directories.
pub const ATTR_NODIRATIME: u64 = 0x80;
/// Map ids by a user namespace.
pub const ATTR_IDMAP: u64 = 0x10_0000;
/// Do not follow symlinks.
pub const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// What mount_setattr changes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// ATTR_* to set.
    pub set: u64,
    /// ATTR_* to clear.
    pub clear: u64,
    /// One of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0.
    pub propagation: u64,
    /// The user namespace of ATTR_IDMAP.
    pub userns_fd: u64,
}

/// Whether a call reaches the mounts below as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This mount.
    One,
    /// And all below.
    Recursive,
}

impl Reach {
    fn flag(self) -> libc::c_uint {
        const AT_RECURSIVE: libc::c_uint = 0x8000;
        if self == Reach::Recursive { AT_RECURSIVE } else { 0 }
    }
}

fn fd_from(ret: libc::c_long) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: only called with the result of calls that return a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A file system configuration context.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the string outlives the call.
    fd_from(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
}

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

fn fsconfig(fs: BorrowedFd<'_>, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> Result<()> {
    let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the strings outlive the call; each command used here takes exactly these pointers.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, pointer(key), pointer(value), 0) })
        .map(drop)
}

/// Sets an option: `key=value`, or the bare `key`.
pub fn fsconfig_set(fs: impl AsFd, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
    fsconfig(fs.as_fd(), command, Some(key), value)
}

/// Makes the file system.
pub fn fsconfig_create(fs: impl AsFd) -> Result<()> {
    fsconfig(fs.as_fd(), FSCONFIG_CMD_CREATE, None, None)
}

/// A detached mount of a configured file system, with ATTR_* bits.
pub fn fsmount(fs: impl AsFd, attrs: u64) -> Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: integers only.
    fd_from(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_fd().as_raw_fd(), FSMOUNT_CLOEXEC, attrs as libc::c_uint) })
}

/// A detached copy of the mount at `path` (relative to `dir`): what a bind mount attaches.
/// An empty `path` copies the mount open at `dir`.
pub fn clone_tree(dir: impl AsFd, path: &CStr, reach: Reach) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint | reach.flag();
    // SAFETY: the string outlives the call.
    fd_from(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches a detached mount on the file or directory open at `target`.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    const F_EMPTY_PATH: libc::c_uint = 0x04;
    const T_EMPTY_PATH: libc::c_uint = 0x40;
    let (from, to) = (tree.as_fd().as_raw_fd(), target.as_fd().as_raw_fd());
    // SAFETY: empty strings, integers.
    check(unsafe {
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), F_EMPTY_PATH | T_EMPTY_PATH)
    })
    .map(drop)
}

/// Changes attributes of the mount open at `mount` (Linux 5.12).
pub fn set_attr(mount: impl AsFd, attr: &MountAttr, reach: Reach) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | reach.flag();
    // SAFETY: `attr` is the kernel's struct of that size and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
