//! One more process in a running container.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxNamespaceType, Process};
use pintle_runtime_plan::rootless::Inside;
use pintle_runtime_plan::{CgroupJoin, ExecRequest as Plan, Slot, plan_exec};

use crate::cgroup::members::wait_for_end;
use crate::cgroup::{Cgroups, Layout, Need, may_enter};
use crate::container::{Env, open_init, security};
use crate::error::{Error, Result};
use crate::launch::{self, Launched, Until, Witness};
use crate::passwd;
use crate::state::{Status, Stored};
use crate::systemd::Recorded;
use crate::walk::Slots;

/// How long a started container's first process may take to become the program: its startContainer hooks run first.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug)]
pub struct ExecRequest {
    /// In which container.
    pub id: String,
    /// What.
    pub process: Process,
    /// Descriptors for stdio; `None` inherits ours.
    pub stdio: Option<[OwnedFd; 3]>,
    /// --preserve-fds and LISTEN_FDS.
    pub preserve_fds: u32,
    /// --ignore-paused.
    pub ignore_paused: bool,
    /// Instead of the container's own cgroups.
    pub join: Option<CgroupJoin>,
}

/// Namespaces and their CLONE_NEW* bits, in the order of /proc/<pid>/ns.
const NAMESPACES: [(&str, u64); 6] = [
    ("cgroup", 0x0200_0000),
    ("ipc", 0x0800_0000),
    ("mnt", 0x0002_0000),
    ("net", 0x4000_0000),
    ("time", 0x80),
    ("uts", 0x0400_0000),
];

/// Runs it; comes back when it has become the program.
pub fn exec(env: &Env, request: ExecRequest) -> Result<Launched> {
    let stored = env.root.container(&request.id)?.load()?;
    exec_in(env, request, &stored)
}

/// The same, in a container whose state was read already.
pub fn exec_in(env: &Env, mut request: ExecRequest, stored: &Stored) -> Result<Launched> {
    let status = env.root.container(&request.id)?.status(stored);
    match status {
        Status::Stopped => return Err(Error::WrongState("cannot exec in a stopped container".to_owned())),
        Status::Paused if !request.ignore_paused => {
            let text = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(Error::WrongState(text.to_owned()));
        }
        Status::Created | Status::Running | Status::Paused => {}
    }
    pintle_runtime_plan::spec::check_process_labels(&request.process, security())?;
    let init = open_init(stored)?;
    if !env.caller()?.may_mount() {
        until_visible(stored, &init, status)?;
    }
    pintle_runtime_plan::rootless::check_exec(&request.process, &inside(env, stored)?)?;
    let plan = plan_exec(&plan_request(env, &request, stored)?);
    let mut slots = Slots::new(plan.slots);
    slots.put(Slot::INIT, init);
    if let Some([stdin, stdout, stderr]) = request.stdio.take() {
        slots.put(Slot::STDIN, stdin);
        slots.put(Slot::STDOUT, stdout);
        slots.put(Slot::STDERR, stderr);
    }
    let mut guest = Guest { stored, unit: moved_by(&request, stored) };
    launch::launch(env.proof, &plan, slots, request.preserve_fds, Until::Exec, &mut guest)
}

fn plan_request<'a>(env: &'a Env, request: &'a ExecRequest, stored: &'a Stored) -> Result<Plan<'a>> {
    let pid = stored.init_process_pid;
    let differs = |ns: &str| {
        let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{ns}")).ok();
        link(&pid.to_string()) != link("self")
    };
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let private_mounts = differs("mnt");
    Ok(Plan {
        process: &request.process,
        linux: stored.config.linux().as_ref(),
        join: NAMESPACES.iter().filter(|(ns, _)| differs(ns)).fold(0, |kinds, (_, bit)| kinds | bit),
        cgroup: match (&request.join, moved_by(request, stored)) {
            (Some(join), _) => join.clone(),
            (None, Some(_)) => CgroupJoin::None,
            (None, None) => open_to_us(env, join_cgroup(stored))?,
        },
        moved: moved_by(request, stored).is_some() || stored.intel_rdt.is_some(),
        pid_ns: differs("pid").then(|| c(&format!("/proc/{pid}/ns/pid"))),
        user_ns: differs("user").then(|| c(&format!("/proc/{pid}/ns/user"))),
        chroot: (!private_mounts).then(|| c(&root.to_string_lossy())),
        caller: env.caller()?,
        preserve_fds: request.preserve_fds,
        listen_fds: crate::container::listening(),
        stdio_passed: request.stdio.is_some(),
        home: passwd::home_if_unset(&request.process, &root),
        no_new_keyring: stored.no_new_keyring,
        id: &stored.id,
    })
}

/// On v2 a container that manages cgroups of its own has none of its processes at the top: join init's.
fn join_cgroup(stored: &Stored) -> CgroupJoin {
    let cgroups = Cgroups::known(stored.cgroup_paths.clone());
    match cgroups.join() {
        CgroupJoin::Into(_) if cgroups.unified().is_some_and(has_children) => init_cgroup(stored, &cgroups),
        join => join,
    }
}

/// Init hides from everybody but root until it has become the program: who comes right after `start` waits for that.
fn until_visible(stored: &Stored, init: &OwnedFd, status: Status) -> Result<()> {
    let visible = || std::fs::read_link(format!("/proc/{}/ns/user", stored.init_process_pid)).is_ok();
    let (deadline, mut pause) = (Instant::now() + PATIENCE, Duration::from_millis(1));
    while !visible() {
        if status == Status::Created || Instant::now() > deadline {
            let text = "cannot exec: the container's first process is hidden from an ordinary user until it has become \
                the program; `start` it first";
            return Err(Error::WrongState(text.to_owned()));
        }
        // No event tells of an exec to who may not trace the process; its end does wake us.
        if wait_for_end(init, pause)? {
            return Err(Error::WrongState("cannot exec in a stopped container".to_owned()));
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

/// What is mapped in the container.
fn inside(env: &Env, stored: &Stored) -> Result<Inside> {
    let namespaces = stored.config.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    if !env.caller()?.in_user_namespace() && !namespaces.clone().any(|ns| ns.typ() == LinuxNamespaceType::User) {
        return Ok(Inside::default());
    }
    let pid = stored.init_process_pid;
    let map =
        |file: &str| crate::text::read(format!("/proc/{pid}/{file}")).ok().map(|text| crate::caller::parse(&text));
    let setgroups_denied = crate::caller::denies_setgroups(&pid.to_string());
    Ok(Inside { uids: map("uid_map"), gids: map("gid_map"), setgroups_denied })
}

/// A rootless caller may call from where no process may move into the container's cgroup (a login session, which systemd
/// does not delegate): the process then stays with its caller, as with runc.
fn open_to_us(env: &Env, join: CgroupJoin) -> Result<CgroupJoin> {
    if env.need()? == Need::All {
        return Ok(join);
    }
    Ok(match (&join, env.layout()?) {
        (CgroupJoin::Into(path), Layout::V2([mount]))
            if may_enter(mount, Path::new(OsStr::from_bytes(path.to_bytes()))).is_err() =>
        {
            crate::log::warn("the container's cgroup is closed to us here: the process stays in the caller's");
            CgroupJoin::None
        }
        _ => join,
    })
}

fn has_children(directory: &std::path::Path) -> bool {
    std::fs::read_dir(directory)
        .is_ok_and(|mut list| list.any(|e| e.is_ok_and(|e| e.file_type().is_ok_and(|t| t.is_dir()))))
}

fn init_cgroup(stored: &Stored, cgroups: &Cgroups) -> CgroupJoin {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", stored.init_process_pid)).unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    let top = cgroups.unified().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    // Init's path is below the container's, whose last component both share.
    let name = top.rsplit('/').next().unwrap_or_default();
    match own.and_then(|own| own.split_once(&format!("/{name}"))) {
        Some((_, below)) => CgroupJoin::Into(c(&format!("{top}{below}"))),
        None => cgroups.join(),
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The unit whose manager moves the process in, if we may not, and no other cgroup was asked for.
fn moved_by<'a>(request: &ExecRequest, stored: &'a Stored) -> Option<&'a Recorded> {
    stored.moved_by().filter(|_| request.join.is_none())
}

/// An exec is nobody's first process: nothing is recorded and no hooks run.
struct Guest<'a> {
    stored: &'a Stored,
    unit: Option<&'a Recorded>,
}

impl Witness for Guest<'_> {
    fn born(&mut self, pid: i32) -> Result<()> {
        self.unit.map_or(Ok(()), |unit| unit.attach(pid))?;
        self.stored.intel_rdt.iter().try_for_each(|groups| Ok(groups.join(pid)?))
    }

    fn hooks(&mut self, _pid: i32) -> Result<()> {
        Ok(())
    }
}
