//! The life of a container: create (`create.rs`), start, kill, delete. The same code serves command line and supervisor.
//!
//! ```text
//! (nothing) --create--> created --start--> running <--pause/resume--> paused
//!                          |                  |
//!                          +---- init ends ---+--> stopped --delete--> (nothing)
//! ```
//! Only init's death and `delete` move a container on; a status is always read off the kernel.

mod begin;
mod create;

use std::cell::OnceCell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType as Ns, LinuxResources, Spec};
use pintle_runtime_plan::Caller;
use pintle_runtime_plan::step::Hook;
use pintle_sys::clone::SingleThreaded;
use pintle_sys::{Errno, pidfd};

pub use begin::{Begun, New, Order, begin};
pub use create::{Begins, CreateRequest, Created, create, create_from, listening, load_spec, read_json, security};

use crate::cgroup::members::wait_for_end;
use crate::cgroup::{Cgroups, Layout, Need, Undo};
use crate::error::{Doing as _, Error, Result};
use crate::rdt;
use crate::state::{self, Dir, Published, Root, Status, Stored};
use crate::systemd;

/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every operation needs of its surroundings.
#[derive(Debug, Clone)]
pub struct Env {
    /// This program has one thread.
    pub proof: SingleThreaded,
    /// Where containers are.
    pub root: Root,
    rootless: Rootless,
    layout: OnceCell<Layout>,
    caller: OnceCell<Caller>,
}

/// --rootless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    /// As we find ourselves.
    Auto,
    /// Cgroups may be closed to us.
    Yes,
    /// They may not: that would be an error.
    No,
}

impl Env {
    /// For one command, which looks at what it needs.
    pub fn new(root: PathBuf, rootless: Rootless) -> Result<Env> {
        let proof = SingleThreaded::assert()
            .ok_or_else(|| Error::WrongState("this program must run with one thread".to_owned()))?;
        Ok(Env { proof, root: Root(root), rootless, layout: OnceCell::new(), caller: OnceCell::new() })
    }

    /// Looks around now: for who stays, and may be moved elsewhere.
    pub fn observe(root: PathBuf, rootless: Rootless) -> Result<Env> {
        let env = Env::new(root, rootless)?;
        env.caller()?;
        env.layout()?;
        Ok(env)
    }

    /// This host's cgroups.
    pub fn layout(&self) -> Result<&Layout> {
        observed(&self.layout, crate::cgroup::detect)
    }

    /// Who we are.
    pub fn caller(&self) -> Result<&Caller> {
        observed(&self.caller, crate::caller::observe)
    }

    /// What becomes of cgroups that are closed to us.
    pub fn need(&self) -> Result<Need> {
        Ok(match self.rootless {
            Rootless::Yes => Need::WhatIsOpen,
            Rootless::Auto if self.caller()?.is_rootless() => Need::WhatIsOpen,
            Rootless::Auto | Rootless::No => Need::All,
        })
    }
}

/// Looks once.
fn observed<T>(cell: &OnceCell<T>, look: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(found) => Ok(found),
        None => look().map(|found| cell.get_or_init(|| found)),
    }
}

/// Whether init's death ends every process of the container: not if it joined others in their pid namespace.
pub fn has_own_pid_namespace(spec: &Spec) -> bool {
    let joined = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let all = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    all.filter(|ns| ns.typ() == Ns::Pid).any(|ns| !joined(ns.path()))
}

/// The state as hooks get it.
pub fn hook_state(stored: &Stored, pid: Option<i32>, status: &str) -> Vec<u8> {
    let published = Published {
        oci_version: stored.config.version(),
        id: &stored.id,
        pid,
        status,
        bundle: &stored.bundle,
        rootfs: None,
        created: None,
        annotations: state::annotations(&stored.config),
        owner: None,
    };
    serde_json::to_vec(&published).unwrap_or_default()
}

/// Runs hooks of the runtime's namespace, in the bundle.
pub fn run_hooks(env: &Env, hooks: &[Hook], state: &[u8], bundle: &Path) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let before = std::env::current_dir();
    // A bundle that is gone (poststop of a half-removed pod) must not keep hooks from running.
    let _cwd_is_a_courtesy = std::env::set_current_dir(bundle);
    let done = hooks.iter().try_for_each(|hook| crate::hooks::run(env.proof, hook, state));
    if let Ok(before) = before {
        let _cwd_may_be_gone = std::env::set_current_dir(before);
    }
    Ok(done?)
}

fn hooks_of(spec: &Spec, point: &str) -> Vec<Hook> {
    let Some(hooks) = spec.hooks() else { return Vec::new() };
    let list = if point == "poststart" { hooks.poststart() } else { hooks.poststop() };
    pintle_runtime_plan::convert_hooks(point, list.as_deref())
}

/// OCI start. A failure of the program itself shows later, at init's exit.
pub fn start(env: &Env, id: &str) -> Result<()> {
    poststart(env, &release(env, id)?)
}

/// The first half of start: init goes on to become the program.
pub fn release(env: &Env, id: &str) -> Result<Stored> {
    let dir = env.root.container(id)?;
    let stored = dir.load()?;
    match dir.status(&stored) {
        Status::Created => {}
        Status::Stopped => return Err(Error::WrongState("cannot start a container that has stopped".to_owned())),
        Status::Running | Status::Paused => {
            return Err(Error::WrongState("cannot start an already running container".to_owned()));
        }
    }
    let init = pidfd::open(Pid::from_raw(stored.init_process_pid)).doing(|| "open init".to_owned())?;
    knock(&dir, &init)?;
    Ok(stored)
}

/// OCI start by the one who created it: `run`.
pub fn start_created(env: &Env, created: &Created) -> Result<()> {
    if created.begins == Begins::WhenTold {
        knock(&created.dir, &created.launched.pidfd)?;
    }
    poststart(env, &created.stored)
}

/// The second half: poststart hooks.
pub fn poststart(env: &Env, stored: &Stored) -> Result<()> {
    let hooks = hooks_of(&stored.config, "poststart");
    if hooks.is_empty() {
        return Ok(());
    }
    let state = hook_state(stored, Some(stored.init_process_pid), "running");
    run_hooks(env, &hooks, &state, &stored.bundle)
}

/// Lets init go on, which waits to read from the fifo; the fifo goes, and with it the status `created`.
fn knock(dir: &Dir, init: &OwnedFd) -> Result<()> {
    let fifo = dir.fifo();
    let what = || format!("start through {}", fifo.display());
    let path = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).unwrap_or_default();
    let opened = pintle_sys::open::at(nix::fcntl::AT_FDCWD, &path, libc::O_WRONLY | libc::O_NONBLOCK, 0);
    let already = || Error::WrongState("cannot start an already running container".to_owned());
    let knocked = match opened {
        Ok(writer) => nix::unistd::write(&writer, b"0").doing(what).map(drop),
        // Nobody reads: init is gone, or somebody was faster and has not yet removed, or died before he could.
        Err(Errno::ENXIO) if has_ended(init) => {
            return Err(Error::WrongState("cannot start a container that has stopped".to_owned()));
        }
        Err(Errno::ENXIO) => Err(already()),
        Err(Errno::ENOENT) => return Err(already()),
        Err(errno) => return Err(errno).doing(what),
    };
    match std::fs::remove_file(&fifo) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", fifo.display()))
        }
        _ => knocked,
    }
}

fn has_ended(init: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Init as a descriptor, verified not to be another process by now.
pub fn open_init(stored: &Stored) -> Result<OwnedFd> {
    let pid = stored.init_process_pid;
    let fd = match pidfd::open(Pid::from_raw(pid)) {
        Err(Errno::ESRCH | Errno::EINVAL) => return Err(Error::NotRunning),
        other => other.doing(|| format!("open process {pid}"))?,
    };
    if state::is_alive(pid, stored.init_process_start) { Ok(fd) } else { Err(Error::NotRunning) }
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Init.
    Init,
    /// Everybody in the cgroup.
    All,
}

/// OCI kill.
pub fn kill(env: &Env, id: &str, signal: i32, whom: Whom) -> Result<()> {
    let dir = env.root.container(id)?;
    let stored = dir.load()?;
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    if cgroups.paths.is_empty() {
        return send_without_cgroup(&stored, signal, whom);
    }
    send(&cgroups, has_own_pid_namespace(&stored.config), || open_init(&stored), signal, whom)
}

/// Who is in a container: those in its cgroup, or, rootless without one, in its pid namespace. Of a container that has
/// neither only init is known.
pub fn members(stored: &Stored) -> Result<Vec<i32>> {
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    if !cgroups.paths.is_empty() {
        return cgroups.pids();
    }
    let init = stored.init_process_pid;
    if !state::is_alive(init, stored.init_process_start) {
        return Ok(Vec::new());
    }
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(init).filter(|_| has_own_pid_namespace(&stored.config));
    let entries = std::fs::read_dir("/proc").doing(|| "list /proc".to_owned())?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut members: Vec<i32> = pids.filter(|pid| *pid == init || own.is_some() && namespace(*pid) == own).collect();
    members.sort_unstable();
    Ok(members)
}

fn send_without_cgroup(stored: &Stored, signal: i32, whom: Whom) -> Result<()> {
    let init = open_init(stored)?;
    let others = if whom == Whom::All { members(stored)? } else { Vec::new() };
    for pid in others.into_iter().filter(|pid| *pid != stored.init_process_pid) {
        let sent = pidfd::open(Pid::from_raw(pid)).and_then(|process| pidfd::send_signal(process, signal));
        if !matches!(sent, Ok(()) | Err(Errno::ESRCH)) {
            return sent.doing(|| format!("send signal {signal} to process {pid}"));
        }
    }
    pidfd::send_signal(init, signal).doing(|| format!("send signal {signal} to init"))
}

/// Signals a container of which the caller knows these things.
pub fn send(
    cgroups: &Cgroups,
    own_pid_ns: bool,
    init: impl FnOnce() -> Result<OwnedFd>,
    signal: i32,
    whom: Whom,
) -> Result<()> {
    // Without a pid namespace of its own, init's death would leave the others running.
    let orphans = signal == libc::SIGKILL && !own_pid_ns;
    let done = if whom == Whom::All || orphans {
        match (whom, cgroups.signal(signal)?) {
            (Whom::Init, 0) => Err(Error::NotRunning),
            _ => Ok(()),
        }
    } else {
        pidfd::send_signal(init()?, signal).doing(|| format!("send signal {signal} to init"))
    };
    if signal == libc::SIGKILL && cgroups.is_frozen() {
        cgroups.thaw()?;
    }
    done
}

/// Whether delete may kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Only what has stopped, or never started.
    No,
    /// Whatever it takes; an unknown id is done already.
    Yes,
}

/// OCI delete.
pub fn delete(env: &Env, id: &str, force: Force) -> Result<()> {
    let dir = env.root.container(id)?;
    let stored = match dir.load() {
        Ok(stored) => stored,
        // A directory without a readable state: killed between making the one and writing the other.
        Err(_) if force == Force::Yes => return dir.remove(),
        Err(error) => return Err(error),
    };
    let status = dir.status(&stored);
    if force == Force::No && !matches!(status, Status::Stopped | Status::Created) {
        let word = status.as_str();
        return Err(Error::WrongState(format!("cannot delete container {id} that is not stopped: {word}")));
    }
    destroy(env, &dir, &stored)
}

/// OCI delete by the one who created it: `run`.
pub fn delete_created(env: &Env, created: &Created) -> Result<()> {
    destroy(env, &created.dir, &created.stored)
}

/// Kills whatever is left, removes cgroups and state, runs poststop hooks. Each may be gone already.
pub fn destroy(env: &Env, dir: &Dir, stored: &Stored) -> Result<()> {
    if let Ok(init) = open_init(stored) {
        match pidfd::send_signal(&init, libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).doing(|| "kill init".to_owned()),
        }
        if Cgroups::known(stored.cgroup_paths.clone()).is_frozen() {
            Cgroups::known(stored.cgroup_paths.clone()).thaw()?;
        }
        wait_until_nothing_runs(&init, &Cgroups::known(stored.cgroup_paths.clone()))?;
        // Our child if we are the supervisor or `run`; somebody else's otherwise.
        let _reaped_if_ours = pidfd::try_wait(&init);
    }
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    cgroups.kill_all()?;
    if let Some(unit) = &stored.systemd {
        unit.stop()?;
    }
    cgroups.remove()?;
    if let Some(groups) = &stored.intel_rdt {
        groups.remove()?;
    }
    dir.remove()?;
    let state = hook_state(stored, None, "stopped");
    for hook in hooks_of(&stored.config, "poststop") {
        if let Err(error) = run_hooks(env, &[hook], &state, &stored.bundle) {
            crate::log::warn(&error.to_string());
        }
    }
    Ok(())
}

/// The kernel keeps a killed init until everybody in its pid namespace was reaped, and who came by `exec` is reaped by
/// whom he belongs to outside, which may take for ever. What has left its cgroup runs no more and holds nothing.
fn wait_until_nothing_runs(init: &OwnedFd, cgroups: &Cgroups) -> Result<()> {
    let (deadline, mut pause) = (Instant::now() + PATIENCE, Duration::from_millis(20));
    while !wait_for_end(init, pause)? && Instant::now() < deadline {
        if !cgroups.paths.is_empty() && cgroups.pids()?.is_empty() {
            return Ok(());
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(())
}

/// Changes limits and remembers them.
pub fn update(
    env: &Env,
    id: &str,
    resources: &LinuxResources,
    schemata: pintle_runtime_plan::rdt::Change<'_>,
) -> Result<()> {
    let dir = env.root.container(id)?;
    let mut stored = dir.load()?;
    if dir.status(&stored) == Status::Stopped {
        return Err(Error::NotRunning);
    }
    let old = stored.config.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let full = pintle_runtime_plan::cgroup::partners(old, resources);
    let limits = Limits::change(&stored, old, &full)?;
    if let Some(linux) = stored.config.linux_mut() {
        let merged = crate::merge::resources(linux.resources().clone().unwrap_or_default(), resources);
        linux.set_resources(Some(merged));
    }
    // Limits that nobody remembers would surprise the next update: it is both or none.
    let mut changed = None;
    let done = rdt::update(&dir, &mut stored, schemata).and_then(|schemata| {
        changed = schemata;
        dir.save(&stored)
    });
    if done.is_err() {
        limits.revert();
        changed.iter().for_each(rdt::Undo::revert);
    }
    done
}

/// Limits that were changed and can be taken back.
struct Limits {
    told: Option<systemd::Change>,
    written: Undo,
}

impl Limits {
    /// All or none. Systemd first: it rounds, and the files have the last word.
    fn change(stored: &Stored, old: Option<&LinuxResources>, new: &LinuxResources) -> Result<Limits> {
        let cgroups = Cgroups::known(stored.cgroup_paths.clone());
        cgroups.check(new)?;
        let told = stored.systemd.clone().map(|unit| unit.set(&cgroups, old, new)).transpose()?;
        match cgroups.change(new) {
            Ok(written) => Ok(Limits { told, written }),
            Err(error) => {
                told.into_iter().for_each(systemd::Change::revert);
                Err(error)
            }
        }
    }

    fn revert(self) {
        self.told.into_iter().for_each(systemd::Change::revert);
        self.written.revert();
    }
}
