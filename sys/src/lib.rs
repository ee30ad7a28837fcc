//! The system calls that nix and rustix lack, and the only `unsafe` of the workspace.
//!
//! Owns: one thin wrapper per call, taking and giving `OwnedFd`/`BorrowedFd`, close-on-exec always, and the few
//! helpers every process-spawning crate needs. Does not own: any decision. Errors are bare [`Errno`]s; whoever
//! knows what was tried, on what and why renders the sentence.

pub mod bpf;
pub mod clone;
pub mod cred;
pub mod early;
pub mod fd;
pub mod heap;
pub mod memory;
pub mod mount;
pub mod net;
pub mod netns;
pub mod open;
pub mod out;
pub mod pidfd;
pub mod process;
pub mod sched;
pub mod scm;
pub mod seccomp;
pub mod signal;
pub mod start;
pub mod tty;
pub mod xattr;

pub use nix::errno::Errno;

/// What every wrapper of this crate returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// Turns a raw system call's result into a [`Result`].
fn check(ret: libc::c_long) -> Result<libc::c_long> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
