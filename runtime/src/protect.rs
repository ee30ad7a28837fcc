//! Keeps containers from overwriting this program (CVE-2019-5736).
//!
//! A process in a container can come to hold /proc/<pid>/exe of ours, as its own entrypoint even. So before anything
//! touches a container the program runs from a detached, read-only copy of its mount: no path leads there, opening it for
//! writing is EROFS, and afterwards nobody has a handle to remount it. What comes before the C library does that
//! (sys/src/early.rs); where it has not, it is done here by an exec. Where mounts cannot be cloned (no CAP_SYS_ADMIN, Linux < 5.12) a sealed memfd does the same.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, statvfs};
use pintle_sys::clone::PointerArray;
use pintle_sys::mount::{self, MountAttr, Reach};

use crate::error::{Doing as _, Result};

/// Re-executes unless it is protected already. Returns only if it is, or on failure.
pub fn protect(args: &[OsString]) -> Result<()> {
    if pintle_sys::early::is_protected() {
        return Ok(());
    }
    let what = || "protect this program from its containers".to_owned();
    let exe = std::fs::File::open("/proc/self/exe").doing(what)?;
    if is_protected(&exe) {
        return Ok(());
    }
    let copy = readonly_mount().or_else(|_not_allowed| sealed_copy(exe)).doing(what)?;
    let c = |text: &std::ffi::OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let argv = PointerArray::new(args.iter().map(|arg| c(arg)).collect());
    let environment = std::env::vars_os().map(|(key, value)| {
        let mut both = key;
        both.push("=");
        both.push(value);
        c(&both)
    });
    let envp = PointerArray::new(environment.collect());
    Err(pintle_sys::clone::exec_fd(copy.as_fd(), &argv, &envp)).doing(what)
}

/// A read-only mount alone is not enough: one that has a place may be mounted writable again (an upgrade of the host).
/// Ours had none, which shows in the file having no path.
fn is_protected(exe: &std::fs::File) -> bool {
    let sealed = fcntl(exe, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & SealFlag::F_SEAL_WRITE.bits() != 0);
    let readonly = || statvfs("/proc/self/exe").is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY));
    let detached = || std::fs::read_link("/proc/self/exe").is_ok_and(|path| path == std::path::Path::new("/"));
    sealed || readonly() && detached()
}

fn readonly_mount() -> pintle_sys::Result<OwnedFd> {
    let tree = mount::clone_tree(nix::fcntl::AT_FDCWD, c"/proc/self/exe", Reach::One)?;
    let attr = MountAttr { set: mount::ATTR_RDONLY, ..MountAttr::default() };
    mount::set_attr(&tree, &attr, Reach::One)?;
    Ok(tree)
}

fn sealed_copy(mut exe: std::fs::File) -> pintle_sys::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create(c"pintle-runc", flags)?);
    let io = |error: std::io::Error| pintle_sys::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    std::io::copy(&mut exe, &mut copy).map_err(io)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}
