//! Carries out an [`InitPlan`]: the parent's steps, the clone, the conversation until the process is ready.
//!
//! Owns: the child until it is ready or has failed, and the sentences of its failures. Does not own: state files,
//! cgroups, hooks after start.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sched::{CloneFlags, CpuSet};
use nix::unistd::Pid;
use pintle_runtime_plan::step::{AroundClone, OnChild, Point};
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
    /// The child exists and waits: write its pid down.
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
    let wanted = plan.around.iter().find_map(|around| match around {
        AroundClone::Affinity(mask) => Some(mask),
        AroundClone::Enter { .. } | AroundClone::NewTime { .. } => None,
    });
    let Some(mask) = wanted else { return Ok(None) };
    let before = nix::sched::sched_getaffinity(Pid::from_raw(0)).doing(|| "read own cpus".to_owned())?;
    pintle_sys::sched::set_affinity(0, mask).doing(|| format!("run on the initial cpus {mask:x?}"))?;
    Ok(Some(before))
}

/// Enters the namespaces the child is to be born in; gives the way back.
fn enter_around(plan: &InitPlan, slots: &Slots) -> Result<Vec<(File, CloneFlags)>> {
    let mut home = Vec::new();
    for around in &plan.around {
        match around {
            AroundClone::Affinity(_) => {}
            AroundClone::Enter { ns, kind, what } => {
                let kind = CloneFlags::from_bits_retain(*kind as i32);
                home.push((own_namespace(kind)?, kind));
                let entered = slots.get(*ns).and_then(|ns| nix::sched::setns(ns, kind));
                entered.doing(|| format!("join namespace {what}"))?;
            }
            AroundClone::NewTime { offsets } => {
                const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
                let own = File::open("/proc/self/ns/time").doing(|| "open own time namespace".to_owned())?;
                home.push((own, CLONE_NEWTIME));
                nix::sched::unshare(CLONE_NEWTIME).doing(|| "make a time namespace".to_owned())?;
                if !offsets.is_empty() {
                    std::fs::write("/proc/self/timens_offsets", offsets).doing(|| "set time offsets".to_owned())?;
                }
            }
        }
    }
    Ok(home)
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
    let args = CloneArgs { flags: plan.clone_flags, cgroup: cgroup.as_ref().map(std::os::fd::AsFd::as_fd) };
    let born_in = match plan.born_in {
        Some(slot) => Some(fd::duplicate(slots.get(slot).doing(|| "open the user namespace".to_owned())?)),
        None => None,
    };
    let born_in = born_in.transpose().doing(|| "open the user namespace".to_owned())?;
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
    let cloned = match born_in {
        Some(userns) => clone_within(proof, &userns, args, child),
        None => clone::clone3(proof, args, child),
    };
    if matches!(cloned, Err(Errno::EAGAIN)) {
        let text = "cannot make the container's first process: a limit on processes is reached (pids.max of a cgroup, \
            RLIMIT_NPROC, kernel.pid_max)";
        return Err(Error::Init(text.to_owned()));
    }
    let what = || format!("clone the container's first process (flags {:#x})", plan.clone_flags);
    cloned.map(|(pid, child)| (pid.as_raw(), child)).doing(what)
}

/// Clones from inside a user namespace, so that the child's other new namespaces belong to it. Who enters one cannot
/// come back, so a helper goes; the child is ours nevertheless (CLONE_PARENT).
fn clone_within(
    proof: SingleThreaded,
    userns: &OwnedFd,
    args: CloneArgs<'_>,
    child: impl FnOnce() -> std::convert::Infallible,
) -> pintle_sys::Result<(Pid, OwnedFd)> {
    let (ours, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )?;
    let args = CloneArgs { flags: args.flags | libc::CLONE_PARENT as u64, ..args };
    let (_, helper) = clone::clone3(proof, CloneArgs::default(), || {
        let done =
            nix::sched::setns(userns, CloneFlags::CLONE_NEWUSER).and_then(|()| clone::clone3(proof, args, child));
        let _our_maker_sees_the_end = match done {
            Ok((pid, fd)) => scm::send(&theirs, &pid.as_raw().to_le_bytes(), &[fd.as_fd()]),
            Err(errno) => scm::send(&theirs, &(-(errno as i32)).to_le_bytes(), &[]),
        };
        clone::exit_now(0)
    })?;
    pidfd::wait(&helper)?;
    let (mut number, mut fds) = ([0; 4], Vec::new());
    nix::sys::socket::setsockopt(
        &ours,
        nix::sys::socket::sockopt::ReceiveTimeout,
        &nix::sys::time::TimeVal::new(1, 0),
    )?;
    scm::receive(&ours, &mut number, &mut fds)?;
    match (i32::from_le_bytes(number), fds.pop()) {
        (pid, Some(fd)) if pid > 0 => Ok((Pid::from_raw(pid), fd)),
        (errno, _) => Err(Errno::from_raw(-errno)),
    }
}

fn converse(plan: &InitPlan, launched: &mut Launched, until: Until, witness: &mut dyn Witness) -> Result<()> {
    for action in &plan.on_child {
        act_on_child(action, launched)?;
    }
    witness.born(launched.pid)?;
    let what = || "talk to the container's first process".to_owned();
    launched.channel.go().or_else(died_early).doing(what)?;
    loop {
        match launched.channel.next().doing(what)? {
            News::Failed { step, errno } => return Err(failure(plan, step, errno)),
            News::Warned { step, errno } => launched.warnings.push(sentence(&plan.child, step as usize, errno)),
            News::Reached(Point::Hooks) => {
                witness.hooks(launched.pid)?;
                launched.channel.go().doing(what)?;
            }
            News::Reached(Point::Rlimits) => {
                for limit in &plan.rlimits {
                    set_rlimit(limit, launched)?;
                }
                launched.channel.go().doing(what)?;
            }
            News::Console(master) => launched.console = Some(master),
            News::Listener(listener) => launched.listener = Some(listener),
            News::Ready => return Ok(()),
            News::Ended if until == Until::Exec => return Ok(()),
            News::Ended => return Err(ended_early(launched)),
        }
    }
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
        OnChild::IdMaps { uids, gids } => crate::idmap::write_maps(pid, uids, gids),
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

fn set_rlimit(limit: &pintle_runtime_plan::step::Rlimit, launched: &mut Launched) -> Result<()> {
    match pintle_sys::cred::set_rlimit(launched.pid, limit.resource, limit.soft, limit.hard) {
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
            launched.warnings.push(format!("cannot set {}: {}", limit.name, text(errno)));
            Ok(())
        }
        other => other.doing(|| format!("set {}", limit.name)),
    }
}

fn sentence(steps: &[Step], index: usize, errno: Errno) -> String {
    match steps.get(index) {
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
