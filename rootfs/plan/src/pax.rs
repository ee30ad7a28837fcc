//! PAX records: the `<length> <key>=<value>\n` lines before an entry (POSIX.1-2017, pax, "Extended Header").
//!
//! The length is what delimits a record: values such as `security.capability` are binary and may contain a newline,
//! which is why records are read here and not by the crate `tar`, which splits at newlines.

/// Records that change how the following entry is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Replaces the header's path.
    pub path: Option<Vec<u8>>,
    /// Replaces the header's link target.
    pub link: Option<Vec<u8>>,
    /// Replaces the header's size.
    pub bytes: Option<u64>,
    /// Replaces the header's owner.
    pub uid: Option<u64>,
    /// Replaces the header's group.
    pub gid: Option<u64>,
    /// Replaces the header's modification time.
    pub mtime: Option<crate::entry::Mtime>,
    /// Extended attributes by name, in order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the entry's data is a sparse map.
    pub sparse: bool,
}

/// A record that breaks the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaxError {
    /// The length in front of a record is missing or wrong.
    #[error("a PAX record at byte {offset} has no valid length")]
    Length {
        /// Where in the extended header.
        offset: usize,
    },
    /// There is no `=`, or no newline at the end.
    #[error("the PAX record at byte {offset} is not <length> <key>=<value>")]
    Shape {
        /// Where in the extended header.
        offset: usize,
    },
    /// A number that is none.
    #[error("the PAX record {key:?} has the value {value:?}, which is not a number")]
    Number {
        /// The record's key.
        key: String,
        /// Its value.
        value: String,
    },
}

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Reads the records of one extended header. An empty value takes a record back, as POSIX says.
pub fn parse(data: &[u8]) -> Result<Records, PaxError> {
    let mut records = Records::default();
    let mut offset = 0;
    while offset < data.len() {
        let length = record_length(&data[offset..]).ok_or(PaxError::Length { offset })?;
        let record = &data[offset..offset + length];
        let (key, value) = key_value(record).ok_or(PaxError::Shape { offset })?;
        records.take(key, value)?;
        offset += length;
    }
    Ok(records)
}

/// The record's whole length, digits and newline included, when it lies within `data`.
fn record_length(data: &[u8]) -> Option<usize> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    (length > space + 1 && length <= data.len()).then_some(length)
}

fn key_value(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = record.iter().position(|b| *b == b' ')? + 1;
    let body = record[start..].strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..]))
}

impl Records {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), PaxError> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.bytes = number(key, value)?,
            b"uid" => self.uid = number(key, value)?,
            b"gid" => self.gid = number(key, value)?,
            b"mtime" => self.mtime = mtime(key, value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn not_a_number(key: &[u8], value: &[u8]) -> PaxError {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    PaxError::Number { key: text(key), value: text(value) }
}

fn number(key: &[u8], value: &[u8]) -> Result<Option<u64>, PaxError> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| not_a_number(key, value))
}

fn mtime(key: &[u8], value: &[u8]) -> Result<Option<crate::entry::Mtime>, PaxError> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = std::str::from_utf8(value).ok().and_then(crate::entry::Mtime::from_pax);
    parsed.map(Some).ok_or_else(|| not_a_number(key, value))
}

/// Writes one record.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_binary_value_may_contain_newlines() {
        let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let mut data = record("SCHILY.xattr.security.capability", capability);
        data.extend(record("path", b"bin/ping"));
        let records = parse(&data).unwrap();
        assert_eq!(records.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
        assert_eq!(records.path.as_deref(), Some(b"bin/ping".as_slice()));
    }

    #[test]
    fn records_that_break_the_format_are_named() {
        for (data, want) in [
            ("x path=a\n", PaxError::Length { offset: 0 }),
            ("99 path=a\n", PaxError::Length { offset: 0 }),
            ("2 \n", PaxError::Length { offset: 0 }),
            ("6 path\n", PaxError::Shape { offset: 0 }),
            ("10 size=x\n", PaxError::Number { key: "size".to_owned(), value: "x".to_owned() }),
        ] {
            assert_eq!(parse(data.as_bytes()), Err(want), "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn any_record_reads_back(value in proptest::collection::vec(any::<u8>(), 1..300)) {
            let records = parse(&record("SCHILY.xattr.user.a", &value)).unwrap();
            prop_assert_eq!(records.xattrs, vec![(b"user.a".to_vec(), value)]);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&data);
        }
    }
}
