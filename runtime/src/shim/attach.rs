//! A client attached to a container's stdio.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use pintle_sys::{Errno, fd};

use super::log_file::Stream;

/// What may wait for a client that does not read, in bytes. Beyond, it is cut off rather than the container stopped.
const QUEUE_LEN_MAX: usize = 1 << 20;

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
        sink.flush()?;
        if sink.queue.len() > QUEUE_LEN_MAX { Err(Closed) } else { Ok(()) }
    }

    /// Writes what goes.
    pub fn flush(&mut self) -> Result<(), Closed> {
        self.sinks.iter_mut().flatten().try_for_each(Sink::flush)
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
        Ok(())
    }
}
