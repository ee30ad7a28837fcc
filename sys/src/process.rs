//! Starting programs in other surroundings: a network namespace, a session, bound to their parent's life.
//!
//! Owns: the safe face of `pre_exec`. Does not own: containers (crate `runtime` forks those itself, see [`crate::clone`]).

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Surroundings for a [`Command`]'s child, applied between fork and exec in the order they were asked for.
/// Every step is one system call: nothing allocates in the child.
pub trait CommandExt {
    /// The child starts inside this network namespace.
    fn in_netns(&mut self, netns: OwnedFd) -> &mut Self;
    /// The child leads a new session (setsid): it has no terminal and signals to our group miss it.
    fn new_session(&mut self) -> &mut Self;
    /// The child leads a new process group, whose id is its pid.
    fn new_process_group(&mut self) -> &mut Self;
    /// The child gets `signal` when the *thread* that spawned it ends; spawn from a thread that lives on.
    fn death_signal(&mut self, signal: Signal) -> &mut Self;
    /// The child gets its own mount namespace, from which nothing propagates back.
    fn new_mount_namespace(&mut self) -> &mut Self;
    /// The child gets new namespaces of the given kinds (not user or pid, which need more than this).
    fn new_namespaces(&mut self, kinds: CloneFlags) -> &mut Self;
    /// The child inherits this descriptor under the same number.
    fn pass_fd(&mut self, fd: OwnedFd) -> &mut Self;
}

impl CommandExt for Command {
    fn in_netns(&mut self, netns: OwnedFd) -> &mut Self {
        before_exec(self, move || crate::netns::enter(&netns))
    }

    fn new_session(&mut self) -> &mut Self {
        before_exec(self, || nix::unistd::setsid().map(drop))
    }

    fn new_process_group(&mut self) -> &mut Self {
        self.process_group(0)
    }

    fn death_signal(&mut self, signal: Signal) -> &mut Self {
        let parent = Pid::this();
        before_exec(self, move || {
            nix::sys::prctl::set_pdeathsig(signal)?;
            // The parent may have died before the line above; then the signal never comes.
            if Pid::parent() == parent { Ok(()) } else { Err(crate::Errno::ECHILD) }
        })
    }

    fn new_mount_namespace(&mut self) -> &mut Self {
        before_exec(self, || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
            nix::mount::mount(None::<&str>, c"/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        })
    }

    fn new_namespaces(&mut self, kinds: CloneFlags) -> &mut Self {
        before_exec(self, move || nix::sched::unshare(kinds))
    }

    fn pass_fd(&mut self, fd: OwnedFd) -> &mut Self {
        before_exec(self, move || crate::fd::keep_on_exec(&fd))
    }
}

fn before_exec(
    command: &mut Command,
    mut step: impl FnMut() -> crate::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: every closure of this file makes plain system calls on values it owns; none allocates, locks or
    // touches another thread's state, so it is sound after fork in a threaded program.
    unsafe { command.pre_exec(move || step().map_err(std::io::Error::from)) }
}

/// The file descriptor number a [`CommandExt::pass_fd`] child will see.
pub fn number_of(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}

/// Makes orphaned descendants our children, so that we can reap them.
pub fn become_subreaper() -> crate::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Lets glibc's allocator make at most two heap arenas: more only trade memory for contention that programs with two
/// or three busy threads do not have. Call it before threads start. Does nothing where the C library has no `mallopt`.
pub fn limit_heap_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers; it sets a limit that only later arenas look at.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
