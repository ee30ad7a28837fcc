//! Reading values.

use crate::signature::{DEPTH_MAX, alignment, first, split};
use crate::{Malformed, Value};

/// A place in bytes that begin at a multiple of eight of their message.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], big_endian: bool) -> Reader<'a> {
        Reader { bytes, at: 0, big_endian }
    }

    /// The values of a signature.
    pub fn values(&mut self, signature: &str) -> Result<Vec<Value>, Malformed> {
        split(signature)?.into_iter().map(|one| self.value(one, 0)).collect()
    }

    /// How far it has read.
    pub fn at(&self) -> usize {
        self.at
    }

    fn value(&mut self, kind: &str, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed("values lie too deep in each other"));
        }
        let letter = kind.bytes().next().unwrap_or_default();
        self.align(alignment(letter))?;
        Ok(match letter {
            b'y' => Value::Byte(u8::from_le_bytes(self.number()?)),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed("a boolean other than 0 and 1")),
            },
            b'n' => Value::I16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.number()?)),
            b't' => Value::U64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::F64(f64::from_le_bytes(self.number()?)),
            b's' => Value::Str(self.string()?),
            b'o' => Value::Path(self.string()?),
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let kind = self.signature()?;
                let (one, rest) = first(&kind)?;
                if !rest.is_empty() {
                    return Err(Malformed("a variant of more than one type"));
                }
                Value::Variant(Box::new(self.value(one, depth + 1)?))
            }
            b'a' => self.array(&kind[1..], depth + 1)?,
            b'(' => {
                let fields = split(&kind[1..kind.len() - 1])?;
                Value::Struct(fields.into_iter().map(|field| self.value(field, depth + 1)).collect::<Result<_, _>>()?)
            }
            _ => return Err(Malformed("not a type")),
        })
    }

    fn array(&mut self, element: &str, depth: usize) -> Result<Value, Malformed> {
        let length = self.u32()? as usize;
        self.align(element.bytes().next().map_or(1, alignment))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Malformed("an array longer than the message"))?;
        let mut elements = Vec::new();
        while self.at < end {
            elements.push(match element.strip_prefix('{') {
                Some(pair) => self.entry(&pair[..pair.len() - 1], depth)?,
                None => self.value(element, depth)?,
            });
        }
        if self.at == end {
            Ok(Value::Array(element.to_owned(), elements))
        } else {
            Err(Malformed("an array's length cuts an element"))
        }
    }

    fn entry(&mut self, pair: &str, depth: usize) -> Result<Value, Malformed> {
        self.align(8)?;
        let (key, value) = first(pair)?;
        Ok(Value::Entry(Box::new(self.value(key, depth + 1)?), Box::new(self.value(value, depth + 1)?)))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = self.take(1)?[0];
        self.text(usize::from(length))
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_no_utf8| Malformed("a string that is not UTF-8"))?;
        if text.contains('\0') || self.take(1)? != [0] {
            return Err(Malformed("a string that does not end with its one NUL"));
        }
        Ok(text.to_owned())
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    /// The next bytes, the least significant first.
    fn number<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    /// Padding is of zeroes only.
    pub fn align(&mut self, alignment: usize) -> Result<(), Malformed> {
        let padding = self.at.next_multiple_of(alignment) - self.at;
        if self.take(padding)?.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Malformed("padding other than 0")) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed("a length beyond all bounds"))?;
        let bytes = self.bytes.get(self.at..end).ok_or(Malformed("it ends too early"))?;
        self.at = end;
        Ok(bytes)
    }
}
