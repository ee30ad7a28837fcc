//! A container as its supervisor holds it: state, stdio, log, attached clients.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use pintle_shim::{ContainerState, ContainerStatus, Exit};
use pintle_sys::{Errno, fd};

use nix::unistd::Pid;

use super::attach::Attachment;
use super::log_file::{LogFile, Stream};
use crate::cgroup::Cgroups;
use crate::container::Whom;
use crate::error::{Doing as _, Result};
use crate::launch::Late;

/// What may wait for a container that does not read its stdin, in bytes; beyond, the client waits.
const STDIN_LEN_MAX: usize = 64 << 10;

/// A supervised container.
#[derive(Debug)]
pub struct Container {
    /// What clients see.
    pub state: ContainerState,
    /// Its cgroups.
    pub cgroups: Cgroups,
    /// The way to init until it becomes the program, and the sentences of its failures. Gone at start.
    pub starting: Option<(Late, OwnedFd)>,
    /// Init's end, seen before it was known whether start had failed.
    pub ended_early: Option<(i32, i32)>,
    /// Whether its death ends everything in it (its own pid namespace).
    pub own_pid_ns: bool,
    /// The terminal's master.
    pub console: Option<OwnedFd>,
    /// Read ends of stdout and stderr.
    pub outputs: [Option<OwnedFd>; 2],
    /// Write end of stdin.
    pub stdin: Option<OwnedFd>,
    /// What waits to be written to stdin.
    pub stdin_queue: VecDeque<u8>,
    /// Close stdin when the queue is empty.
    pub stdin_ending: bool,
    /// Start failed after the fifo: the program never ran.
    pub start_failed: bool,
    /// Close stdin when the first client's ends.
    pub stdin_once: bool,
    /// Its log.
    pub log: Option<LogFile>,
    /// Clients that watch.
    pub attached: Vec<Attachment>,
    /// The memory killer's count at creation: cgroups of a restarted container may be old.
    pub oom_kills_before: u64,
}

/// Pipes for a container without a terminal.
pub struct Pipes {
    /// The container's ends.
    pub theirs: [OwnedFd; 3],
    /// Our end of stdin, if it was asked for.
    pub stdin: Option<OwnedFd>,
    /// Our ends of stdout and stderr.
    pub outputs: [Option<OwnedFd>; 2],
}

/// Makes them. Ours never block.
pub fn pipes(with_stdin: bool) -> Result<Pipes> {
    let what = || "make pipes".to_owned();
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
    let (stdin, ours) = if with_stdin {
        let (read, write) = pipe().doing(what)?;
        fd::set_nonblocking(&write).doing(what)?;
        (read, Some(write))
    } else {
        (File::open("/dev/null").doing(what)?.into(), None)
    };
    let (out_read, out_write) = pipe().doing(what)?;
    let (err_read, err_write) = pipe().doing(what)?;
    fd::set_nonblocking(&out_read).and_then(|()| fd::set_nonblocking(&err_read)).doing(what)?;
    Ok(Pipes { theirs: [stdin, out_write, err_write], stdin: ours, outputs: [Some(out_read), Some(err_read)] })
}

/// What reading an output came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// For now.
    Empty,
    /// For good.
    Ended,
    /// There may be more; others want their turn.
    More,
}

impl Container {
    fn output(&self, stream: Stream) -> Option<&OwnedFd> {
        match (stream, &self.console) {
            (Stream::Stdout, Some(console)) => Some(console),
            (Stream::Stderr, Some(_)) => None,
            (stream, None) => self.outputs[stream as usize].as_ref(),
        }
    }

    /// Reads up to `turns` chunks of an output into the log and to the attached.
    pub fn drain(&mut self, stream: Stream, turns: usize) -> Drained {
        let mut buffer = [0; 8192];
        for _ in 0..turns {
            if self.is_held_back() {
                return Drained::More;
            }
            let Some(output) = self.output(stream) else { return Drained::Ended };
            match nix::unistd::read(output.as_fd(), &mut buffer) {
                // EIO: the last of a terminal's users is gone.
                Ok(0) | Err(Errno::EIO) => return Drained::Ended,
                Ok(n) => self.distribute(stream, &buffer[..n]),
                Err(Errno::EAGAIN) => return Drained::Empty,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    crate::log::warn(&format!("read output of {}: {errno}", self.state.id));
                    return Drained::Ended;
                }
            }
        }
        Drained::More
    }

    fn distribute(&mut self, stream: Stream, chunk: &[u8]) {
        if let Some(said) = self.log.as_mut().and_then(|log| log.write(stream, chunk)) {
            crate::log::warn(&format!("container {}: {said}", self.state.id));
        }
        self.attached.retain_mut(|attachment| attachment.push(stream, chunk).is_ok());
    }

    /// Whether an attached client has so much to read that the container must wait. Not once it has ended: a pipe's
    /// rest is bounded, and its exit must not wait for anybody.
    pub fn is_held_back(&self) -> bool {
        self.state.status != ContainerStatus::Stopped && self.attached.iter().any(Attachment::is_full)
    }

    /// Signals init or everybody.
    pub fn send(&self, signal: i32, whom: Whom) -> Result<()> {
        let pid = self.state.pid;
        let init = || match pid {
            0 => Err(crate::error::Error::NotRunning),
            // Our child, which only we reap: the pid cannot be another's.
            pid => pintle_sys::pidfd::open(Pid::from_raw(pid)).doing(|| format!("open process {pid}")),
        };
        crate::container::send(&self.cgroups, self.own_pid_ns, init, signal, whom)
    }

    /// An output has ended.
    pub fn close_output(&mut self, stream: Stream) {
        if let Some(said) = self.log.as_mut().and_then(|log| log.end(stream)) {
            crate::log::warn(&format!("container {}: {said}", self.state.id));
        }
        if self.console.is_some() { self.console = None } else { self.outputs[stream as usize] = None }
    }

    /// Where input goes.
    pub fn input(&self) -> Option<&OwnedFd> {
        self.console.as_ref().or(self.stdin.as_ref())
    }

    /// Whether stdin takes more.
    pub fn wants_input(&self) -> bool {
        self.stdin_queue.len() < STDIN_LEN_MAX && self.input().is_some()
    }

    /// Queues input and writes what goes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stdin_queue.extend(bytes);
        self.flush_input();
    }

    /// Closes stdin once everything typed has been written.
    pub fn stdin_ends(&mut self) {
        self.stdin_ending = true;
        self.flush_input();
    }

    /// Writes what goes.
    pub fn flush_input(&mut self) {
        self.write_input();
        if self.stdin_ending && self.stdin_queue.is_empty() {
            self.stdin = None;
        }
    }

    fn write_input(&mut self) {
        while !self.stdin_queue.is_empty() {
            let Some(input) = self.console.as_ref().or(self.stdin.as_ref()) else {
                self.stdin_queue.clear();
                return;
            };
            let (head, _) = self.stdin_queue.as_slices();
            match nix::unistd::write(input, head) {
                Ok(n) => drop(self.stdin_queue.drain(..n)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The container closed its stdin; nobody will read this.
                Err(_) => {
                    self.stdin_queue.clear();
                    self.stdin = None;
                }
            }
        }
    }

    /// Init has ended.
    pub fn ended(&mut self, code: i32, signal: i32, now_ms: u64) {
        let oom_killed = self.cgroups.oom_kills() > self.oom_kills_before && code != 0;
        self.state.pid = 0;
        self.state.status = ContainerStatus::Stopped;
        self.state.finished_ms = now_ms;
        self.state.exit = Some(Exit { code, signal, oom_killed, timed_out: false });
        self.starting = None;
        self.stdin = None;
        self.stdin_queue = VecDeque::new();
    }
}

/// Where a container's exit record is.
pub fn exit_record(dir: &std::path::Path, id: &str) -> PathBuf {
    dir.join("exits").join(format!("{id}.json"))
}

/// Writes the exit record and makes sure that it stays, before anyone hears of it.
pub fn record_exit(dir: &std::path::Path, state: &ContainerState) -> Result<()> {
    let path = exit_record(dir, &state.id);
    let new = path.with_extension("new");
    let what = || format!("write {}", path.display());
    let bytes = serde_json::to_vec(state).unwrap_or_default();
    let mut file = File::create(&new).doing(what)?;
    std::io::Write::write_all(&mut file, &bytes).doing(what)?;
    file.sync_data().doing(what)?;
    std::fs::rename(&new, &path).doing(what)?;
    File::open(dir.join("exits")).and_then(|dir| dir.sync_all()).doing(what)
}
