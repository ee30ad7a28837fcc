//! Directories that a layer's archive implies by their contents but does not list.
//!
//! In the mounted stack the uppermost directory's attributes count. Left as made, an implied `/tmp` would turn 0755 and
//! root's. So each takes the attributes of the directory it lies over, as if it had been copied up.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::beneath;
use crate::error::{At, Result};
use crate::unpack::{file_type, is_whiteout};

enum Below {
    /// The directory this one lies over.
    Found(OwnedFd),
    /// This layer says nothing about the path.
    Silent,
    /// This layer hides what is further below.
    Hidden,
}

/// Gives the `implied` directories of the layer at `layer` the attributes of what they lie over; `below` is bottom first.
pub(crate) fn adopt(layer: &Path, implied: &[Vec<u8>], below: &[impl AsRef<Path>]) -> Result<()> {
    if implied.is_empty() || below.is_empty() {
        return Ok(());
    }
    let root = beneath::open_root(layer).at("open", layer)?;
    let mut lowers = Vec::with_capacity(below.len());
    for lower in below.iter().rev() {
        lowers.push((lower.as_ref(), beneath::open_root(lower.as_ref()).at("open", lower.as_ref())?));
    }
    for path in implied {
        for (lower, fd) in &lowers {
            match find(fd, path).at("look into", lower)? {
                Below::Found(from) => {
                    copy(&from, &root, path).at("copy the attributes of", lower)?;
                    break;
                }
                Below::Silent => {}
                Below::Hidden => break,
            }
        }
    }
    Ok(())
}

fn find(root: &OwnedFd, path: &[u8]) -> Result<Below, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = beneath::open(root, b"", flags)?;
    for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if is_opaque(&dir) => return Ok(Below::Hidden),
            Err(Errno::NOENT) => return Ok(Below::Silent),
            Err(error) => return Err(error),
        };
        if is_whiteout(&stat) || file_type(&stat) != FileType::Directory {
            return Ok(Below::Hidden);
        }
        dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    }
    Ok(Below::Found(dir))
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::fgetxattr(dir, "trusted.overlay.opaque", &mut value).is_ok_and(|_| value == *b"y")
}

fn copy(from: &OwnedFd, root: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(from)?;
    let to = beneath::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to.as_fd(), Some(uid), Some(gid))?;
    rustix::fs::fchmod(to.as_fd(), Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let seconds = stat.st_mtime;
    let time = Timespec { tv_sec: seconds, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
    rustix::fs::futimens(to, &Timestamps { last_access: time, last_modification: time })
}
