//! Processes known by file: who they are, whether they still are, and ending them.
//!
//! A pid alone proves nothing after a crash or a reboot; a pid with its start time names one process of one boot.

use anyhow::{Context as _, Result};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// One process of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// `starttime` of proc(5), in clock ticks since boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl Identity {
    /// The identity of a process that runs.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
        let start_ticks = start_ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not as proc(5) says"))?;
        Ok(Self { pid, start_ticks, boot_id: boot_id()? })
    }

    /// This process.
    pub fn own() -> Result<Self> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Reads an identity; `None` when there is no such file or it is not one (a crash while it was written).
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the identity.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A descriptor of the process if it still runs.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        if self.boot_id != boot_id()? {
            return Ok(None);
        }
        match pintle_sys::pidfd::open(Pid::from_raw(self.pid)) {
            // Compared after opening: from here on the descriptor means the process we looked at.
            Ok(fd) => Ok(Self::of(self.pid).is_ok_and(|now| now == *self).then_some(fd)),
            Err(nix::errno::Errno::ESRCH) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("pidfd_open({})", self.pid)),
        }
    }
}

/// How [`stop`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    WasGone,
    /// It ended when asked.
    Orderly,
    /// It had to be killed.
    Killed,
}

/// Ends a process: SIGTERM, and SIGKILL if it has not ended within `patience`. Waits for its end.
pub fn stop(identity: &Identity, patience: Duration) -> Result<Stopped> {
    let Some(process) = identity.open()? else { return Ok(Stopped::WasGone) };
    signal(&process, nix::sys::signal::Signal::SIGTERM)?;
    if wait_end(&process, patience)? {
        return Ok(Stopped::Orderly);
    }
    signal(&process, nix::sys::signal::Signal::SIGKILL)?;
    wait_end(&process, Duration::from_secs(10))?;
    Ok(Stopped::Killed)
}

fn signal(process: &OwnedFd, signal: nix::sys::signal::Signal) -> Result<()> {
    match pintle_sys::pidfd::send_signal(process, signal as i32) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("pidfd_send_signal({signal})")),
    }
}

/// Whether the process ended within the limit.
fn wait_end(process: &OwnedFd, limit: Duration) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let until = Instant::now() + limit;
    loop {
        let left_ms = u16::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(left_ms)) {
            Ok(0) if Instant::now() >= until => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e).context("poll on a pidfd"),
        }
    }
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?.trim().to_owned())
}

/// Field 22 of proc(5)'s stat. The second field may hold blanks and parentheses: count from the last `)`.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::process::Command;

    #[test]
    fn the_start_time_is_found_behind_a_hostile_process_name() {
        let fields: Vec<String> = (3..=22).map(|n| n.to_string()).collect();
        assert_eq!(start_ticks(&format!("1 (a) b) (c)) {}", fields.join(" "))), Some(22));
    }

    #[test]
    fn a_process_of_another_start_time_or_boot_is_not_ours() {
        let own = Identity::own().unwrap();
        assert!(own.open().unwrap().is_some());
        let reused = Identity { start_ticks: own.start_ticks + 1, ..own.clone() };
        assert!(reused.open().unwrap().is_none());
        let rebooted = Identity { boot_id: "other".into(), ..own };
        assert!(rebooted.open().unwrap().is_none());
    }

    #[test]
    fn a_process_that_ignores_the_request_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo x; exec sleep 60"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        // A zombie's pidfd is readable, so no one needs to reap it first.
        assert_eq!(stop(&identity, Duration::from_millis(50)).unwrap(), Stopped::Killed);
        child.wait().unwrap();
        assert_eq!(stop(&identity, Duration::from_millis(50)).unwrap(), Stopped::WasGone);
    }
}
