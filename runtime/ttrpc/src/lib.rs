//! The words containerd and its shims exchange: ttrpc frames, the task service, events, cgroup metrics.
//!
//! Owns: shapes and encodings. Does not own: sockets, processes.
//!
//! A frame (github.com/containerd/ttrpc, PROTOCOL.md) is ten bytes, big-endian: length (4) and stream (4) of the data
//! that follows, type (1: request, 2: response), flags (0 for unary calls); the data is protobuf. Streams opened by a
//! client are odd. The `ttrpc` crate serves with threads or tokio; a supervisor that forks must have neither, and what
//! is left of the protocol is this file.

pub mod events;
pub mod metrics;
pub mod options;
pub mod task;

use prost::Message;

/// Bytes before the data.
pub const HEAD_LEN: usize = 10;
/// The longest data either side accepts (ttrpc's `messageLengthMax`).
pub const DATA_LEN_MAX: u32 = 4 << 20;
/// A call.
pub const REQUEST: u8 = 1;
/// Its answer.
pub const RESPONSE: u8 = 2;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which call it belongs to.
    pub stream: u32,
    /// [`REQUEST`] or [`RESPONSE`]; others are of streaming calls.
    pub kind: u8,
    /// Protobuf.
    pub data: Vec<u8>,
}

/// The other side breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ttrpc frame of {len} bytes, more than {DATA_LEN_MAX}")]
pub struct TooLong {
    /// What its head says.
    pub len: u32,
}

impl Frame {
    /// As it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.data.len());
        bytes.extend_from_slice(&(self.data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&[self.kind, 0]);
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// Takes the first whole frame off `input`.
    ///
    /// # Errors
    /// If its head promises more than [`DATA_LEN_MAX`].
    pub fn take(input: &mut Vec<u8>) -> Result<Option<Frame>, TooLong> {
        let Some(&[a, b, c, d, e, f, g, h, kind, _flags]) = input.first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let (len, stream) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        if len > DATA_LEN_MAX {
            return Err(TooLong { len });
        }
        let end = HEAD_LEN + len as usize;
        if input.len() < end {
            return Ok(None);
        }
        let data = input[HEAD_LEN..end].to_vec();
        input.drain(..end);
        Ok(Some(Frame { stream, kind, data }))
    }
}

/// What a [`REQUEST`] carries.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// E.g. `containerd.task.v2.Task`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// E.g. `Create`.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// In nanoseconds; 0 has no end.
    #[prost(int64, tag = "4")]
    pub timeout_ns: i64,
}

/// What a [`RESPONSE`] carries.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// Absent or code 0: it went well.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// Why a call failed (google.rpc.Status).
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// One of [`Code`].
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people, and for callers that look for words in it.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// The codes containerd acts on (google.rpc.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Anything else.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// No such task, process, or it has ended.
    NotFound = 5,
    /// It is there.
    AlreadyExists = 6,
    /// It is in a state that forbids this.
    FailedPrecondition = 9,
    /// No such call here.
    Unimplemented = 12,
}

/// google.protobuf.Any: bytes and what they are.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// E.g. `containerd.events.TaskExit`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Encoded as that says.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// google.protobuf.Timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Since the epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// From nanoseconds since the epoch.
    pub fn from_ns(ns: u128) -> Timestamp {
        Timestamp { seconds: (ns / 1_000_000_000) as i64, nanos: (ns % 1_000_000_000) as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_looks_as_containerds() {
        let request = Request { service: "s".into(), method: "m".into(), payload: vec![7], timeout_ns: 0 };
        let frame = Frame { stream: 3, kind: REQUEST, data: request.encode_to_vec() };
        assert_eq!(frame.encode(), [0, 0, 0, 9, 0, 0, 0, 3, 1, 0, 10, 1, b's', 18, 1, b'm', 26, 1, 7]);
    }

    #[test]
    fn a_frame_that_promises_too_much_is_refused() {
        let mut input = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0];
        assert_eq!(Frame::take(&mut input), Err(TooLong { len: u32::MAX }));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_arrive(
            sent in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..50)), 0..5),
            chunk in 1usize..20,
        ) {
            let frames: Vec<Frame> =
                sent.into_iter().map(|(stream, data)| Frame { stream, kind: REQUEST, data }).collect();
            let wire: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let (mut input, mut got) = (Vec::new(), Vec::new());
            for piece in wire.chunks(chunk) {
                input.extend_from_slice(piece);
                while let Some(frame) = Frame::take(&mut input).unwrap_or(None) {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::decode(&bytes[..]);
            let _ = task::CreateRequest::decode(&bytes[..]);
            let _ = options::RuncOptions::decode(&bytes[..]);
            let _ = options::CheckpointOptions::decode(&bytes[..]);
            let _ = Frame::take(&mut bytes.clone());
        }
    }
}
