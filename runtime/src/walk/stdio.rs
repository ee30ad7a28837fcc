//! Steps on descriptors 0, 1, 2 and the console.

use std::os::fd::{AsFd, BorrowedFd};

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
            Step::ChownStdio { uid } => chown_stdio(*uid),
            _ => return None,
        })
    }

    /// The pair comes from the container's own devpts; the slave is opened through the master, so that no path in
    /// the container is trusted for it (CVE-2025-52565).
    fn console(&mut self, size: Option<(u16, u16)>, mount: bool) -> Result<()> {
        let root = self.slots.get(Slot::ROOT)?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NOFOLLOW;
        let master = open::in_root(root, c"/dev/pts/ptmx", flags)?;
        tty::unlock(&master)?;
        let peer = tty::open_peer(&master)?;
        if let Some((columns, rows)) = size.filter(|size| *size != (0, 0)) {
            tty::set_size(&master, columns, rows)?;
        }
        if mount {
            let console = Target {
                path: c"/dev/console".to_owned(),
                walk: vec![
                    (c"/dev".to_owned(), c"dev".to_owned()),
                    (c"/dev/console".to_owned(), c"console".to_owned()),
                ],
            };
            let on = self.make_target(&console, crate::beneath::Last::File)?;
            mount::attach(mount::clone_tree(&peer, c"", Reach::One)?, on)?;
        }
        let parent = self.parent.as_ref().ok_or(Errno::ENOTCONN)?;
        parent.send_console(master.as_fd())?;
        tty::take_as_controlling(&peer)?;
        place_all([peer.as_fd(), peer.as_fd(), peer.as_fd()])
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

/// A process that reopens /dev/stdout must own it. /dev/null belongs to everybody and stays as it is.
fn chown_stdio(uid: u32) -> Result<()> {
    let null = nix::sys::stat::makedev(1, 3);
    for fd in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let Ok(stat) = nix::sys::stat::fstat(fd) else { continue };
        if stat.st_rdev == null || stat.st_uid == uid {
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
