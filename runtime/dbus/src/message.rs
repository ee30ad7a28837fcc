//! Messages (specification, "Message Format").

use crate::read::Reader;
use crate::value::{pad, signatures};
use crate::{Malformed, Value};

/// The part of a message that says how long it is.
pub const HEADER_LEN: usize = 16;
/// The longest message taken, in bytes; the specification allows 128 MiB. A service manager's answers and signals are
/// some kilobytes.
const MESSAGE_LEN_MAX: usize = 4 << 20;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method is called.
    Call,
    /// It answers.
    Return,
    /// It answers that it could not.
    Error,
    /// Something has happened.
    Signal,
    /// Of a later specification: to be ignored.
    Unknown,
}

/// A method call to be sent.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Who is called.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// Its interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// The arguments.
    pub arguments: Vec<Value>,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Counted by the sender, from 1.
    pub serial: u32,
    /// Which call it answers.
    pub reply_to: Option<u32>,
    /// Which object a signal is of.
    pub path: Option<String>,
    /// Of which interface it is.
    pub interface: Option<String>,
    /// Which signal or method it is.
    pub member: Option<String>,
    /// The error's name.
    pub error: Option<String>,
    signature: String,
    body: Vec<u8>,
    big_endian: bool,
}

impl Call<'_> {
    /// The bytes to send. An answer is expected; a service need not be started for it (NO_AUTO_START).
    pub fn encode(&self, serial: u32) -> Vec<u8> {
        let field = |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = vec![
            field(1, Value::Path(self.path.to_owned())),
            field(2, Value::str(self.interface)),
            field(3, Value::str(self.member)),
            field(6, Value::str(self.destination)),
        ];
        if !self.arguments.is_empty() {
            fields.push(field(8, Value::Signature(signatures(&self.arguments))));
        }
        let mut body = Vec::new();
        self.arguments.iter().for_each(|argument| argument.write(&mut body));
        let (kind_call, no_auto_start, version) = (1, 2, 1);
        let mut bytes = vec![b'l', kind_call, no_auto_start, version];
        Value::U32(body.len() as u32).write(&mut bytes);
        Value::U32(serial).write(&mut bytes);
        Value::Array("(yv)".to_owned(), fields).write(&mut bytes);
        pad(&mut bytes, 8);
        bytes.extend(body);
        bytes
    }
}

/// How long the message is that begins with these bytes.
pub fn message_len(header: &[u8; HEADER_LEN]) -> Result<usize, Malformed> {
    let number = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        if header[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    if !matches!(header[0], b'l' | b'B') || header[3] != 1 {
        return Err(Malformed("neither byte order nor version are known"));
    }
    let fields = (HEADER_LEN + number(12) as usize).next_multiple_of(8);
    let length = fields.saturating_add(number(4) as usize);
    if length > MESSAGE_LEN_MAX { Err(Malformed("it is too long")) } else { Ok(length) }
}

impl Message {
    /// Reads a whole message.
    pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(Malformed("it ends too early"))?;
        if message_len(header)? != bytes.len() {
            return Err(Malformed("it is not as long as it says"));
        }
        let big_endian = header[0] == b'B';
        let mut reader = Reader::new(bytes, big_endian);
        let head = reader.values("yyyyuua(yv)")?;
        reader.align(8)?;
        let [_, Value::Byte(kind), _, _, _, Value::U32(serial), Value::Array(_, fields)] = &head[..] else {
            return Err(Malformed("not a header"));
        };
        let mut message = Message {
            kind: match kind {
                0 => return Err(Malformed("a message of no kind")),
                1 => Kind::Call,
                2 => Kind::Return,
                3 => Kind::Error,
                4 => Kind::Signal,
                _ => Kind::Unknown,
            },
            serial: *serial,
            reply_to: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            signature: String::new(),
            body: bytes[reader.at()..].to_vec(),
            big_endian,
        };
        fields.iter().try_for_each(|field| message.take_field(field))?;
        Ok(message)
    }

    fn take_field(&mut self, field: &Value) -> Result<(), Malformed> {
        let Value::Struct(pair) = field else { return Err(Malformed("not a header field")) };
        let [Value::Byte(code), Value::Variant(value)] = &pair[..] else {
            return Err(Malformed("not a header field"));
        };
        match (code, &**value) {
            (1, Value::Path(text)) => self.path = Some(text.clone()),
            (2, Value::Str(text)) => self.interface = Some(text.clone()),
            (3, Value::Str(text)) => self.member = Some(text.clone()),
            (4, Value::Str(text)) => self.error = Some(text.clone()),
            (5, Value::U32(serial)) => self.reply_to = Some(*serial),
            (8, Value::Signature(text)) => self.signature.clone_from(text),
            (1..=5 | 8, _) => return Err(Malformed("a header field of the wrong type")),
            // Destination, sender and how many descriptors; later ones must be ignored.
            _ => {}
        }
        Ok(())
    }

    /// Its arguments.
    pub fn arguments(&self) -> Result<Vec<Value>, Malformed> {
        let mut reader = Reader::new(&self.body, self.big_endian);
        let values = reader.values(&self.signature)?;
        if reader.at() == self.body.len() { Ok(values) } else { Err(Malformed("a body longer than its signature")) }
    }
}
