//! Events to containerd: one at a time, in order, each until it is acknowledged.
//!
//! containerd may be away for a while (it is restarted, upgraded): events wait, bounded, and go out when it comes back
//! and connects to us, or when a few attempts of our own find it.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pintle_ttrpc::events::{Envelope, ForwardRequest, SERVICE};
use pintle_ttrpc::{Any, Frame, REQUEST, Request, Timestamp};
use prost::Message;

use super::conn::{Conn, Gone};
use crate::clock;

/// Events that may wait. Beyond, the oldest goes: containerd asks for states when it comes back.
const QUEUE_LEN_MAX: usize = 2048;
/// Attempts of our own, and the time between them.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// The way to containerd.
#[derive(Debug)]
pub struct Publisher {
    address: Option<PathBuf>,
    namespace: String,
    queue: VecDeque<Vec<u8>>,
    conn: Option<Conn>,
    /// The stream of the event that waits for its acknowledgement.
    in_flight: Option<u32>,
    next_stream: u32,
    attempts: u32,
    /// When to try again.
    pub retry: Option<Instant>,
}

impl Publisher {
    /// Without an address nobody hears of anything.
    pub fn new(address: Option<PathBuf>, namespace: &str) -> Publisher {
        Publisher {
            address,
            namespace: namespace.to_owned(),
            queue: VecDeque::new(),
            conn: None,
            in_flight: None,
            next_stream: 1,
            attempts: 0,
            retry: None,
        }
    }

    /// Queues an event, e.g. `/tasks/exit` with `TaskExit`.
    pub fn publish(&mut self, topic: &str, kind: &str, event: &impl Message) {
        if self.address.is_none() {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(Timestamp::from_ns(clock::now_ns())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(Any { type_url: format!("containerd.events.{kind}"), value: event.encode_to_vec() }),
        };
        let request = Request {
            service: SERVICE.to_owned(),
            method: "Forward".to_owned(),
            payload: ForwardRequest { envelope: Some(envelope) }.encode_to_vec(),
            timeout_ns: 0,
        };
        if self.queue.len() == QUEUE_LEN_MAX {
            self.queue.pop_front();
        }
        self.queue.push_back(request.encode_to_vec());
        self.try_anew();
    }

    /// There is reason to believe that containerd is there.
    pub fn try_anew(&mut self) {
        self.attempts = 0;
        self.go();
    }

    /// Its connection, and whether it waits to write.
    pub fn source(&self) -> Option<(&UnixStream, bool)> {
        self.conn.as_ref().map(|conn| (conn.socket(), conn.wants_to_write()))
    }

    /// Something can be read or written.
    pub fn serve(&mut self) {
        let Some(conn) = &mut self.conn else { return };
        match conn.flush().and_then(|()| conn.receive()) {
            Ok(frames) => {
                if frames.iter().any(|frame| Some(frame.stream) == self.in_flight) {
                    self.in_flight = None;
                    self.queue.pop_front();
                    self.go();
                }
            }
            Err(Gone) => self.fail(),
        }
    }

    /// The time to try again has come.
    pub fn on_time(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.go();
        }
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() || self.address.is_none() || (self.conn.is_none() && self.retry.is_none())
    }

    fn go(&mut self) {
        self.retry = None;
        if self.in_flight.is_some() {
            return;
        }
        let Some(first) = self.queue.front().cloned() else { return };
        if self.conn.is_none() {
            self.conn = self.address.as_ref().and_then(|path| {
                let socket = UnixStream::connect(path).ok()?;
                socket.set_nonblocking(true).ok()?;
                Some(Conn::new(socket))
            });
        }
        let frame = Frame { stream: self.next_stream, kind: REQUEST, data: first };
        self.in_flight = Some(self.next_stream);
        self.next_stream = self.next_stream.wrapping_add(2);
        match self.conn.as_mut().map(|conn| conn.send(&frame)) {
            Some(Ok(())) => self.attempts = 0,
            Some(Err(Gone)) | None => self.fail(),
        }
    }

    fn fail(&mut self) {
        self.conn = None;
        self.in_flight = None;
        self.attempts += 1;
        if !self.queue.is_empty() && self.attempts <= ATTEMPTS {
            self.retry = Some(Instant::now() + PAUSE);
        }
    }
}
