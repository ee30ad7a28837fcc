//! The very first instructions of `pintle-runc`, before the C library starts.
//!
//! A program that enters containers must run from a read-only copy of its mount (CVE-2019-5736). Executing it from there
//! after the C library and Rust have started costs their start for nothing. So the program's entry point looks at its
//! arguments and does it at once. A static program needs no exec for it either: nothing has been written to its memory yet,
//! so its pages are mapped anew from the copy, and that is made its file. Where that is not allowed it executes itself.
//!
//! Owns: the entry point `pintle_entry`, chosen by the linker flag in runtime/build.rs. Does not own: the decision
//! whether the program is protected; `runtime/src/protect.rs` asks again, and does it the slow way if this could not.
//!
//! Nothing here may use the C library, thread-local storage, or the compiler's calls to `memcpy` and its like: in a static
//! program these are not yet relocated.

use std::sync::atomic::{AtomicBool, Ordering};

static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Whether this program already runs from a read-only mount that has no place, by what was done before it started.
pub fn is_protected() -> bool {
    PROTECTED.load(Ordering::Relaxed)
}

#[cfg(target_arch = "x86_64")]
mod entry;
#[cfg(target_arch = "x86_64")]
mod raw;
#[cfg(target_arch = "x86_64")]
mod remap;
