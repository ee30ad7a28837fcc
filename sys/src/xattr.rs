//! Extended attributes of open files.

use std::os::fd::AsFd;

use crate::{Errno, Result};

/// Copies all extended attributes of one file to another. Those that the target's file system has no room or no name
/// for are left out, and those that only the kernel's own modules may set.
pub fn copy(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::flistxattr(&from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(raw(errno)),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let got = rustix::fs::fgetxattr(&from, name, &mut value[..]).map_err(raw)?;
        match rustix::fs::fsetxattr(&to, name, &value[..got], rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {}
            Err(errno) => return Err(raw(errno)),
        }
    }
    Ok(())
}

fn raw(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}
