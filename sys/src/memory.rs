//! Giving memory back while a program waits.
//!
//! Owns: what the C library, the stack and the program's own code need not hold while nothing happens. Does not own:
//! when that is worth it; a refault of the code costs tens of microseconds.

use nix::poll::PollFd;

use crate::clone::SingleThreaded;
use crate::{Errno, Result};

unsafe extern "C" {
    // environ(7).
    static environ: *mut *mut libc::c_char;
}

const PAGE: usize = 4096;
/// What is looked at below the stack pointer. The kernel keeps as much unmapped below every stack (stack_guard_gap).
const STACK_LEN: usize = 1 << 20;

/// Returns free heap and the unused stack to the kernel and drops the program's own code from our resident set: it
/// stays in the page cache, which all copies of the program share, and comes back by minor faults when needed.
/// The proof is for the stack: only the first thread's has nothing else below it.
pub fn release(_proof: SingleThreaded) {
    trim_heap();
    drop_stack();
    drop_code();
}

/// Overwrites the environment that this process was started with, which /proc/<pid>/environ shows; looking a variable up
/// finds nothing from now on. The proof: nobody reads it meanwhile.
pub fn forget_environment(_proof: SingleThreaded) {
    // SAFETY: the kernel put the strings onto the stack, writable, and a null pointer behind the last one (execve(2));
    // nothing in this program has changed the list, which takes unsafe code.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            *entry = std::ptr::null_mut();
            entry = entry.add(1);
        }
    }
}

/// [`release`] without the stack, for a program with several threads.
pub fn release_code_and_heap() {
    trim_heap();
    drop_code();
}

/// [`release`] and poll(2) in one: between the two nothing runs that would bring much of the code back.
/// `timeout_ms` as for poll. The number of descriptors that are ready; EINTR as every poll.
pub fn wait_released(_proof: SingleThreaded, fds: &mut [PollFd<'_>], timeout_ms: i32) -> Result<usize> {
    trim_heap();
    drop_stack();
    wait_without_code(fds, timeout_ms)
}

fn wait_without_code(fds: &mut [PollFd<'_>], timeout_ms: i32) -> Result<usize> {
    let (start, len) = code();
    // SAFETY: see `drop_code`; nix's PollFd is `repr(transparent)` over pollfd, and the slice outlives the call.
    let ready = unsafe {
        libc::madvise(start, len, libc::MADV_DONTNEED);
        libc::poll(fds.as_mut_ptr().cast::<libc::pollfd>(), fds.len() as libc::nfds_t, timeout_ms)
    };
    if ready < 0 { Err(Errno::last()) } else { Ok(ready as usize) }
}

fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only returns memory that the allocator holds free.
    unsafe {
        libc::malloc_trim(0);
    }
    #[cfg(target_env = "musl")]
    crate::heap::trim();
}

/// Where headers, constants and code are mapped, in whatever order the linker laid them: from the first segment to the first
/// that may be written to. Nothing if the kernel did not say.
fn code() -> (*mut libc::c_void, usize) {
    // SAFETY: getauxval reads what the kernel left for this program.
    let (headers, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    let headers = headers as *const libc::Elf64_Phdr;
    // SAFETY: the kernel's word; a null pointer gives an empty slice below.
    let all = if headers.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(headers, count as usize) } };
    let own = all.iter().find(|header| header.p_type == libc::PT_PHDR);
    let moved_by = own.map_or(0, |own| (headers as usize).wrapping_sub(own.p_vaddr as usize));
    let mut range = None::<(usize, usize)>;
    // In the order of their addresses, by the ELF specification.
    for header in all.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        if header.p_flags & libc::PF_W != 0 {
            break;
        }
        let start = moved_by.wrapping_add(header.p_vaddr as usize);
        let end = (start + header.p_memsz as usize).next_multiple_of(PAGE);
        range = Some((range.map_or(start & !(PAGE - 1), |(first, _)| first), end));
    }
    let (first, end) = range.unwrap_or((0, 0));
    (first as *mut libc::c_void, end - first)
}

/// The range is the program's file mapped without write permission: headers, constants, code. Relocated data lies
/// behind it. So every page of it can be read again from the file.
fn drop_code() {
    let (start, len) = code();
    // SAFETY: a private mapping that nothing ever wrote to loses nothing by MADV_DONTNEED. Failure changes nothing.
    unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
}

/// Deep calls of the past have left pages below the stack pointer that hold nothing any more.
#[inline(never)]
fn drop_stack() {
    let here = 0u8;
    let top = (std::ptr::addr_of!(here) as usize & !(PAGE - 1)) - 2 * PAGE;
    let start = top.saturating_sub(STACK_LEN) as *mut libc::c_void;
    // SAFETY: below our own frame, the callee's and the red zone of 128 bytes (two pages are left) the stack holds no
    // value. What is not mapped there gives ENOMEM, and nothing else can be: see STACK_LEN.
    unsafe { libc::madvise(start, STACK_LEN, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn resident_kib() -> usize {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[inline(never)]
    fn deep() -> u8 {
        let buffer = std::hint::black_box([1u8; 400 << 10]);
        buffer[std::hint::black_box(77)]
    }

    #[test]
    fn the_stack_of_past_calls_is_given_back_and_the_program_runs_on() {
        assert_eq!(deep(), 1);
        let before = resident_kib();
        drop_stack();
        drop_code();
        trim_heap();
        let after = resident_kib();
        assert!(after + 350 < before, "{before} KiB became {after} KiB");
        assert_eq!(deep(), 1);
    }

    #[test]
    fn waiting_sees_what_is_ready() {
        use std::os::fd::AsFd as _;
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut fds = [PollFd::new(read.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(wait_without_code(&mut fds, 0), Ok(0));
        nix::unistd::write(&write, b"x").unwrap();
        assert_eq!(wait_without_code(&mut fds, -1), Ok(1));
    }
}
