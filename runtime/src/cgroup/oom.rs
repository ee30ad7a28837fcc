//! The kernel's memory killer: how often it struck, and being told when it does.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pintle_sys::Errno;

use super::{Cgroups, put};
use crate::error::{Doing as _, Error, Result};

impl Cgroups {
    /// How often the kernel's memory killer struck in here; never, if that cannot be known.
    pub fn oom_kills(&self) -> u64 {
        self.count_oom_kills().unwrap_or(0)
    }

    /// The same; `None` if the cgroup has gone.
    pub(super) fn count_oom_kills(&self) -> Option<u64> {
        let file = if self.unified().is_some() { "memory.events" } else { "memory.oom_control" };
        let text = crate::text::read(self.of("memory")?.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok())
    }

    /// Asks to be told of kills.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let Some(directory) = self.of("memory") else {
            let why = "cannot watch for out-of-memory events: this host has no memory cgroup controller";
            return Err(Error::WrongState(why.to_owned()));
        };
        let what = || format!("watch {} for out-of-memory events", directory.display());
        if self.unified().is_some() {
            let events = File::open(directory.join("memory.events")).doing(what)?;
            let watch = OomWatch::V2 { events };
            // Reading arms the next notification.
            watch.consume()?;
            return Ok(watch);
        }
        let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).doing(what)?;
        let control = File::open(directory.join("memory.oom_control")).doing(what)?;
        // memory.rst, section 10: "<event fd> <fd of memory.oom_control>".
        let order = format!("{} {}", eventfd.as_fd().as_raw_fd(), control.as_raw_fd());
        put(&directory.join("cgroup.event_control"), order.as_bytes()).doing(what)?;
        Ok(OomWatch::V1 { eventfd, _control: control.into() })
    }
}

/// Something to poll: readable when the killer may have struck, or the cgroup has gone.
#[derive(Debug)]
pub enum OomWatch {
    /// An eventfd.
    V1 { eventfd: EventFd, _control: OwnedFd },
    /// memory.events: a change wakes those who poll it (cgroup-v2.rst).
    V2 { events: File },
}

impl OomWatch {
    /// What to poll for.
    pub fn flags(&self) -> PollFlags {
        match self {
            OomWatch::V1 { .. } => PollFlags::POLLIN,
            OomWatch::V2 { .. } => PollFlags::POLLPRI,
        }
    }

    /// Takes what was notified, so that the next notification can be waited for.
    pub fn consume(&self) -> Result<()> {
        let what = || "read out-of-memory events".to_owned();
        let taken = match self {
            OomWatch::V1 { eventfd, .. } => eventfd.read().map(drop),
            OomWatch::V2 { events } => nix::sys::uio::pread(events, &mut [0; 256], 0).map(drop),
        };
        match taken {
            // ENODEV: the cgroup has gone.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENODEV) => Ok(()),
            other => other.doing(what),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomWatch::V1 { eventfd, .. } => eventfd.as_fd(),
            OomWatch::V2 { events } => events.as_fd(),
        }
    }
}
