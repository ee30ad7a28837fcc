//! Staying with a process in the foreground: signals go to it, a terminal's bytes go both ways, its exit is ours.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use pintle_sys::{Errno, pidfd, tty};

use crate::error::{Doing as _, Result};
use crate::launch::Launched;

/// Signals, taken from before the process exists so that none is lost.
pub struct Forwarder {
    signals: SignalFd,
}

/// Our own terminal in raw mode, given back at the end.
struct Raw(Termios);

impl Raw {
    fn new() -> Option<Raw> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then nobody sees its mode.
        let _terminal_may_be_gone = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// The process that is stayed with.
#[derive(Debug, Clone, Copy)]
pub struct Followed<'a> {
    /// As seen by us; our child.
    pub pid: i32,
    /// The same, for good.
    pub pidfd: &'a OwnedFd,
    /// Its terminal's master.
    pub console: Option<&'a OwnedFd>,
}

impl<'a> From<&'a Launched> for Followed<'a> {
    fn from(launched: &'a Launched) -> Self {
        Followed { pid: launched.pid, pidfd: &launched.pidfd, console: launched.console.as_ref() }
    }
}

impl Forwarder {
    /// Starts taking signals.
    pub fn new() -> Result<Forwarder> {
        let mut all = SigSet::all();
        for ours in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT] {
            all.remove(ours);
        }
        Ok(Forwarder { signals: pintle_sys::signal::as_fd(all).doing(|| "set up signals".to_owned())? })
    }

    /// Waits for the process; gives its exit code, 128 + signal if one ended it.
    pub fn wait<'a>(&self, process: impl Into<Followed<'a>>) -> Result<i32> {
        let process = process.into();
        let raw = process.console.and_then(|master| {
            resize(master);
            Raw::new()
        });
        let code = self.relay(process);
        drop(raw);
        code
    }

    fn relay(&self, process: Followed<'_>) -> Result<i32> {
        let what = || "wait for the container".to_owned();
        let (stdin, mut typing) = (std::io::stdin(), process.console.is_some());
        loop {
            let mut fds = vec![
                PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if let Some(master) = process.console {
                fds.push(PollFd::new(master.as_fd(), PollFlags::POLLIN));
                if typing {
                    fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
                }
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => drop(other.doing(what)?),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if let Some(master) = process.console {
                if ready[2] {
                    copy(master, std::io::stdout());
                }
                if ready.get(3) == Some(&true) {
                    typing = copy(&stdin, master);
                }
            }
            if ready[0] {
                return finish(process);
            }
            if ready[1] {
                self.forward(process);
            }
        }
    }

    fn forward(&self, process: Followed<'_>) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => reap_orphans(process.pid),
                // The Go runtime's own signal, which callers written in Go may send to everybody.
                Ok(Signal::SIGURG) => {}
                Ok(Signal::SIGWINCH) if process.console.is_some() => {
                    process.console.into_iter().for_each(resize);
                }
                // It may just have ended, which the next round will tell.
                _ => drop(pidfd::send_signal(process.pidfd, info.ssi_signo as i32)),
            }
        }
    }
}

/// Those that fell to us as subreaper; the process itself is left for `finish`.
fn reap_orphans(init: i32) {
    while let Ok(status) = nix::sys::wait::waitid(
        nix::sys::wait::Id::All,
        WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
    ) {
        match status.pid() {
            Some(pid) if pid.as_raw() != init => drop(waitpid(pid, None)),
            _ => return,
        }
    }
}

fn finish(process: Followed<'_>) -> Result<i32> {
    if let Some(master) = process.console {
        drain(master);
    }
    Ok(match pidfd::wait(process.pidfd).doing(|| "wait for the container".to_owned())? {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 255,
    })
}

/// What the process wrote last.
fn drain(master: &OwnedFd) {
    let pending = |master: &OwnedFd| {
        poll(&mut [PollFd::new(master.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
    };
    while pending(master) && copy(master, std::io::stdout()) {}
}

/// One chunk; false at the end.
fn copy(from: impl AsFd, to: impl AsFd) -> bool {
    let mut buffer = [0; 4096];
    let Ok(n) = nix::unistd::read(from, &mut buffer) else { return false };
    let mut rest = &buffer[..n];
    while !rest.is_empty() {
        match nix::unistd::write(to.as_fd(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return false,
        }
    }
    n > 0
}

fn resize(master: &OwnedFd) {
    if let Ok((columns, rows)) = tty::size(std::io::stdin()) {
        let _terminal_may_be_gone = tty::set_size(master, columns, rows);
    }
}
