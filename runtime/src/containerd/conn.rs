//! A ttrpc connection: frames in, frames out, and a bound on what waits.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use pintle_ttrpc::Frame;

/// What may wait for a peer that does not read, in bytes. Beyond, it is cut off.
const QUEUE_LEN_MAX: usize = 8 << 20;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    socket: UnixStream,
    input: Vec<u8>,
    output: VecDeque<u8>,
}

/// The peer is gone, or broke the protocol.
#[derive(Debug)]
pub struct Gone;

impl Conn {
    /// Takes a non-blocking socket.
    pub fn new(socket: UnixStream) -> Conn {
        Conn { socket, input: Vec::new(), output: VecDeque::new() }
    }

    /// The socket.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Reads what is there; gives the whole frames.
    pub fn receive(&mut self) -> Result<Vec<Frame>, Gone> {
        let mut frames = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Gone),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
            while let Some(frame) = Frame::take(&mut self.input).map_err(|_too_long| Gone)? {
                frames.push(frame);
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(frames)
    }

    /// Queues a frame and sends what goes.
    pub fn send(&mut self, frame: &Frame) -> Result<(), Gone> {
        self.output.extend(frame.encode());
        if self.output.len() > QUEUE_LEN_MAX { Err(Gone) } else { self.flush() }
    }

    /// Sends what goes.
    pub fn flush(&mut self) -> Result<(), Gone> {
        while !self.output.is_empty() {
            let (head, _) = self.output.as_slices();
            match self.socket.write(head) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        self.output = VecDeque::new();
        Ok(())
    }

    /// Whether something waits to be sent.
    pub fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }
}
