//! Paths inside a layer: what an archive may call a thing.

use std::fmt;

use crate::entry::{Refusal, Why, lossy};

/// linux/limits.h, `NAME_MAX`.
pub(crate) const NAME_LENGTH_MAX: usize = 255;
/// linux/limits.h, `PATH_MAX`, less the terminating zero.
pub(crate) const PATH_LENGTH_MAX: usize = 4095;

/// A normalised path beneath the layer's root: no leading slash, no `.` or `..`, never empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// The bytes, components separated by single slashes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory above, unless that is the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// The directory above as bytes; empty for the root.
    pub fn parent_bytes(&self) -> &[u8] {
        self.0.iter().rposition(|b| *b == b'/').map_or(&[], |slash| &self.0[..slash])
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.0.iter().rposition(|b| *b == b'/').map_or(&self.0, |slash| &self.0[slash + 1..])
    }

    /// Normalises raw bytes of an archive. `Ok(None)` is the root itself. A leading slash is dropped, as every engine
    /// does: a layer's root is the image's root. `..` is refused even where it would not leave, because what it means
    /// depends on symlinks.
    pub fn parse(raw: &[u8]) -> Result<Option<Self>, Refusal> {
        let fail = |why| Err(Refusal { path: lossy(raw), why });
        if raw.is_empty() {
            return fail(Why::EmptyPath);
        }
        if raw.contains(&0) {
            return fail(Why::ZeroByte);
        }
        let mut path = Vec::with_capacity(raw.len());
        for component in raw.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return fail(Why::DotDot),
                name if name.len() > NAME_LENGTH_MAX => return fail(Why::NameTooLong),
                name => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                }
            }
        }
        if path.len() > PATH_LENGTH_MAX {
            return fail(Why::PathTooLong);
        }
        Ok((!path.is_empty()).then_some(Self(path)))
    }

    pub(crate) fn sibling(&self, name: &[u8]) -> Self {
        let mut path = self.parent_bytes().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lossy(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_parsed_path_never_leaves_its_root(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(path)) = LayerPath::parse(&raw) {
                prop_assert!(!path.as_bytes().starts_with(b"/"));
                for name in path.as_bytes().split(|b| *b == b'/') {
                    prop_assert!(!name.is_empty() && name != b"." && name != b"..");
                }
                prop_assert_eq!(LayerPath::parse(path.as_bytes()).unwrap(), Some(path));
            }
        }
    }
}
