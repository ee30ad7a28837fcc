//! Handing out slots while a plan is written.

use std::ffi::CString;
use std::path::Path;

use crate::step::{Slot, Target};

/// Counts the slots a plan uses.
#[derive(Debug)]
pub struct Slots(u16);

impl Slots {
    /// None used but the fixed ones.
    pub fn new() -> Slots {
        Slots(Slot::FIRST_FREE)
    }

    /// A fresh one.
    pub fn take(&mut self) -> Slot {
        let slot = Slot(self.0);
        self.0 += 1;
        slot
    }

    /// How many a walker needs.
    pub fn count(&self) -> u16 {
        self.0
    }
}

/// A C string. Validation refuses NUL bytes in config.json before any plan is made; were one to slip through,
/// the text is cut there, as the kernel would.
pub fn c(text: impl AsRef<std::ffi::OsStr>) -> CString {
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(text.as_ref());
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// A path inside the container with its prefixes. `.` and empty components vanish; `..` stays for the kernel,
/// which keeps it beneath the root.
pub fn target(path: &Path) -> Target {
    let text = path.to_string_lossy();
    let mut walk = Vec::new();
    let mut prefix = String::new();
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        prefix.push('/');
        prefix.push_str(part);
        walk.push((c(&prefix), c(part)));
    }
    let path = if prefix.is_empty() { c("/") } else { c(&prefix) };
    Target { path, walk }
}
