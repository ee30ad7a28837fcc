//! A client attached to a container's stdio.
//!
//! A client that does not keep up holds the container back, as a slow terminal does, and as containerd has it: while
//! [`QUEUE_LEN_MAX`] bytes wait for it, output is not read any further, and the container's next write waits once its
//! pipe is full. So whoever reads loses nothing, however slow it is, and it ends the wait by leaving. The log gets what
//! has been read before any client does: it lags behind the container by what a pipe holds, and by no client's
//! slowness beyond that. Whatever the clients do, the container's end is seen and told at once; what is queued for them then is
//! still delivered.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use pintle_sys::{Errno, fd};

use super::log_file::Stream;

/// What may wait for a client, in bytes, before the container waits for it.
const QUEUE_LEN_MAX: usize = 64 << 10;

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
        Ok(Attachment { token, stdin, sinks: [stdout.map(sink), stderr.map(sink)] })
    }

    /// Sends output on.
    pub fn push(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), Closed> {
        let Some(sink) = &mut self.sinks[stream as usize] else { return Ok(()) };
        sink.queue.extend(chunk);
        self.flush()
    }

    /// Writes what goes.
    pub fn flush(&mut self) -> Result<(), Closed> {
        self.sinks.iter_mut().flatten().try_for_each(Sink::flush)
    }

    /// Whether so much waits for it that the container must wait too.
    pub fn is_full(&self) -> bool {
        self.sinks.iter().flatten().any(|sink| sink.queue.len() >= QUEUE_LEN_MAX)
    }

    /// Whether nothing waits for it.
    pub fn is_empty(&self) -> bool {
        self.sinks.iter().flatten().all(|sink| sink.queue.is_empty())
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
    fn flush(&mut self) -> Result<(), Closed> {
        while !self.queue.is_empty() {
            let (head, _) = self.queue.as_slices();
            match nix::unistd::write(&self.fd, head) {
                Ok(n) => drop(self.queue.drain(..n)),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Closed),
            }
        }
        // What a burst needed must not be kept for the time after it.
        self.queue = VecDeque::new();
        Ok(())
    }
}
