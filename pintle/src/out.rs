//! Data on standard output, words for people on standard error.

use anyhow::{Context as _, Result};
use std::fmt::Display;

pub use pintle_sys::out::note;

/// Data, and the end of its line. A reader that is gone ends the program, silently.
pub fn line(text: impl Display) -> Result<()> {
    pintle_sys::out::line(text).context("cannot write to standard output")
}
