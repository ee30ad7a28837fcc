//! Values, and writing them (specification, "Marshaling").

use crate::signature::{alignment, first};

/// One value of one complete type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`: the elements' signature, which an empty array has too, and the elements, all of that type.
    Array(String, Vec<Value>),
    /// `(…)`, never empty.
    Struct(Vec<Value>),
    /// `{kv}`, in arrays only.
    Entry(Box<Value>, Box<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn str(text: impl Into<String>) -> Value {
        Value::Str(text.into())
    }

    /// An array of strings.
    pub fn strings(texts: &[&str]) -> Value {
        Value::Array("s".to_owned(), texts.iter().map(|text| Value::str(*text)).collect())
    }

    /// An array of bytes.
    pub fn bytes(bytes: &[u8]) -> Value {
        Value::Array("y".to_owned(), bytes.iter().map(|byte| Value::Byte(*byte)).collect())
    }

    /// Its type.
    pub fn signature(&self) -> String {
        match self {
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(fields) => format!("({})", signatures(fields)),
            Value::Entry(key, value) => format!("{{{}{}}}", key.signature(), value.signature()),
            basic => char::from(basic.kind()).to_string(),
        }
    }

    /// Whether a message may hold it: values at most `depth_max` deep in each other, and types of at most 255 bytes, its own
    /// and those of variants in it (specification, "Type System").
    pub(crate) fn check(&self, depth_max: usize) -> Result<(), &'static str> {
        self.check_type()?;
        self.check_inner(depth_max)
    }

    fn check_type(&self) -> Result<(), &'static str> {
        let own = self.signature();
        if own.len() <= 255 && first(&own).is_ok() { Ok(()) } else { Err("its type is too long") }
    }

    fn check_inner(&self, left: usize) -> Result<(), &'static str> {
        let next = || left.checked_sub(1).ok_or("values lie too deep in each other");
        match self {
            Value::Array(_, values) | Value::Struct(values) => {
                let next = next()?;
                values.iter().try_for_each(|value| value.check_inner(next))
            }
            Value::Entry(key, value) => {
                let next = next()?;
                key.check_inner(next).and_then(|()| value.check_inner(next))
            }
            Value::Variant(value) => {
                value.check_type()?;
                value.check_inner(next()?)
            }
            _basic => Ok(()),
        }
    }

    /// The first character of its type.
    fn kind(&self) -> u8 {
        match self {
            Value::Byte(_) => b'y',
            Value::Bool(_) => b'b',
            Value::I16(_) => b'n',
            Value::U16(_) => b'q',
            Value::I32(_) => b'i',
            Value::U32(_) => b'u',
            Value::I64(_) => b'x',
            Value::U64(_) => b't',
            Value::F64(_) => b'd',
            Value::Str(_) => b's',
            Value::Path(_) => b'o',
            Value::Signature(_) => b'g',
            Value::Array(..) => b'a',
            Value::Struct(_) => b'(',
            Value::Entry(..) => b'{',
            Value::Variant(_) => b'v',
        }
    }

    /// Appends it, little-endian, aligned from `out`'s start.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.kind()));
        match self {
            Value::Byte(number) => out.push(*number),
            Value::Bool(yes) => out.extend(u32::from(*yes).to_le_bytes()),
            Value::I16(number) => out.extend(number.to_le_bytes()),
            Value::U16(number) => out.extend(number.to_le_bytes()),
            Value::I32(number) => out.extend(number.to_le_bytes()),
            Value::U32(number) => out.extend(number.to_le_bytes()),
            Value::I64(number) => out.extend(number.to_le_bytes()),
            Value::U64(number) => out.extend(number.to_le_bytes()),
            Value::F64(number) => out.extend(number.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => write_signature(text, out),
            Value::Array(element, elements) => write_array(element, elements, out),
            Value::Struct(fields) => fields.iter().for_each(|field| field.write(out)),
            Value::Entry(key, value) => {
                key.write(out);
                value.write(out);
            }
            Value::Variant(value) => {
                write_signature(&value.signature(), out);
                value.write(out);
            }
        }
    }
}

/// The signature of values in a row.
pub fn signatures(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

/// Zeroes up to the next multiple.
pub fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn write_signature(text: &str, out: &mut Vec<u8>) {
    // At most 255 by the specification; ours are written in this program or were checked as they were read.
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
    out.push(0);
}

/// The length counts neither itself nor the padding before the first element, which is there even without elements.
fn write_array(element: &str, elements: &[Value], out: &mut Vec<u8>) {
    let length_at = out.len();
    out.extend([0; 4]);
    pad(out, element.bytes().next().map_or(1, alignment));
    let start = out.len();
    elements.iter().for_each(|element| element.write(out));
    let length = (out.len() - start) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}
