//! Places beneath the root: found, or made, without anybody else's symlinks leading away.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::sys::stat::Mode;
use pintle_runtime_plan::step::{Make, Slot, Target};
use pintle_sys::{Errno, Result, open};

use super::Walker;
use super::mounts::is_dir;
use crate::beneath::{self, Last};

impl Walker<'_> {
    /// What can be found without a symlink lies where its path says; links are followed beneath the root.
    pub(super) fn open_target(&mut self, target: &Target, make: Option<Make>, into: Slot) -> Result<()> {
        let root = self.slots.get(Slot::ROOT)?;
        if let Some(relative) = relative(&target.path).filter(|path| is_plain(path))
            && let Ok(found) = open::beneath(root, relative, libc::O_PATH)
        {
            self.slots.put_exact(into, found);
            return Ok(());
        }
        let last = match make {
            Some(Make::Like(tree)) if !is_dir(self.slots.get(tree)?)? => Last::File,
            Some(Make::Like(_) | Make::Dir) | None => Last::Dir,
        };
        let found = match open::in_root(root, &target.path, libc::O_PATH) {
            Err(Errno::ENOENT) if make.is_some() => self.make_target(target, last),
            other => other,
        };
        found.map(|fd| self.slots.put(into, fd))
    }

    /// A symlinked /proc or /sys would send the mount elsewhere (CVE-2019-19921).
    pub(super) fn open_real_dir(&mut self, target: &Target, into: Slot) -> Result<()> {
        let relative = relative(&target.path).ok_or(Errno::EINVAL)?;
        match open::beneath(self.slots.get(Slot::ROOT)?, relative, libc::O_PATH | libc::O_DIRECTORY) {
            Ok(found) if is_plain(relative) => self.slots.put_exact(into, found),
            Ok(found) => self.slots.put(into, found),
            Err(Errno::ENOENT) => {
                let made = self.make_target(target, Last::Dir)?;
                self.slots.put(into, made);
            }
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// A directory in one that nobody else has.
    pub(super) fn open_in_own(&mut self, own: Slot, target: &Target, into: Slot) -> Result<()> {
        let made = match (self.slots.get(own), target.walk.last()) {
            (Ok(dir), Some((_, name))) => {
                match nix::sys::stat::mkdirat(dir, name.as_c_str(), Mode::from_bits_truncate(0o755)) {
                    Ok(()) => Some(open::beneath(dir, name, libc::O_PATH | libc::O_DIRECTORY)?),
                    Err(Errno::EEXIST) => None,
                    Err(errno) => return Err(errno),
                }
            }
            _ => None,
        };
        match made {
            Some(fd) => {
                self.slots.put_exact(into, fd);
                Ok(())
            }
            None => self.open_target(target, Some(Make::Dir), into),
        }
    }

    /// Every tmpfs that is made has a device number of its own.
    pub(super) fn check_own(&mut self, own: Slot, path: &CStr) -> Result<()> {
        let found = open::in_root(self.slots.get(Slot::ROOT)?, path, libc::O_PATH)?;
        let (found, ours) = (nix::sys::stat::fstat(&found)?, nix::sys::stat::fstat(self.slots.get(own)?)?);
        if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino) {
            self.slots.close(own);
        }
        Ok(())
    }

    pub(super) fn make_target(&self, target: &Target, last: Last) -> Result<OwnedFd> {
        beneath::open_or_make(self.slots.get(Slot::ROOT)?, &target.path, last)
    }

    /// The opened directory of a target, made if missing, and the last component.
    pub(super) fn parent_of<'t>(&self, target: &'t Target) -> Result<(OwnedFd, &'t CStr)> {
        let (last, before) = target.walk.split_last().ok_or(Errno::EINVAL)?;
        // The usual case is a directory that is there, with no symlink on the way.
        if let Some((prefix, _)) = before.last()
            && let Some(relative) = relative(prefix)
            && let Ok(found) = open::beneath(self.slots.get(Slot::ROOT)?, relative, libc::O_PATH | libc::O_DIRECTORY)
        {
            return Ok((found, &last.1));
        }
        let parent = Target {
            path: before.last().map_or_else(|| c"/".to_owned(), |(prefix, _)| prefix.clone()),
            walk: before.to_vec(),
        };
        Ok((self.make_target(&parent, Last::Dir)?, &last.1))
    }
}

/// An absolute path as seen from the root's descriptor.
fn relative(path: &CStr) -> Option<&CStr> {
    let bytes = path.to_bytes_with_nul();
    CStr::from_bytes_with_nul(bytes.strip_prefix(b"/").unwrap_or(bytes)).ok()
}

/// Whether a path says where it leads, as long as there is no symlink on it.
fn is_plain(path: &CStr) -> bool {
    path.to_bytes().split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}
