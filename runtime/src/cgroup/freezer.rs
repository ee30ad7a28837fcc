//! Stopping every process of a cgroup, for a bounded time, and letting them go on.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Cgroups, put};
use crate::error::{Doing as _, Error, Result};

/// How long processes may take to stop: one in uninterruptible sleep, or in vfork, never does.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroups {
    /// Stops every member, and waits until all have stopped. If they do not, they all go on.
    pub fn freeze(&self) -> Result<()> {
        let done = match (self.unified(), self.of("freezer")) {
            (Some(directory), _) => freeze_v2(directory),
            (None, Some(directory)) => freeze_v1(directory),
            (None, None) if self.paths.is_empty() => {
                let text = "cannot pause: this container has no cgroup (a rootless one has only what was delegated to its \
                    user; systemd: Delegate=yes)";
                return Err(Error::WrongState(text.to_owned()));
            }
            (None, None) => {
                return Err(Error::WrongState("cannot pause: this host has no freezer cgroup controller".to_owned()));
            }
        };
        if done.is_err() {
            self.thaw_quietly();
        }
        done
    }

    /// Lets every member go on.
    pub fn thaw(&self) -> Result<()> {
        if let Some(directory) = self.unified() {
            return put(&directory.join("cgroup.freeze"), b"0").doing(|| format!("thaw {}", directory.display()));
        }
        let Some(directory) = self.of("freezer") else { return Ok(()) };
        put(&directory.join("freezer.state"), b"THAWED").doing(|| format!("thaw {}", directory.display()))
    }

    pub(super) fn thaw_quietly(&self) {
        if self.is_frozen() {
            // Only called on the way out of another operation, whose own failure is what counts.
            let _unfrozen_or_gone = self.thaw();
        }
    }

    /// Whether it is frozen or about to be.
    pub fn is_frozen(&self) -> bool {
        let read = |path: &Path| crate::text::read(path).unwrap_or_default();
        match (self.unified(), self.of("freezer")) {
            (Some(directory), _) => read(&directory.join("cgroup.freeze")).trim() == "1",
            (None, Some(directory)) => {
                matches!(read(&directory.join("freezer.state")).trim(), "FROZEN" | "FREEZING")
            }
            (None, None) => false,
        }
    }
}

/// cgroup.events says when all have stopped, and wakes those who poll it (cgroup-v2.rst).
fn freeze_v2(directory: &Path) -> Result<()> {
    let what = || format!("freeze {}", directory.display());
    let path = directory.join("cgroup.events");
    let deadline = Instant::now() + PATIENCE;
    let events = File::open(&path).doing(what)?;
    put(&directory.join("cgroup.freeze"), b"1").doing(what)?;
    loop {
        // Reading arms the next notification.
        let mut text = [0; 256];
        let length = nix::sys::uio::pread(&events, &mut text, 0).doing(what)?;
        if text[..length].split(|byte| *byte == b'\n').any(|line| line == b"frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(do_not_stop());
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).doing(what),
        }
    }
}

fn freeze_v1(directory: &Path) -> Result<()> {
    let what = || format!("freeze {}", directory.display());
    let file = directory.join("freezer.state");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A fork can slip away from the first attempt, so the wish is repeated (freezer-subsystem.txt).
        put(&file, b"FROZEN").doing(what)?;
        if crate::text::read(&file).doing(what)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(do_not_stop());
        }
        // There is nothing to wait on: v1's freezer notifies nobody.
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn do_not_stop() -> Error {
    Error::WrongState("unable to freeze: processes do not stop".to_owned())
}
