//! Carries out an [`InitPlan`]: the parent's steps, the clone, the conversation until the process is ready.
//!
//! Owns: the child until it is ready or has failed, and the sentences of its failures. Does not own: state files,
//! cgroups, hooks after start.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sched::{CloneFlags, CpuSet};
use nix::unistd::Pid;
use pintle_runtime_plan::step::{Enter, OnChild, Point, Rlimit};
use pintle_runtime_plan::{InitPlan, Step};
use pintle_sys::clone::{self, CloneArgs, SingleThreaded};
use pintle_sys::{Errno, fd, pidfd, scm};
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result, text};
use crate::sync::{self, News, ParentEnd};
use crate::walk::{Program, Slots, Walker};

/// A process that is ready: at its fifo, or past its exec.
#[derive(Debug)]
pub struct Launched {
    /// As seen by us.
    pub pid: i32,
    /// The same, for good.
    pub pidfd: OwnedFd,
    /// The console's master.
    pub console: Option<OwnedFd>,
    /// The seccomp listener.
    pub listener: Option<OwnedFd>,
    /// Until exec: a failure after start arrives here.
    pub channel: ParentEnd,
    /// Refusals the container lives with.
    pub warnings: Vec<String>,
}

/// Until when the launch talks with the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It waits at its fifo.
    Ready,
    /// It has become the program.
    Exec,
}

/// What the caller does at the points of a launch.
pub trait Witness {
    /// The child exists, and waits or makes its namespaces: write its pid down, make what it will be handed.
    fn born(&mut self, pid: i32) -> Result<()>;
    /// prestart and createRuntime hooks are due.
    fn hooks(&mut self, pid: i32) -> Result<()>;
}

/// Launches a plan. `slots` may hold descriptors for it already.
pub fn launch(
    proof: SingleThreaded,
    plan: &InitPlan,
    slots: Slots,
    preserve_fds: u32,
    until: Until,
    witness: &mut dyn Witness,
) -> Result<Launched> {
    let slots = walk_parent(proof, plan, slots)?;
    let (ours, theirs) = sync::channel().doing(|| "make a socket pair".to_owned())?;
    let free = run_on(plan)?;
    let home = enter_around(plan, &slots)?;
    let cloned = fork_child(proof, plan, slots, theirs, preserve_fds);
    // Back home whatever came of the clone: this process may live on and launch others.
    home.iter()
        .try_for_each(|(ns, kind)| nix::sched::setns(ns, *kind))
        .doing(|| "return to own namespaces".to_owned())?;
    if let Some(before) = free {
        nix::sched::sched_setaffinity(Pid::from_raw(0), &before).doing(|| "return to own cpus".to_owned())?;
    }
    let (pid, child) = cloned?;
    let mut launched =
        Launched { pid, pidfd: child, console: None, listener: None, channel: ours, warnings: plan.warnings.clone() };
    match converse(plan, &mut launched, until, witness) {
        Ok(()) => Ok(launched),
        Err(error) => {
            let _already_dead = pidfd::send_signal(&launched.pidfd, libc::SIGKILL);
            let _reaped = pidfd::wait(&launched.pidfd);
            Err(error)
        }
    }
}

fn walk_parent(proof: SingleThreaded, plan: &InitPlan, slots: Slots) -> Result<Slots> {
    let mut walker = Walker { slots, parent: None, program: None, chosen: 0, proof };
    walker.walk(&plan.parent).map_err(|(index, errno)| step_error(&plan.parent, index, errno))?;
    Ok(walker.slots)
}

/// Moves to the cpus the child is to be born on; gives those to return to.
fn run_on(plan: &InitPlan) -> Result<Option<CpuSet>> {
    let Some(mask) = &plan.affinity else { return Ok(None) };
    let before = nix::sched::sched_getaffinity(Pid::from_raw(0)).doing(|| "read own cpus".to_owned())?;
    pintle_sys::sched::set_affinity(0, mask).doing(|| format!("run on the initial cpus {mask:x?}"))?;
    Ok(Some(before))
}

/// Enters the namespaces the child is to be born in; gives the way back.
fn enter_around(plan: &InitPlan, slots: &Slots) -> Result<Vec<(File, CloneFlags)>> {
    let mut home = Vec::new();
    for enter in &plan.around {
        home.push((own_namespace(flags(enter.kind))?, flags(enter.kind)));
        enter_one(enter, slots).doing(|| format!("join namespace {}", enter.what))?;
    }
    Ok(home)
}

fn enter_one(enter: &Enter, slots: &Slots) -> pintle_sys::Result<()> {
    slots.get(enter.ns).and_then(|ns| nix::sched::setns(ns, flags(enter.kind)))
}

fn flags(kind: u64) -> CloneFlags {
    CloneFlags::from_bits_retain(kind as i32)
}

fn own_namespace(kind: CloneFlags) -> Result<File> {
    let name = match kind {
        // Ours may differ from where our children go: the supervisor of a pod with one pid namespace is set up so.
        CloneFlags::CLONE_NEWPID => "pid_for_children",
        CloneFlags::CLONE_NEWNET => "net",
        CloneFlags::CLONE_NEWIPC => "ipc",
        CloneFlags::CLONE_NEWUTS => "uts",
        CloneFlags::CLONE_NEWCGROUP => "cgroup",
        _ => "time",
    };
    File::open(format!("/proc/self/ns/{name}")).doing(|| format!("open own {name} namespace"))
}

fn fork_child(
    proof: SingleThreaded,
    plan: &InitPlan,
    slots: Slots,
    channel: sync::ChildEnd,
    preserve_fds: u32,
) -> Result<(i32, OwnedFd)> {
    let program = Program::new(&plan.exec);
    let cgroup = match plan.into_cgroup {
        Some(slot) => Some(
            fd::duplicate(slots.get(slot).doing(|| "open the cgroup".to_owned())?)
                .doing(|| "open the cgroup".to_owned())?,
        ),
        None => None,
    };
    let mut keep = slots.numbers();
    keep.push(channel.number());
    keep.extend(3..3 + i32::try_from(preserve_fds).unwrap_or(0));
    keep.sort_unstable();
    let within = open_within(plan, &slots)?;
    let args = CloneArgs { flags: plan.clone_flags, cgroup: cgroup.as_ref().map(std::os::fd::AsFd::as_fd) };
    let child = || {
        // Other containers' pipes and our sockets are none of this one's business.
        let _kernel_before_5_9 = fd::close_all_but(&keep);
        let mut walker = Walker { slots, parent: Some(channel), program: Some(&program), chosen: 0, proof };
        let (step, errno) = match walker.walk(&plan.child) {
            Ok(()) => (sync::EXEC, program.exec(walker.chosen)),
            Err((index, errno)) => (index as u32, errno),
        };
        if let Some(parent) = &walker.parent {
            parent.fail(step, errno);
        }
        clone::exit_now(1)
    };
    let cloned = if within.is_empty() {
        clone::clone3(proof, args, child).map_err(|errno| cannot_clone(plan, errno))
    } else {
        clone_within(proof, &within, args, child).map_err(|(at, errno)| match plan.within.get(at) {
            Some(enter) => Error::Init(format!("cannot join namespace {}: {}", enter.what, text(errno))),
            None => cannot_clone(plan, errno),
        })
    };
    cloned.map(|(pid, child)| (pid.as_raw(), child))
}

/// The commonest causes in words: the kernel has few numbers for many limits.
fn cannot_clone(plan: &InitPlan, errno: Errno) -> Error {
    let user = plan.clone_flags & libc::CLONE_NEWUSER as u64 != 0;
    Error::Init(match errno {
        Errno::EAGAIN => "cannot make the container's first process: a limit on processes is reached (pids.max of a \
            cgroup, RLIMIT_NPROC, kernel.pid_max)"
            .to_owned(),
        Errno::EPERM | Errno::ENOSPC | Errno::EUSERS if user => format!(
            "cannot make a user namespace: {}. A sysctl of the host may forbid or count them (user.max_user_namespaces, \
             kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
            text(errno)
        ),
        other => {
            format!("cannot clone the container's first process (flags {:#x}): {}", plan.clone_flags, text(other))
        }
    })
}

/// Opens once more what is entered before the clone by a process that does not come back.
fn open_within(plan: &InitPlan, slots: &Slots) -> Result<Vec<(OwnedFd, CloneFlags)>> {
    let open = |enter: &Enter| {
        let opened = slots.get(enter.ns).and_then(fd::duplicate);
        Ok((opened.doing(|| format!("open namespace {}", enter.what))?, flags(enter.kind)))
    };
    plan.within.iter().map(open).collect()
}

/// Clones from inside namespaces, so that the child's new ones belong to the user namespace among them. Who enters that
/// one cannot come back, so another process goes; the child is ours nevertheless (CLONE_PARENT). A failure tells which
/// could not be entered, or the number of all if it was the clone.
fn clone_within(
    proof: SingleThreaded,
    within: &[(OwnedFd, CloneFlags)],
    args: CloneArgs<'_>,
    child: impl FnOnce() -> std::convert::Infallible,
) -> std::result::Result<(Pid, OwnedFd), (usize, Errno)> {
    let at_clone = |errno| (within.len(), errno);
    let (ours, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )
    .map_err(at_clone)?;
    let args = CloneArgs { flags: args.flags | libc::CLONE_PARENT as u64, ..args };
    let (_, between) = clone::clone3(proof, CloneArgs::default(), || {
        let mut entered =
            within.iter().enumerate().map(|(at, (ns, kind))| nix::sched::setns(ns, *kind).map_err(|errno| (at, errno)));
        let done = entered
            .try_for_each(std::convert::identity)
            .and_then(|()| clone::clone3(proof, args, child).map_err(at_clone));
        let _our_maker_sees_the_end = match done {
            Ok((pid, fd)) => scm::send(&theirs, &message(pid.as_raw(), 0), &[fd.as_fd()]),
            Err((at, errno)) => scm::send(&theirs, &message(at as i32, errno as i32), &[]),
        };
        clone::exit_now(0)
    })
    .map_err(at_clone)?;
    drop(theirs);
    let (mut told, mut fds) = ([0; 8], Vec::new());
    pidfd::wait(&between).and_then(|_| scm::receive(&ours, &mut told, &mut fds)).map_err(at_clone)?;
    let (value, errno) = told.split_at(4);
    let number = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap_or_default());
    match (number(value), fds.pop()) {
        (pid, Some(fd)) if pid > 0 => Ok((Pid::from_raw(pid), fd)),
        (at, _) => Err((at as usize, Errno::from_raw(number(errno)))),
    }
}

fn message(value: i32, errno: i32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&errno.to_le_bytes());
    bytes
}

fn converse(plan: &InitPlan, launched: &mut Launched, until: Until, witness: &mut dyn Witness) -> Result<()> {
    for action in &plan.on_child {
        act_on_child(action, launched)?;
    }
    witness.born(launched.pid)?;
    let what = || "talk to the container's first process".to_owned();
    if plan.child.iter().any(|step| matches!(step, Step::WaitForGo { .. })) {
        let handed = open_handed(plan)?;
        let handed: Vec<_> = handed.iter().map(OwnedFd::as_fd).collect();
        launched.channel.go(&handed).or_else(died_early).doing(what)?;
    }
    loop {
        match launched.channel.next().doing(what)? {
            News::Failed { step, errno } => return Err(failure(plan, step, errno)),
            News::Warned { step, errno } => launched.warnings.push(sentence(&plan.child, step as usize, errno)),
            News::Reached(Point::Hooks) => {
                witness.hooks(launched.pid)?;
                launched.channel.go(&[]).doing(what)?;
            }
            News::Reached(Point::Rlimits) => {
                plan.rlimits.iter().try_for_each(|limit| set_rlimit(*limit, launched.pid))?;
                launched.channel.go(&[]).doing(what)?;
            }
            News::Console(master) => launched.console = Some(master),
            News::Listener(listener) => launched.listener = Some(listener),
            News::Ready => return Ok(()),
            News::Ended if until == Until::Exec => return Ok(()),
            News::Ended => return Err(ended_early(launched)),
        }
    }
}

fn open_handed(plan: &InitPlan) -> Result<Vec<OwnedFd>> {
    let open = |path: &std::ffi::CString| {
        let file = pintle_sys::open::at(nix::fcntl::AT_FDCWD, path, libc::O_WRONLY, 0);
        file.doing(|| format!("open {}", path.to_string_lossy()))
    };
    plan.handed.iter().map(open).collect()
}

/// A child that failed before the go left its message in the channel: read that, not the broken pipe.
fn died_early(errno: Errno) -> pintle_sys::Result<()> {
    if errno == Errno::EPIPE { Ok(()) } else { Err(errno) }
}

fn ended_early(launched: &Launched) -> Error {
    match pidfd::wait(&launched.pidfd) {
        Ok(nix::sys::wait::WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)) => {
            Error::Init("container init was killed before it was ready".to_owned())
        }
        status => Error::Init(format!("container init ended before it was ready: {status:?}")),
    }
}

fn act_on_child(action: &OnChild, launched: &mut Launched) -> Result<()> {
    let pid = launched.pid;
    match action {
        OnChild::IdMaps { uids, gids, deny_setgroups } => crate::idmap::write_maps(pid, uids, gids, *deny_setgroups),
        OnChild::OomScoreAdj(adj) => match std::fs::write(format!("/proc/{pid}/oom_score_adj"), adj.to_string()) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                launched.warnings.push(format!(
                    "cannot set oom_score_adj to {adj}: permission denied (CAP_SYS_RESOURCE is missing)"
                ));
                Ok(())
            }
            other => other.doing(|| format!("set oom_score_adj to {adj}")),
        },
        OnChild::NetDevices(devices) => crate::netdev::move_all(pid, devices),
    }
}

fn set_rlimit(limit: Rlimit, pid: i32) -> Result<()> {
    let done = pintle_sys::cred::set_rlimit(pid, limit.resource, limit.soft, limit.hard);
    done.map_err(|errno| step_error(&[Step::Rlimit(limit)], 0, errno))
}

fn sentence(steps: &[Step], index: usize, errno: Errno) -> String {
    match steps.get(index) {
        Some(step @ Step::WriteProc { .. }) if matches!(errno, Errno::EXDEV | Errno::EROFS) => {
            format!("cannot {step}: something is mounted over it, and no procfs of our own can be made here")
        }
        Some(step @ Step::Rlimit(_)) if errno == Errno::EPERM => {
            format!("cannot {step}: {}: only CAP_SYS_RESOURCE raises a hard limit above the caller's", text(errno))
        }
        Some(step) => format!("cannot {step}: {}", text(errno)),
        None => format!("step {index} failed: {}", text(errno)),
    }
}

fn step_error(steps: &[Step], index: usize, errno: Errno) -> Error {
    Error::Init(sentence(steps, index, errno))
}

/// Callers tell a missing program from a broken runtime by these very words.
fn failure(plan: &InitPlan, step: u32, errno: Errno) -> Error {
    let name = &plan.exec.name;
    let lookup = matches!(plan.child.get(step as usize), Some(Step::FindProgram));
    match errno {
        _ if step == sync::EXEC => cannot_exec(name, errno),
        _ if !lookup => step_error(&plan.child, step as usize, errno),
        Errno::ENOENT if plan.exec.searched => {
            Error::CannotRun(format!("exec: {name:?}: executable file not found in $PATH"))
        }
        Errno::ENOENT => Error::CannotRun(format!("exec: {name:?}: stat {name}: no such file or directory")),
        errno => cannot_exec(name, errno),
    }
}

fn cannot_exec(name: &str, errno: Errno) -> Error {
    Error::CannotRun(match errno {
        Errno::ENOENT => format!("exec {name}: no such file or directory (its interpreter or loader is missing)"),
        Errno::ENOEXEC => format!("exec {name}: exec format error"),
        Errno::EISDIR => format!("exec: {name:?}: is a directory"),
        Errno::EACCES => format!("exec: {name:?}: permission denied"),
        other => format!("exec {name}: {}", text(other)),
    })
}

/// What a failure after `Ready` is told with, without the plan: a supervisor keeps this from create to start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Late {
    first: u32,
    steps: Vec<String>,
    name: String,
}

/// The steps that follow the fifo.
pub fn late(plan: &InitPlan) -> Late {
    let first = plan.child.iter().position(|step| matches!(step, Step::Ready)).unwrap_or(plan.child.len());
    let steps = plan.child[first..].iter().map(ToString::to_string).collect();
    Late { first: first as u32, steps, name: plan.exec.name.clone() }
}

/// A failure that arrives after start, if one did. Does not wait beyond exec.
pub fn late_failure(late: &Late, channel: &ParentEnd) -> Option<Error> {
    loop {
        match channel.next() {
            Ok(News::Failed { step: sync::EXEC, errno }) => return Some(cannot_exec(&late.name, errno)),
            Ok(News::Failed { step, errno }) => {
                let step = late.steps.get(step.saturating_sub(late.first) as usize).map_or("go on", String::as_str);
                return Some(Error::Init(format!("cannot {step}: {}", text(errno))));
            }
            Ok(News::Warned { .. } | News::Ready) => {}
            _ => return None,
        }
    }
}

/// Ends a process that nobody will be able to reach.
pub fn abandon(launched: &Launched) {
    let _already_dead = pidfd::send_signal(&launched.pidfd, libc::SIGKILL);
    let _reaped = pidfd::wait(&launched.pidfd);
}
