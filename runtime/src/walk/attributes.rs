//! Attributes of mounts, with mount_setattr(2) and without: Linux 5.10 and 5.11 lack it.
//!
//! There a mount's flags can only be changed by a remount at the place where it is attached, so what is asked for a
//! detached mount is kept until it is. That reaches one mount: recursive attributes are refused (ENOSYS).

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::mount::MsFlags;
use pintle_runtime_plan::step::{Attr, Slot};
use pintle_sys::mount::{
    self, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, ATTR_STRICTATIME, MountAttr,
};
use pintle_sys::{Errno, Result};

use super::Walker;
use super::mounts::reach;

/// mount_setattr's bits and mount(2)'s.
const BITS: [(u64, MsFlags); 7] = [
    (ATTR_RDONLY, MsFlags::MS_RDONLY),
    (ATTR_NOSUID, MsFlags::MS_NOSUID),
    (ATTR_NODEV, MsFlags::MS_NODEV),
    (ATTR_NOEXEC, MsFlags::MS_NOEXEC),
    (ATTR_NOATIME, MsFlags::MS_NOATIME),
    (ATTR_STRICTATIME, MsFlags::MS_STRICTATIME),
    (ATTR_NODIRATIME, MsFlags::MS_NODIRATIME),
];

/// The flags of mount(2) for ATTR_* bits.
pub(super) fn to_mount_flags(attrs: u64) -> MsFlags {
    BITS.iter().filter(|(bit, _)| attrs & bit != 0).fold(MsFlags::empty(), |flags, (_, flag)| flags | *flag)
}

impl Walker<'_> {
    pub(super) fn set_attr(&mut self, slot: Slot, attr: Attr, recursive: bool) -> Result<()> {
        let raw = MountAttr { set: attr.set, clear: attr.clear, propagation: attr.propagation, userns_fd: 0 };
        match mount::set_attr(self.slots.get(slot)?, &raw, reach(recursive)) {
            Err(Errno::ENOSYS) if recursive && attr.set | attr.clear != 0 => Err(Errno::ENOSYS),
            Err(Errno::ENOSYS) if self.slots.is_attached(slot) => self.remount(slot, attr, recursive),
            Err(Errno::ENOSYS) => {
                self.slots.postpone(slot, attr, recursive);
                Ok(())
            }
            other => other,
        }
    }

    /// The mount in a slot has its place now: what had to wait for that is done.
    pub(super) fn attached(&mut self, slot: Slot) -> Result<()> {
        for (attr, recursive) in self.slots.attach(slot) {
            self.remount(slot, attr, recursive)?;
        }
        Ok(())
    }

    fn remount(&self, slot: Slot, attr: Attr, recursive: bool) -> Result<()> {
        let fd = self.slots.get(slot)?.as_fd().as_raw_fd();
        let change = |flags: MsFlags| {
            self.at_descriptor(fd, |path| nix::mount::mount(None::<&CStr>, path, None::<&CStr>, flags, None::<&CStr>))
        };
        if attr.set | attr.clear != 0 {
            let now = nix::sys::statvfs::fstatvfs(self.slots.get(slot)?)?.flags().bits();
            // statvfs reports the same bits as mount(2) takes, but for those of access times.
            let kept = MsFlags::from_bits_truncate(now & 0x0c0f) & !to_mount_flags(attr.clear);
            change(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | kept | to_mount_flags(attr.set))?;
        }
        if attr.propagation != 0 {
            let reach = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
            change(MsFlags::from_bits_retain(attr.propagation) | reach)?;
        }
        Ok(())
    }

    /// Gives a path to a descriptor, by the host's procfs: no mount in the container can redirect it.
    pub(super) fn at_descriptor<T>(&self, number: i32, act: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
        let path = super::FdPath::new(number);
        let here = pintle_sys::open::at(nix::fcntl::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        nix::unistd::fchdir(self.slots.get(Slot::PROC)?)?;
        let done = act(path.as_cstr());
        nix::unistd::fchdir(&here)?;
        done
    }
}
