//! One client's connection: frames in, frames out, descriptors with them, and a bound on what waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use pintle_shim::{FRAME_LEN_MAX, Message};
use pintle_sys::{Errno, scm};

/// What may wait for a client that does not read, in bytes. Beyond, it is cut off: it can come back and ask.
const QUEUE_LEN_MAX: usize = 4 << 20;

/// A frame on its way out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    socket: UnixStream,
    input: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    output: VecDeque<Outgoing>,
    queued: usize,
    /// Whether it gets every event.
    pub subscribed: bool,
}

/// The client is gone, or broke the protocol.
#[derive(Debug)]
pub struct Gone;

impl Conn {
    /// Takes a non-blocking socket.
    pub fn new(socket: UnixStream) -> Conn {
        Conn { socket, input: Vec::new(), fds: VecDeque::new(), output: VecDeque::new(), queued: 0, subscribed: false }
    }

    /// The socket.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Reads what is there; gives the whole frames, and whether the client has left. What it asked for before is done:
    /// a client that dies right after a call must not make a difference by the moment of its death.
    pub fn receive(&mut self) -> (Vec<Vec<u8>>, Result<(), Gone>) {
        let mut frames = Vec::new();
        let left = self.receive_into(&mut frames);
        if self.input.is_empty() {
            // A large request must not be remembered by its buffer.
            self.input = Vec::new();
        }
        (frames, left)
    }

    fn receive_into(&mut self, frames: &mut Vec<Vec<u8>>) -> Result<(), Gone> {
        let mut buffer = [0; 4096];
        loop {
            let mut fds = Vec::new();
            match scm::receive(self.socket.as_fd(), &mut buffer, &mut fds) {
                Ok(0) => return Err(Gone),
                Ok(n) => {
                    self.input.extend_from_slice(&buffer[..n]);
                    self.fds.extend(fds);
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(Gone),
            }
            while let Some(frame) = self.take_frame()? {
                frames.push(frame);
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        let Some(head) = self.input.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head);
        if len > FRAME_LEN_MAX {
            return Err(Gone);
        }
        let end = 4 + len as usize;
        if self.input.len() < end {
            return Ok(None);
        }
        let frame = self.input[4..end].to_vec();
        self.input.drain(..end);
        Ok(Some(frame))
    }

    /// The next descriptor that came along.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Queues a message and sends what goes.
    pub fn send(&mut self, message: &Message, fds: Vec<OwnedFd>) -> Result<(), Gone> {
        let body = serde_json::to_vec(message).map_err(|_impossible| Gone)?;
        let mut bytes = Vec::with_capacity(4 + body.len());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        self.queued += bytes.len();
        self.output.push_back(Outgoing { bytes, sent: 0, fds });
        if self.queued > QUEUE_LEN_MAX {
            return Err(Gone);
        }
        self.flush()
    }

    /// Sends what goes.
    pub fn flush(&mut self) -> Result<(), Gone> {
        while let Some(first) = self.output.front_mut() {
            let fds: Vec<_> = first.fds.iter().map(|fd| fd.as_fd()).collect();
            match scm::send(self.socket.as_fd(), &first.bytes[first.sent..], &fds) {
                Ok(n) => {
                    self.queued -= n;
                    first.sent += n;
                    first.fds.clear();
                    if first.sent == first.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Whether something waits to be sent.
    pub fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }
}
