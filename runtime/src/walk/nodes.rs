//! Device nodes and symlinks in the container's root.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag};
use pintle_runtime_plan::step::{Node, Slot, Target};
use pintle_sys::{Errno, Result, open};

use super::Walker;

impl Walker<'_> {
    pub(super) fn make_node(&self, node: &Node) -> Result<()> {
        let device = nix::sys::stat::makedev(u64::from(node.number.0), u64::from(node.number.1));
        let kind = SFlag::from_bits_truncate(node.mode & libc::S_IFMT);
        let permissions = Mode::from_bits_truncate(node.mode & 0o7777);
        if let Some(own) = node.own
            && let (Ok(dir), Some((_, name))) = (self.slots.get(own), node.target.walk.last())
        {
            let before = nix::sys::stat::umask(Mode::empty());
            let made = nix::sys::stat::mknodat(dir, name.as_c_str(), kind, permissions, device);
            nix::sys::stat::umask(before);
            // What was made just now is what was asked for; another mount may have made the name a file.
            if made != Err(Errno::EEXIST) {
                return made;
            }
        }
        let (parent, name) = self.parent_of(&node.target)?;
        match nix::sys::stat::mknodat(&parent, name, kind, permissions, device) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let fd = open::beneath(&parent, name, libc::O_PATH | libc::O_NOFOLLOW)?;
        let stat = nix::sys::stat::fstat(&fd)?;
        let same = stat.st_mode & libc::S_IFMT == node.mode & libc::S_IFMT
            && (kind == SFlag::S_IFIFO || stat.st_rdev == device);
        if !same {
            return Err(Errno::EEXIST);
        }
        let (uid, gid) = node.owner;
        nix::unistd::fchownat(&fd, c"", Some(uid.into()), Some(gid.into()), AtFlags::AT_EMPTY_PATH)?;
        // mknod was subject to the umask. fchmod refuses O_PATH, so go through the file's own entry in procfs.
        let path = super::FdPath::new(fd.as_raw_fd());
        nix::sys::stat::fchmodat(
            self.slots.get(Slot::PROC)?,
            path.as_cstr(),
            permissions,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
    }

    pub(super) fn require_device(&self, tree: Slot, kind: u32, (major, minor): (u32, u32)) -> Result<()> {
        let stat = nix::sys::stat::fstat(self.slots.get(tree)?)?;
        let device = nix::sys::stat::makedev(u64::from(major), u64::from(minor));
        let same = stat.st_mode & libc::S_IFMT == kind && stat.st_rdev == device;
        if same { Ok(()) } else { Err(Errno::ENODEV) }
    }

    pub(super) fn symlink(&self, target: &Target, points_to: &CStr, own: Option<Slot>) -> Result<()> {
        if let Some(own) = own
            && let (Ok(dir), Some((_, name))) = (self.slots.get(own), target.walk.last())
        {
            return match nix::unistd::symlinkat(points_to, dir, name.as_c_str()) {
                Err(Errno::EEXIST) => Ok(()),
                other => other,
            };
        }
        let (parent, name) = self.parent_of(target)?;
        match nix::unistd::symlinkat(points_to, &parent, name) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
