//! A mount namespace of our own for a while: what is mounted there goes with us, whatever ends us.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use pintle_sys::{Errno, open};

/// Where a process is: its mount namespace, root and working directory.
struct Place {
    namespace: File,
    root: OwnedFd,
    cwd: OwnedFd,
}

impl Place {
    fn here() -> pintle_sys::Result<Place> {
        let namespace = File::open("/proc/self/ns/mnt");
        let namespace = namespace.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let directory = |path| open::at(nix::fcntl::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0);
        Ok(Place { namespace, root: directory(c"/")?, cwd: directory(c".")? })
    }

    /// Entering a namespace moves root and working directory to its top (setns(2)): back to what they were.
    fn go(&self) -> pintle_sys::Result<()> {
        nix::sched::setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
        nix::unistd::fchdir(&self.root)?;
        nix::unistd::chroot(".")?;
        nix::unistd::fchdir(&self.cwd)
    }
}

/// We are in a mount namespace of our own until this is dropped.
pub struct Apart {
    home: Place,
}

impl Apart {
    /// Enters one, from which nothing propagates back.
    pub fn enter() -> pintle_sys::Result<Apart> {
        let home = Place::here()?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        let apart = Apart { home };
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)?;
        Ok(apart)
    }

    /// Does something where others see what it mounts.
    pub fn at_home<T>(&self, act: impl FnOnce() -> T) -> pintle_sys::Result<T> {
        let here = Place::here()?;
        self.home.go()?;
        let done = act();
        here.go()?;
        Ok(done)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Err(errno) = self.home.go() {
            crate::log::warn(&format!("cannot return to the host's mount namespace: {errno}"));
        }
    }
}
