//! Protobuf's wire format: fields, numbers and bytes (protobuf.dev, Encoding).

/// Why bytes are not what their envelope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("the message ends in the middle of a field")]
    Truncated,
    #[error("a field has a wire type that protobuf does not know")]
    WireType,
    #[error("a field is of another type than its number says")]
    Mismatch,
    #[error("text is not UTF-8")]
    Text,
    #[error("a field that holds JSON holds something else")]
    Json,
}

pub(super) fn text(bytes: &[u8]) -> Result<String, WireError> {
    std::str::from_utf8(bytes).map(ToOwned::to_owned).map_err(|_| WireError::Text)
}

/// What a field holds on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order; stops at the first that is malformed.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Truncated)?;
            self.0 = rest;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(WireError::Truncated)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WireError> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or(WireError::Truncated)?;
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::WireType)?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let count = self.varint()?;
                Wire::Bytes(self.take(count)?)
            }
            5 => Wire::Bytes(self.take(4)?),
            _ => return Err(WireError::WireType),
        };
        Ok((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
