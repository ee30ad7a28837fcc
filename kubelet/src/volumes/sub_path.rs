//! Sub-paths of volumes, safe against a container that swaps a directory for a link while we look.
//!
//! The path is opened beneath the volume (openat2, links resolved inside it), made where absent, and the descriptor,
//! not the name, is bind-mounted at a place of ours; containers mount that.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use crate::disk;
use crate::error::{At as _, FileError};

/// Binds `volume`/`path` at `place`, which is returned.
pub(crate) fn resolve(volume: &Path, path: &str, place: &Path) -> Result<PathBuf, FileError> {
    let whole = volume.join(path);
    let flags = nix::libc::O_PATH | nix::libc::O_CLOEXEC;
    let root = OwnedFd::from(std::fs::File::open(volume).at("open", volume)?);
    let mut at = pintle_sys::fd::duplicate(&root).at("duplicate", volume)?;
    let mut walked = String::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        let name = CString::new(part).map_err(std::io::Error::from).at("name", &whole)?;
        walked = if walked.is_empty() { part.to_owned() } else { format!("{walked}/{part}") };
        let so_far = CString::new(walked.as_str()).map_err(std::io::Error::from).at("name", &whole)?;
        // Always from the volume's root, so that links (`..data` is one) lead somewhere inside it.
        at = match pintle_sys::open::in_root(root.as_fd(), &so_far, flags) {
            Ok(next) => next,
            Err(nix::Error::ENOENT) => {
                mkdirat(at.as_fd(), name.as_c_str(), Mode::from_bits_truncate(0o755)).at("make directory", &whole)?;
                pintle_sys::open::in_root(root.as_fd(), &so_far, flags).at("open", &whole)?
            }
            Err(e) => return Err(e).at("open beneath its volume", &whole),
        };
    }
    let stat = fstat(at.as_fd()).at("look at", &whole)?;
    let is_dir = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    disk::unmount(place)?;
    if is_dir {
        disk::make_dir(place, 0o755)?;
    } else {
        disk::make_dir(place.parent().unwrap_or(place), 0o755)?;
        std::fs::write(place, b"").at("make", place)?;
    }
    let source = format!("/proc/self/fd/{}", at.as_raw_fd());
    mount(Some(source.as_str()), place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .at("bind a sub-path at", place)?;
    Ok(place.to_owned())
}
