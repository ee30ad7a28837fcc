//! A client attached to a container's stdio.
//!
//! A client that does not keep up holds the container back, as a slow terminal does: while [`QUEUE_LEN_MAX`] bytes
//! wait for it, output is not read any further. So whoever reads loses nothing. A client that takes not one byte for
//! [`PATIENCE`] while others wait for it is cut off, and the container goes on. What is queued when the container
//! ends is still delivered, under the same rule.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use pintle_sys::{Errno, fd};

use super::log_file::Stream;

/// What may wait for a client, in bytes, before the container waits for it.
const QUEUE_LEN_MAX: usize = 64 << 10;
/// How long it may do so without taking a byte.
const PATIENCE: Duration = Duration::from_secs(10);

/// One output of a client.
#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    queue: VecDeque<u8>,
}

/// The client cannot be written to any more.
#[derive(Debug)]
pub struct Closed;

/// An attached client.
#[derive(Debug)]
pub struct Attachment {
    /// Names it in the event loop.
    pub token: u64,
    /// What it types.
    pub stdin: Option<OwnedFd>,
    sinks: [Option<Sink>; 2],
    /// When it last took something, or had nothing to take.
    progress: Instant,
}

impl Attachment {
    /// Takes the client's descriptors; from now on they do not block.
    pub fn new(
        token: u64,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> pintle_sys::Result<Attachment> {
        for one in [&stdin, &stdout, &stderr].into_iter().flatten() {
            fd::set_nonblocking(one)?;
        }
        let sink = |fd| Sink { fd, queue: VecDeque::new() };
        Ok(Attachment { token, stdin, sinks: [stdout.map(sink), stderr.map(sink)], progress: Instant::now() })
    }

    /// Sends output on.
    pub fn push(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), Closed> {
        let Some(sink) = &mut self.sinks[stream as usize] else { return Ok(()) };
        sink.queue.extend(chunk);
        self.flush()
    }

    /// Writes what goes.
    pub fn flush(&mut self) -> Result<(), Closed> {
        let mut taken = 0;
        for sink in self.sinks.iter_mut().flatten() {
            taken += sink.flush()?;
        }
        if taken > 0 {
            self.progress = Instant::now();
        }
        Ok(())
    }

    /// Whether so much waits for it that the container must wait too.
    pub fn is_full(&self) -> bool {
        self.sinks.iter().flatten().any(|sink| sink.queue.len() >= QUEUE_LEN_MAX)
    }

    /// Whether nothing waits for it.
    pub fn is_empty(&self) -> bool {
        self.sinks.iter().flatten().all(|sink| sink.queue.is_empty())
    }

    /// When others have waited for it long enough.
    pub fn deadline(&self) -> Instant {
        self.progress + PATIENCE
    }

    /// Its outputs, and whether something waits for each to become writable.
    pub fn sinks(&self) -> impl Iterator<Item = (&OwnedFd, bool)> {
        self.sinks.iter().flatten().map(|sink| (&sink.fd, !sink.queue.is_empty()))
    }

    /// Reads what the client typed; `None` is its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let stdin = self.stdin.as_ref()?;
        match nix::unistd::read(stdin.as_fd(), buffer) {
            Ok(0) => None,
            Ok(n) => Some(n),
            Err(Errno::EAGAIN | Errno::EINTR) => Some(0),
            Err(_) => None,
        }
    }
}

impl Sink {
    fn flush(&mut self) -> Result<usize, Closed> {
        let mut taken = 0;
        while !self.queue.is_empty() {
            let (head, _) = self.queue.as_slices();
            match nix::unistd::write(&self.fd, head) {
                Ok(n) => {
                    taken += n;
                    drop(self.queue.drain(..n));
                }
                Err(Errno::EAGAIN) => return Ok(taken),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Closed),
            }
        }
        // What a burst needed must not be kept for the time after it.
        self.queue = VecDeque::new();
        Ok(taken)
    }
}
