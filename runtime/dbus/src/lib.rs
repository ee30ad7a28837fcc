//! D-Bus as far as talking to a service manager needs it: values, messages, the opening words, and values written as
//! text (D-Bus specification 0.43; GVariant text format).
//!
//! Owns: bytes and text to values and back. Does not own: a socket, and what is said. No descriptors are passed.

mod message;
mod read;
mod signature;
mod text;
mod value;

pub use message::{Call, HEADER_LEN, Kind, Message, message_len};
pub use text::parse;
pub use value::Value;

/// Bytes that are no D-Bus, or more than we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed D-Bus message: {0}")]
pub struct Malformed(pub &'static str);

/// Text that is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {why}")]
pub struct NotAValue {
    /// In bytes from the start.
    pub at: usize,
    /// Why.
    pub why: &'static str,
}

/// What a client says first, all at once as sd-bus does: who we are is asked of the socket, so that it holds in a user
/// namespace too (specification, "Authentication Protocol"; the NUL comes before all).
pub const OPENING: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

/// What a line of the server's answer to [`OPENING`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// More lines follow.
    NotYet,
    /// Messages follow.
    Yes,
    /// We are not let in.
    Refused,
}

/// Reads one line, without its end.
pub fn opened(line: &[u8]) -> Opened {
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    match word.strip_suffix(b"\r").unwrap_or(word) {
        b"OK" => Opened::Yes,
        b"DATA" => Opened::NotYet,
        _ => Opened::Refused,
    }
}
