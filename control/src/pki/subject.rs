//! A certificate's subject with several organizations.
//!
//! rcgen keeps one value per type of name, so a subject of two groups would lose one. Here the certificate it made is
//! taken apart, gets the whole subject, and is signed again. Owns: that bit of DER (ITU-T X.690). Does not own: anything
//! else a certificate says.

use rcgen::SigningKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Subject;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
/// 2.5.4.10 and 2.5.4.3 (RFC 5280 appendix A.1), with tag and length.
const ORGANIZATION: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x0a];
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

/// The same certificate for the whole of `subject`, DER. None if `made` is not a certificate.
///
/// # Errors
/// A key that refuses to sign.
pub(super) fn with_subject(
    made: &[u8],
    subject: &Subject,
    key: &impl SigningKey,
) -> Result<Option<Vec<u8>>, rcgen::Error> {
    let Ok((_, parsed)) = X509Certificate::from_der(made) else { return Ok(None) };
    let (whole, old) = (parsed.tbs_certificate.as_ref(), parsed.subject().as_raw());
    let Some(contents) = contents(whole) else { return Ok(None) };
    // The parser's slices are parts of one buffer: their distance is the place of the one in the other.
    let at = old.as_ptr().addr().wrapping_sub(contents.as_ptr().addr());
    let (Some(before), Some(after)) = (contents.get(..at), contents.get(at + old.len()..)) else { return Ok(None) };
    let tbs = element(SEQUENCE, &[before, &name(subject), after].concat());
    let mut signature = vec![0];
    signature.extend(key.sign(&tbs)?);
    // After the part that is signed comes how it is signed, which stays.
    let Some(rest) = self::contents(made).and_then(|all| all.get(whole.len()..)) else { return Ok(None) };
    let Some(algorithm) = rest.get(..element_length(rest)) else { return Ok(None) };
    Ok(Some(element(SEQUENCE, &[&tbs, algorithm, &element(BIT_STRING, &signature)].concat())))
}

/// One relative name per value, organizations first, as `openssl` and rcgen write them.
fn name(subject: &Subject) -> Vec<u8> {
    let organizations = subject.organizations.iter().map(|value| (ORGANIZATION, value));
    let parts = organizations.chain([(COMMON_NAME, &subject.common_name)]);
    let relative = |(kind, value): (&[u8], &String)| {
        let value = element(UTF8_STRING, value.as_bytes());
        element(SET, &element(SEQUENCE, &[kind, &value].concat()))
    };
    element(SEQUENCE, &parts.flat_map(relative).collect::<Vec<u8>>())
}

/// Tag, length, contents.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let bytes = contents.len().to_be_bytes();
    let mut out = vec![tag];
    match u8::try_from(contents.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let significant = bytes.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<_>>();
            // A length has at most eight bytes.
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            out.extend(significant);
        }
    }
    out.extend_from_slice(contents);
    out
}

/// How many bytes the head (tag and length) and the contents of the first element take.
fn lengths(der: &[u8]) -> Option<(usize, usize)> {
    let first = *der.get(1)?;
    if first < 0x80 {
        return Some((2, first.into()));
    }
    let count = usize::from(first & 0x7f);
    let bytes = der.get(2..2 + count)?;
    Some((2 + count, bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte))))
}

fn contents(der: &[u8]) -> Option<&[u8]> {
    let (head, length) = lengths(der)?;
    der.get(head..head + length)
}

fn element_length(der: &[u8]) -> usize {
    lengths(der).map_or(0, |(head, length)| head + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_short_where_they_fit_and_read_back() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let written = element(SEQUENCE, &vec![7; length]);
            assert_eq!(contents(&written).map(<[u8]>::len), Some(length));
            assert_eq!(element_length(&written), written.len());
        }
        assert_eq!(element(SET, &[1; 3]), [SET, 3, 1, 1, 1]);
        assert_eq!(element(SET, &[1; 200]).get(..3), Some(&[SET, 0x81, 200][..]));
    }
}
