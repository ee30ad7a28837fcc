//! Walks an init script: each step is one system call or a handful, none is a decision.
//!
//! Owns: the table of open slots and the dispatch. Does not own: what a failure means; the parent, which owns the
//! plan, renders the sentence from the step's index and the errno.

mod attributes;
mod hidden;
mod identity;
mod mounts;
mod nodes;
mod stdio;
mod targets;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use pintle_runtime_plan::step::{Attr, Exec, Slot, Step};
use pintle_sys::clone::{PointerArray, SingleThreaded};
use pintle_sys::{Errno, Result, cred, open, seccomp};

use crate::sync::ChildEnd;

/// The open descriptors of a plan, by slot, and what is known of the mounts among them.
#[derive(Debug, Default)]
pub struct Slots {
    fds: Vec<Option<OwnedFd>>,
    attached: Vec<Slot>,
    exact: Vec<Slot>,
    postponed: Vec<(Slot, Attr, bool)>,
}

impl Slots {
    /// Room for `count`.
    pub fn new(count: u16) -> Slots {
        Slots { fds: (0..count).map(|_| None).collect(), ..Slots::default() }
    }

    /// Fills a slot.
    pub fn put(&mut self, slot: Slot, fd: OwnedFd) {
        let at = usize::from(slot.0);
        if self.fds.len() <= at {
            self.fds.resize_with(at + 1, || None);
        }
        self.fds[at] = Some(fd);
    }

    /// What a slot holds; a plan that uses an empty one is wrong (EBADF).
    pub fn get(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        self.fds.get(usize::from(slot.0)).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(Errno::EBADF)
    }

    /// Empties a slot.
    pub fn close(&mut self, slot: Slot) {
        if let Some(entry) = self.fds.get_mut(usize::from(slot.0)) {
            *entry = None;
        }
    }

    /// Empties all slots but one.
    pub fn keep_only(&mut self, slot: Slot) {
        self.fds.iter_mut().zip(0..).filter(|(_, at)| *at != slot.0).for_each(|(entry, _)| *entry = None);
    }

    /// Empties all slots.
    pub fn clear(&mut self) {
        self.fds.clear();
    }

    /// Fills a slot with what was found where its path says, no symlink having led elsewhere.
    pub fn put_exact(&mut self, slot: Slot, fd: OwnedFd) {
        self.put(slot, fd);
        self.exact.push(slot);
    }

    /// Whether what is in a slot is where its path says.
    pub fn is_exact(&self, slot: Slot) -> bool {
        self.exact.contains(&slot)
    }

    /// Whether the mount in a slot has its place.
    pub fn is_attached(&self, slot: Slot) -> bool {
        self.attached.contains(&slot)
    }

    /// Notes that it has; gives the changes that waited for it (attributes, and whether recursively).
    pub fn attach(&mut self, slot: Slot) -> Vec<(Attr, bool)> {
        self.attached.push(slot);
        let (due, rest) = std::mem::take(&mut self.postponed).into_iter().partition(|(of, ..)| *of == slot);
        self.postponed = rest;
        due.into_iter().map(|(_, attr, recursive): (Slot, Attr, bool)| (attr, recursive)).collect()
    }

    /// Keeps a change until the mount has its place.
    pub fn postpone(&mut self, slot: Slot, attr: Attr, recursive: bool) {
        self.postponed.push((slot, attr, recursive));
    }

    /// Every open descriptor's number.
    pub fn numbers(&self) -> Vec<i32> {
        self.fds.iter().flatten().map(std::os::fd::AsRawFd::as_raw_fd).collect()
    }
}

/// What the last step needs, built before the clone.
pub struct Program {
    argv: PointerArray,
    envp: Vec<std::ffi::CString>,
    tell_pid: bool,
    candidates: Vec<std::ffi::CString>,
}

impl Program {
    /// Prepares an exec.
    pub fn new(exec: &Exec) -> Program {
        Program {
            argv: PointerArray::new(exec.argv.clone()),
            envp: exec.envp.clone(),
            tell_pid: exec.tell_pid,
            candidates: exec.candidates.clone(),
        }
    }

    /// Becomes candidate `chosen`; returns only on failure.
    pub fn exec(&self, chosen: usize) -> Errno {
        let mut envp = self.envp.clone();
        if self.tell_pid {
            envp.extend(std::ffi::CString::new(format!("LISTEN_PID={}", std::process::id())));
        }
        match self.candidates.get(chosen) {
            Some(program) => pintle_sys::clone::exec(program, &self.argv, &PointerArray::new(envp)),
            None => Errno::ENOENT,
        }
    }
}

/// One walk.
pub struct Walker<'a> {
    /// Open descriptors.
    pub slots: Slots,
    /// The way to the parent; `None` when the parent itself walks.
    pub parent: Option<ChildEnd>,
    /// The program at the end.
    pub program: Option<&'a Program>,
    /// Which candidate it is.
    pub chosen: usize,
    /// Single-threaded, as a forked child is.
    pub proof: SingleThreaded,
}

impl Walker<'_> {
    /// Walks until the end or the first failure: its index and errno.
    pub fn walk(&mut self, steps: &[Step]) -> std::result::Result<(), (usize, Errno)> {
        for (index, step) in steps.iter().enumerate() {
            self.step(index, step).map_err(|errno| (index, errno))?;
        }
        Ok(())
    }

    fn parent(&self) -> Result<&ChildEnd> {
        self.parent.as_ref().ok_or(Errno::ENOTCONN)
    }

    /// A refusal that the container can live with is reported and forgotten.
    fn step(&mut self, index: usize, step: &Step) -> Result<()> {
        match step {
            Step::Open { path, flags, into } => {
                let fd = open::at(nix::fcntl::AT_FDCWD, path, *flags, 0)?;
                self.slots.put(*into, fd);
                Ok(())
            }
            Step::OpenProc { own } => {
                let fd = mounts::open_proc(*own)?;
                self.slots.put(Slot::PROC, fd);
                Ok(())
            }
            Step::Close(slot) => {
                self.slots.close(*slot);
                Ok(())
            }
            Step::WaitForGo { with } => self.wait_for_go(with),
            Step::Sync(point) => self.parent()?.sync(*point),
            Step::JoinCgroup { tasks, .. } => nix::unistd::write(self.slots.get(*tasks)?, b"0").map(drop),
            Step::JoinNs { ns, kinds, .. } => nix::sched::setns(self.slots.get(*ns)?, flags(*kinds)),
            Step::Unshare { kinds } => nix::sched::unshare(flags(*kinds)),
            Step::NewTime { offsets } => self.new_time(offsets),
            Step::BecomeRoot => cred::set_gid(0).and_then(|()| cred::set_uid(0)),
            Step::NewSession => nix::unistd::setsid().map(drop),
            Step::JoinKeyring { name } => join_keyring(name),
            Step::LoopbackUp => pintle_sys::net::loopback_up(),
            Step::Hostname(name) => nix::unistd::sethostname(os(name)),
            Step::Domainname(name) => cred::set_domainname(name),
            Step::WriteProc { path, value } => self.write_proc(path, value),
            Step::NotDumpable => cred::set_dumpable(false),
            Step::Show => {
                self.slots.keep_only(Slot::FIFO);
                pintle_sys::memory::forget_environment(self.proof);
                // A filter of the container's may refuse it: then nobody enters before the start, as without this step.
                let _may_be_refused = cred::set_dumpable(true);
                Ok(())
            }
            Step::Ready => {
                // It may wait for long, and others inside may look at it: nothing it holds leads to the host.
                self.slots.keep_only(Slot::FIFO);
                self.parent()?.ready()
            }
            Step::WaitForStart => self.wait_for_start(),
            Step::RunHooks { hooks, state, .. } => {
                let state = with_own_pid(state);
                hooks
                    .iter()
                    .try_for_each(|hook| crate::hooks::run(self.proof, hook, &state).map_err(|failure| failure.errno))
            }
            Step::Seccomp(filter) => self.seccomp(filter),
            Step::ResetSignals => pintle_sys::signal::reset_all(),
            Step::CloseFrom(first) => {
                // Before exec and not by it: the program's path, or its interpreter's, may go through /proc/self/fd.
                self.slots.clear();
                pintle_sys::fd::close_on_exec_from(*first)
            }
            Step::FindProgram => self.find_program(),
            _ => match self.mount_step(step) {
                Some(done) => done,
                None => self.process_step(index, step),
            },
        }
    }

    fn wait_for_go(&mut self, with: &[Slot]) -> Result<()> {
        let handed = self.parent()?.wait_for_go()?;
        if handed.len() != with.len() {
            return Err(Errno::EBADMSG);
        }
        with.iter().zip(handed).for_each(|(slot, fd)| self.slots.put(*slot, fd));
        Ok(())
    }

    fn process_step(&mut self, index: usize, step: &Step) -> Result<()> {
        match self.stdio_step(step) {
            Some(done) => done,
            None => self.identity_step(index, step),
        }
    }

    fn find_program(&mut self) -> Result<()> {
        let program = self.program.ok_or(Errno::ENOEXEC)?;
        let mut worst = Errno::ENOENT;
        for (at, candidate) in program.candidates.iter().enumerate() {
            match executable(candidate) {
                Ok(()) => {
                    self.chosen = at;
                    return Ok(());
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => worst = errno,
            }
        }
        Err(worst)
    }

    fn seccomp(&self, filter: &pintle_runtime_plan::seccomp::Filter) -> Result<()> {
        let program: Vec<seccomp::SockFilter> =
            filter.program.iter().map(|i| seccomp::SockFilter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
        match seccomp::install(&program, filter.flags)? {
            Some(listener) => self.parent()?.send_listener(listener.as_fd()),
            None => Ok(()),
        }
    }

    /// Children would be born in a new time namespace; its maker enters it by its file.
    fn new_time(&self, offsets: &[u8]) -> Result<()> {
        const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
        nix::sched::unshare(CLONE_NEWTIME)?;
        if !offsets.is_empty() {
            self.write_proc(c"self/timens_offsets", offsets)?;
        }
        let made = open::at(self.slots.get(Slot::PROC)?, c"self/ns/time_for_children", libc::O_RDONLY, 0)?;
        nix::sched::setns(made, CLONE_NEWTIME)
    }

    /// `value` into a file beneath the host's procfs, crossing no mount and no symlink but `self` and `thread-self`.
    fn write_proc(&self, path: &std::ffi::CStr, value: &[u8]) -> Result<()> {
        const OWN: [(&std::ffi::CStr, &[u8]); 2] = [(c"self", b"self/"), (c"thread-self", b"thread-self/")];
        let proc = self.slots.get(Slot::PROC)?;
        let own = OWN.iter().find_map(|(own, prefix)| Some((own, path.to_bytes_with_nul().strip_prefix(*prefix)?)));
        let file = match own {
            Some((own, rest)) => {
                let own = open::at(proc, own, libc::O_PATH | libc::O_DIRECTORY, 0)?;
                let rest = std::ffi::CStr::from_bytes_with_nul(rest).map_err(|_no_nul| Errno::EINVAL)?;
                open::beneath_same_mount(own, rest, libc::O_WRONLY)?
            }
            None => open::beneath_same_mount(proc, path, libc::O_WRONLY)?,
        };
        // What is not the kernel's procfs would swallow the write, or hand it on to somebody (CVE-2025-52881).
        if !mounts::is_procfs(&file)? {
            return Err(Errno::EXDEV);
        }
        nix::unistd::write(file, value).map(drop)
    }

    /// Waits until `start` writes into the fifo. It was opened for both directions, so that opening it waits for nobody
    /// and there is no end of file.
    fn wait_for_start(&mut self) -> Result<()> {
        let fifo = self.slots.get(Slot::FIFO)?;
        // It may wait here for long, and next it becomes another program.
        pintle_sys::memory::release(self.proof);
        while let Err(errno) = nix::unistd::read(fifo, &mut [0]) {
            if errno != Errno::EINTR {
                return Err(errno);
            }
        }
        self.slots.clear();
        Ok(())
    }
}

/// `self/fd/N`, relative to /proc, without the heap.
pub struct FdPath([u8; 24]);

impl FdPath {
    /// For descriptor `number`.
    pub fn new(number: i32) -> FdPath {
        use std::io::Write as _;
        let mut bytes = [0; 24];
        // Twenty-four bytes hold any i32 and the prefix; a NUL always remains.
        let _fits = write!(&mut bytes[..], "self/fd/{number}");
        FdPath(bytes)
    }

    /// The path.
    pub fn as_cstr(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

fn executable(path: &std::ffi::CStr) -> Result<()> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    cred::may_execute(path)
}

/// The state was written before this process had a pid; hooks in the container see the one it has there.
fn with_own_pid(state: &[u8]) -> Vec<u8> {
    let own = format!("\"pid\":{}", std::process::id());
    String::from_utf8_lossy(state).replacen("\"pid\":0", &own, 1).into_bytes()
}

fn flags(kinds: u64) -> CloneFlags {
    CloneFlags::from_bits_retain(kinds as i32)
}

fn os(text: &std::ffi::CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(text.to_bytes())
}

/// Kernels without keys, and the key quota of a busy user, must not keep a container from starting.
fn join_keyring(name: &std::ffi::CStr) -> Result<()> {
    match cred::join_session_keyring(name) {
        Ok(serial) => match cred::restrict_keyring(serial) {
            Err(Errno::EACCES | Errno::EPERM) | Ok(()) => Ok(()),
            Err(errno) => Err(errno),
        },
        Err(Errno::ENOSYS | Errno::EDQUOT | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}
