//! Flags that several commands share.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::args::Parsed;
use crate::cgroup::Driver;
use crate::error::{Doing as _, Error, Result};
use crate::launch::Launched;

/// Writes the pid beside the file and renames: a reader never sees half a number. No newline: callers parse digits.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let what = || format!("write pid file {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::Usage(format!("pid file {} has no name", path.display())))?;
    let new = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let opened = std::fs::File::options().write(true).create_new(true).mode(0o644).open(&new);
    std::io::Write::write_all(&mut opened.doing(what)?, pid.to_string().as_bytes()).doing(what)?;
    std::fs::rename(&new, path).doing(what)
}

/// Resolves a path before the working directory changes.
pub fn absolute(path: Option<&str>) -> Result<Option<PathBuf>> {
    let resolve = |path: &str| std::path::absolute(path).doing(|| format!("resolve {path:?}"));
    path.filter(|path| !path.is_empty()).map(resolve).transpose()
}

/// --systemd-cgroup.
pub fn driver(global: &Parsed) -> Driver {
    if global.has("systemd-cgroup") { Driver::Systemd } else { Driver::Files }
}

/// --bundle, as a canonical path.
pub fn bundle(own: &Parsed) -> Result<PathBuf> {
    let bundle = PathBuf::from(own.get("bundle").filter(|bundle| !bundle.is_empty()).unwrap_or("."));
    std::fs::canonicalize(&bundle).doing(|| format!("open bundle {}", bundle.display()))
}

/// How many descriptors from 3 on the process inherits; every one must be there.
pub fn preserved(own: &Parsed) -> Result<u32> {
    let asked: u32 = own.number("preserve-fds")?.unwrap_or(0);
    let count = asked.saturating_add(crate::container::listening());
    for number in 3..count.saturating_add(3) {
        if !pintle_sys::fd::is_open(i32::try_from(number).unwrap_or(i32::MAX)) {
            return Err(Error::Usage(format!("unable to preserve fd {number}: it is not open")));
        }
    }
    Ok(count)
}

/// Whether and where a terminal's master goes.
pub fn check_console(terminal: bool, detach: bool, own: &Parsed) -> Result<Option<PathBuf>> {
    let socket = absolute(own.get("console-socket"))?;
    match (terminal, detach, &socket) {
        (true, true, None) => {
            Err(Error::Usage("cannot allocate tty if runc will detach without setting console socket".to_owned()))
        }
        (false, _, Some(_)) | (true, false, Some(_)) => {
            Err(Error::Usage("cannot use console socket if runc will not detach or allocate tty".to_owned()))
        }
        _ => Ok(socket),
    }
}

/// Hands descriptors to the sockets that were named for them.
pub fn hand_over(launched: &mut Launched, console: Option<&Path>, own: &Parsed) -> Result<()> {
    // Without a socket the master stays with us: `run` in the foreground passes its bytes on.
    if let Some(path) = console
        && let Some(master) = launched.console.take()
    {
        send(path, &master)?;
    }
    if let Some(path) = own.get("pidfd-socket") {
        send(Path::new(path), &launched.pidfd)?;
    }
    launched.warnings.iter().for_each(|warning| crate::log::warn(warning));
    Ok(())
}

/// One message with one descriptor; the data is its name.
pub fn send(path: &Path, fd: &OwnedFd) -> Result<()> {
    let what = || format!("hand a descriptor to {}", path.display());
    let socket = UnixStream::connect(path).doing(what)?;
    pintle_sys::scm::send(&socket, b"pintle", &[fd.as_fd()]).doing(what).map(drop)
}
