//! Masked and read-only paths, by descriptors beneath the root.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::mount::MsFlags;
use pintle_runtime_plan::step::Slot;
use pintle_sys::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, MountAttr, Reach};
use pintle_sys::{Errno, Result, open};

use super::Walker;

impl Walker<'_> {
    fn existing(&self, path: &CStr) -> Result<Option<OwnedFd>> {
        match open::in_root(self.slots.get(Slot::ROOT)?, path, libc::O_PATH) {
            Ok(fd) => Ok(Some(fd)),
            // Profiles list paths of every kernel; what is not there needs no hiding.
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn readonly_path(&self, path: &CStr) -> Result<()> {
        let Some(fd) = self.existing(path)? else { return Ok(()) };
        let tree = mount::clone_tree(&fd, c"", Reach::Recursive)?;
        let readonly = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
        match mount::set_attr(&tree, &readonly, Reach::Recursive) {
            Ok(()) => mount::attach(&tree, &fd),
            // Linux 5.10, 5.11: one mount, where it is attached.
            Err(Errno::ENOSYS) => {
                mount::attach(&tree, &fd)?;
                let now = nix::sys::statvfs::fstatvfs(&tree)?.flags().bits();
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
                let flags = flags | MsFlags::from_bits_truncate(now & 0x0c0f);
                self.at_descriptor(tree.as_raw_fd(), |path| {
                    nix::mount::mount(None::<&CStr>, path, None::<&CStr>, flags, None::<&CStr>)
                })
            }
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn mask_path(&mut self, path: &CStr) -> Result<()> {
        let Some(fd) = self.existing(path)? else { return Ok(()) };
        if super::mounts::is_dir(&fd)? { self.mask_dir(&fd) } else { self.mask_file(&fd) }
    }

    /// One empty tmpfs serves all masked directories: a superblock each would cost memory in every container.
    fn mask_dir(&mut self, on: &OwnedFd) -> Result<()> {
        if self.slots.get(Slot::MASK).is_err() {
            let fs = mount::fsopen(c"tmpfs")?;
            mount::fsconfig_set(&fs, c"nr_blocks", Some(c"1"))?;
            mount::fsconfig_set(&fs, c"nr_inodes", Some(c"1"))?;
            mount::fsconfig_create(&fs)?;
            let made = mount::fsmount(&fs, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
            mount::attach(&made, on)?;
            self.slots.put(Slot::MASK, made);
            return Ok(());
        }
        let copy = mount::clone_tree(self.slots.get(Slot::MASK)?, c"", Reach::One)?;
        mount::attach(copy, on)
    }

    /// /dev/null over the file, after making sure it is /dev/null: the image may have put anything there
    /// (CVE-2025-31133).
    fn mask_file(&mut self, on: &OwnedFd) -> Result<()> {
        if self.slots.get(Slot::OWN_NULL).is_err() {
            let null = open::in_root(self.slots.get(Slot::ROOT)?, c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW)?;
            let stat = nix::sys::stat::fstat(&null)?;
            if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != nix::sys::stat::makedev(1, 3) {
                return Err(Errno::ENODEV);
            }
            self.slots.put(Slot::OWN_NULL, null);
        }
        let tree = mount::clone_tree(self.slots.get(Slot::OWN_NULL)?, c"", Reach::One)?;
        mount::attach(tree, on)
    }
}
