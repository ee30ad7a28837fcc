//! Steps on descriptors 0, 1, 2 and the console.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use pintle_runtime_plan::step::{Slot, Step, Target};
use pintle_sys::mount::{self, Reach};
use pintle_sys::{Errno, Result, fd, open, tty};

use super::Walker;

impl Walker<'_> {
    /// `None` if the step is of another kind.
    pub(super) fn stdio_step(&mut self, step: &Step) -> Option<Result<()>> {
        Some(match step {
            Step::Console { size, mount } => self.console(*size, *mount),
            Step::PlaceStdio => self.place_stdio(),
            Step::OwnNull => self.own_null(),
            Step::ChownStdio { uid } => chown_stdio(*uid),
            _ => return None,
        })
    }

    /// The pair comes from the container's own devpts; the slave is opened through the master, so that no path in
    /// the container is trusted for it (CVE-2025-52565).
    fn console(&mut self, size: Option<(u16, u16)>, mount: bool) -> Result<()> {
        let master = self.ptmx()?;
        tty::unlock(&master)?;
        let peer = tty::open_peer(&master)?;
        if let Some((columns, rows)) = size.filter(|size| *size != (0, 0)) {
            tty::set_size(&master, columns, rows)?;
        }
        if mount {
            let on = self.console_target()?;
            mount::attach(mount::clone_tree(&peer, c"", Reach::One)?, on)?;
        }
        let parent = self.parent.as_ref().ok_or(Errno::ENOTCONN)?;
        parent.send_console(master.as_fd())?;
        tty::take_as_controlling(&peer)?;
        place_all([peer.as_fd(), peer.as_fd(), peer.as_fd()])
    }

    /// Opens the multiplexer after making sure it is one: the image may have put anything there, and opening a device
    /// can be an act.
    fn ptmx(&self) -> Result<OwnedFd> {
        const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
        let found = open::in_root(self.slots.get(Slot::ROOT)?, c"/dev/pts/ptmx", libc::O_PATH | libc::O_NOFOLLOW)?;
        let stat = nix::sys::stat::fstat(&found)?;
        let device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == nix::sys::stat::makedev(5, 2);
        let devpts = nix::sys::statfs::fstatfs(&found)?.filesystem_type().0 as i64 == DEVPTS_SUPER_MAGIC;
        if !device || !devpts {
            return Err(Errno::ENODEV);
        }
        let path = super::FdPath::new(found.as_raw_fd());
        open::at(self.slots.get(Slot::PROC)?, path.as_cstr(), libc::O_RDWR | libc::O_NOCTTY, 0)
    }

    /// Where the terminal is mounted: a file in /dev, made if missing, and no link.
    fn console_target(&self) -> Result<OwnedFd> {
        let dev = Target { path: c"/dev".to_owned(), walk: vec![(c"/dev".to_owned(), c"dev".to_owned())] };
        let dev = self.make_target(&dev, crate::beneath::Last::Dir)?;
        let create = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
        match open::at(&dev, c"console", create, 0o600) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        open::beneath(&dev, c"console", libc::O_PATH)
    }

    /// A container without /dev/null of its own keeps the host's. What is found is looked at before it is opened: the image
    /// may have put any device there.
    fn own_null(&self) -> Result<()> {
        for (number, fd) in (0..).zip([std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()])
        {
            if !is_null(fd) {
                continue;
            }
            let path = libc::O_PATH | libc::O_NOFOLLOW;
            let Ok(found) = open::in_root(self.slots.get(Slot::ROOT)?, c"/dev/null", path) else { return Ok(()) };
            if is_null(&found) {
                let at = super::FdPath::new(found.as_raw_fd());
                fd::place_at(open::at(self.slots.get(Slot::PROC)?, at.as_cstr(), libc::O_RDWR, 0)?, number)?;
            }
        }
        Ok(())
    }

    fn place_stdio(&mut self) -> Result<()> {
        let slots = [Slot::STDIN, Slot::STDOUT, Slot::STDERR];
        place_all([self.slots.get(slots[0])?, self.slots.get(slots[1])?, self.slots.get(slots[2])?])?;
        slots.iter().for_each(|slot| self.slots.close(*slot));
        Ok(())
    }
}

fn place_all(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    for (number, from) in (0..).zip(fds) {
        fd::place_at(from, number)?;
    }
    Ok(())
}

fn is_null(fd: impl AsFd) -> bool {
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == null)
}

/// A process that reopens /dev/stdout must own it. /dev/null belongs to everybody and stays as it is.
fn chown_stdio(uid: u32) -> Result<()> {
    for fd in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let Ok(stat) = nix::sys::stat::fstat(fd) else { continue };
        if is_null(fd) || stat.st_uid == uid {
            continue;
        }
        match nix::unistd::fchown(fd, Some(uid.into()), None) {
            // A read-only file system, an unmapped owner, a socket: the process can still use what is open.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS | Errno::ENOSYS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
