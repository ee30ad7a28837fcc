//! Copies a directory into a fresh mount (tmpcopyup): types, modes, owners, links, extended attributes.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat, mknodat};
use pintle_sys::{Errno, Result, open};

/// Copies what is in `from` into `to`.
pub fn tree(from: OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut names = Vec::new();
    let mut dir = Dir::from_fd(pintle_sys::fd::duplicate(&from)?)?;
    for entry in dir.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.iter().try_for_each(|(name, kind)| one(&from, to, name, *kind))
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &CStr, kind: Option<Type>) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    match kind {
        Some(Type::Directory) => {
            mkdirat(to, name, mode)?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let (from, to) = (open::at(from, name, flags, 0)?, open::at(to, name, flags, 0)?);
            pintle_sys::xattr::copy(&from, &to)?;
            tree(from, &to)?;
        }
        Some(Type::Symlink) => {
            let target = nix::fcntl::readlinkat(from, name)?;
            nix::unistd::symlinkat(target.as_os_str(), to, name)?;
        }
        Some(Type::File) => file(from, to, name, stat.st_mode & 0o7777)?,
        _ => mknodat(to, name, SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT), mode, stat.st_rdev)?,
    }
    nix::unistd::fchownat(to, name, Some(stat.st_uid.into()), Some(stat.st_gid.into()), AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, mode: u32) -> Result<()> {
    let source = open::at(from, name, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?;
    let copy = open::at(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode)?;
    let mut buffer = [0; 8192];
    loop {
        let n = match nix::unistd::read(source.as_fd(), &mut buffer) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if n == 0 {
            return pintle_sys::xattr::copy(&source, &copy);
        }
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let written = nix::unistd::write(copy.as_fd(), rest)?;
            rest = &rest[written..];
        }
    }
}
