//! Signatures: which types follow each other (specification, "Type System").

use crate::Malformed;

/// Containers may lie this deep in each other: 32 arrays and 32 structs.
pub const DEPTH_MAX: usize = 64;

/// The first complete type of a signature, and the rest.
pub fn first(signature: &str) -> Result<(&str, &str), Malformed> {
    let length = complete(signature.as_bytes(), 0)?;
    Ok(signature.split_at(length))
}

/// All complete types.
pub fn split(mut signature: &str) -> Result<Vec<&str>, Malformed> {
    let mut types = Vec::new();
    while !signature.is_empty() {
        let (one, rest) = first(signature)?;
        types.push(one);
        signature = rest;
    }
    Ok(types)
}

/// How many bytes the first complete type takes. Signatures are ASCII, so every length is a boundary of characters.
fn complete(signature: &[u8], depth: usize) -> Result<usize, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("types lie too deep in each other"));
    }
    match signature.first() {
        Some(b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v') => Ok(1),
        Some(b'a') if signature.get(1) == Some(&b'{') => entry(signature, depth + 1),
        Some(b'a') => Ok(1 + complete(&signature[1..], depth + 1)?),
        Some(b'(') => {
            let mut length = 1;
            while signature.get(length) != Some(&b')') {
                length += complete(signature.get(length..).unwrap_or_default(), depth + 1)?;
            }
            if length == 1 { Err(Malformed("a struct without fields")) } else { Ok(length + 1) }
        }
        _ => Err(Malformed("not a type")),
    }
}

/// `a{kv}`: the key is of a basic type.
fn entry(signature: &[u8], depth: usize) -> Result<usize, Malformed> {
    let key = complete(signature.get(2..).unwrap_or_default(), depth)?;
    if key != 1 || signature[2] == b'v' {
        return Err(Malformed("a dictionary's key is of a basic type"));
    }
    let value = complete(signature.get(3..).unwrap_or_default(), depth)?;
    if signature.get(3 + value) == Some(&b'}') { Ok(4 + value) } else { Err(Malformed("a dictionary entry is a pair")) }
}

/// To how many bytes a type is aligned (specification, "Summary of D-Bus marshalling").
pub fn alignment(kind: u8) -> usize {
    match kind {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        let table: [(&str, Option<&[&str]>); 12] = [
            ("", Some(&[])),
            ("s", Some(&["s"])),
            ("ssa(sv)a(sa(sv))", Some(&["s", "s", "a(sv)", "a(sa(sv))"])),
            ("a{sv}u", Some(&["a{sv}", "u"])),
            ("a{s(ii)}", Some(&["a{s(ii)}"])),
            ("aay", Some(&["aay"])),
            ("a", None),
            ("()", None),
            ("(s", None),
            ("{sv}", None),
            ("a{vs}", None),
            ("zä", None),
        ];
        for (signature, expected) in table {
            assert_eq!(split(signature).ok().as_deref(), expected, "{signature}");
        }
        assert!(split(&"a".repeat(1000)).is_err());
        assert!(split(&"(".repeat(1000)).is_err());
    }
}
