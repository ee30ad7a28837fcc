//! What a program says to whoever started it.
//!
//! `println!` panics when its reader is gone, because Rust's start-up code ignores SIGPIPE. Taking the default action for
//! the whole process instead would let any socket whose other end is gone kill a supervisor.

use std::fmt::Display;
use std::io::Write as _;

use nix::sys::signal::{Signal, raise};

use crate::{Errno, Result, signal};

/// Writes `text` and the end of its line to stdout, at once. When nobody reads any more this ends the program as it ends
/// others, silently by SIGPIPE (signal(7)): whoever wants to know (`pipefail`) is told so.
///
/// # Errors
/// What write(2) says. EPIPE only where SIGPIPE does not kill: for the first process of a pid namespace.
pub fn line(text: impl Display) -> Result<()> {
    let text = format!("{text}\n");
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            signal::reset_all()?;
            raise(Signal::SIGPIPE)?;
            Err(Errno::EPIPE)
        }
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// Writes `text` and the end of its line to stderr, for people; that nobody reads it changes nothing.
pub fn note(text: impl Display) {
    let _nobody_reads_it = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
