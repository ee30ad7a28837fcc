//! clone3: a child in its namespaces, its cgroup, with its pidfd, in one call.
//!
//! Owns: the call and the promise that the child never returns. Does not own: what the child does.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

use crate::{Errno, Result, check};

/// Proof that this process has one thread, so that a forked child may use the heap.
#[derive(Debug, Clone, Copy)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Asks the kernel whether we are one thread: it refuses CLONE_THREAD to others, and it changes nothing (unshare(2)).
    /// The caller promises not to start any afterwards.
    pub fn assert() -> Option<SingleThreaded> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_THREAD).ok().map(|()| SingleThreaded(()))
    }
}

/// How the child differs from us.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneArgs<'a> {
    /// CLONE_NEW* flags and CLONE_PARENT.
    pub flags: u64,
    /// A cgroup v2 directory for the child to be born in (CLONE_INTO_CGROUP, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks; the child runs `child` and never returns to the caller.
pub fn clone3(
    _proof: SingleThreaded,
    args: CloneArgs<'_>,
    child: impl FnOnce() -> Infallible,
) -> Result<(Pid, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let mut raw = RawCloneArgs {
        flags: args.flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        // With CLONE_PARENT the kernel demands 0 and uses ours.
        exit_signal: if args.flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of all memory, on its own stack, and `raw`
    // and `pidfd` outlive the call. The proof says there is one thread, so no lock can be held by a lost one.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut raw, size_of::<RawCloneArgs>()) })?;
    if pid == 0 {
        child();
    }
    // SAFETY: CLONE_PIDFD made this descriptor for us (close-on-exec by definition).
    Ok((Pid::from_raw(pid as i32), unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Ends this process at once: no destructors, no buffers flushed. For children that share our buffers.
pub fn exit_now(code: i32) -> Infallible {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Forks into the background as daemons do; only the child returns `Ok(true)`.
pub fn fork(_proof: SingleThreaded) -> Result<Option<Pid>> {
    // SAFETY: the proof says there is one thread, so the child may go on like any program.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Replaces this program; returns only on failure. Pointers are built by the caller, before any fork.
pub fn exec(program: &std::ffi::CStr, argv: &PointerArray, envp: &PointerArray) -> Errno {
    // SAFETY: both arrays are NULL-terminated and own the strings they point to.
    unsafe { libc::execve(program.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// Replaces this program by the one open at `program`; returns only on failure.
pub fn exec_fd(program: BorrowedFd<'_>, argv: &PointerArray, envp: &PointerArray) -> Errno {
    // SAFETY: both arrays are NULL-terminated and own the strings they point to; the path is empty by AT_EMPTY_PATH.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// A NULL-terminated array of C strings, ready for execve.
#[derive(Debug)]
pub struct PointerArray {
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

impl PointerArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<std::ffi::CString>) -> PointerArray {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        PointerArray { _strings: strings, pointers }
    }
}
