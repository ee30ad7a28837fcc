//! A program that starts without Rust's own preparations, for one that runs for a millisecond.
//!
//! Before `main` the standard library reads /proc/self/maps and sets up a stack for reporting overflows of the stack: some
//! fifteen system calls. [`main!`](crate::main) leaves that out and keeps what is more than comfort: descriptors 0, 1 and 2
//! are open, and a broken pipe is an error instead of the end.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

/// Defines the C library's `main`: prepares, then ends with what the function gives (an exit code), which gets the program's
/// arguments: the standard library knows them only with glibc. The crate must be `#![no_main]`.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: i32, argv: *const *const $crate::start::Char) -> i32 {
            $crate::start::prepare();
            // SAFETY: the C library's promise to `main`.
            let arguments = unsafe { $crate::start::arguments(argc, argv) };
            std::process::exit($run(&arguments))
        }
    };
}

/// What an argument is made of.
pub type Char = libc::c_char;

/// The program's arguments.
///
/// # Safety
/// `argv` holds `argc` strings, as for C's `main`.
pub unsafe fn arguments(argc: i32, argv: *const *const Char) -> Vec<OsString> {
    let one = |at: usize| {
        // SAFETY: the caller's promise; `at` is below argc.
        let word = unsafe { CStr::from_ptr(*argv.add(at)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    (0..usize::try_from(argc).unwrap_or(0)).map(one).collect()
}

/// Nothing that is opened later may become stdin, stdout or stderr; nor may output to nobody kill us.
pub fn prepare() {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let one = |fd| PollFd::new(fd, PollFlags::empty());
    let mut fds = [one(stdin.as_fd()), one(stdout.as_fd()), one(stderr.as_fd())];
    let known = poll(&mut fds, PollTimeout::ZERO).is_ok();
    let closed = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL));
    if !known || fds.iter().any(closed) {
        fill_closed();
    }
    // It cannot fail: the signal exists.
    let _ignored = crate::signal::ignore(Signal::SIGPIPE);
}

/// Opens /dev/null until all three are taken: the lowest free number is used first.
fn fill_closed() {
    loop {
        match crate::open::at(nix::fcntl::AT_FDCWD, c"/dev/null", libc::O_RDWR, 0) {
            Ok(fd) if std::os::fd::AsRawFd::as_raw_fd(&fd) <= 2 => {
                // Inherited by what we start, as the others are.
                let _open_at_least = crate::fd::keep_on_exec(&fd);
                std::mem::forget(fd);
            }
            Ok(_) => return,
            // Without it nothing that follows could be trusted to go where it should.
            Err(_) => std::process::abort(),
        }
    }
}
