//! One more process in a running container.

use std::ffi::CString;

use oci_spec::runtime::{Linux, Process};

use crate::caller::{ALL_CAPS, Caller};
use crate::host::CgroupJoin;
use crate::init::{CLONE_NEWPID, CLONE_NEWUSER, has_labels, join_cgroup};
use crate::lists;
use crate::process::{self, Surroundings};
use crate::slots::{Slots, c, target};
use crate::step::{Enter, InitPlan, Make, OnChild, Slot, Step};

/// What to run, and where.
pub struct ExecRequest<'a> {
    /// The process.
    pub process: &'a Process,
    /// The container's `linux` section: profile, personality and memory policy are its processes' as well.
    pub linux: Option<&'a Linux>,
    /// CLONE_NEW* of the other namespaces in which init differs from us.
    pub join: u64,
    /// How to get into the cgroup.
    pub cgroup: CgroupJoin,
    /// Whether somebody else moves the process somewhere once it is there.
    pub moved: bool,
    /// Pid namespace of init, if it is another.
    pub pid_ns: Option<CString>,
    /// User namespace of init, likewise.
    pub user_ns: Option<CString>,
    /// Whether init chrooted without a mount namespace: its root, as a path of the host.
    pub chroot: Option<CString>,
    /// Who we are.
    pub caller: &'a Caller,
    /// Inherited descriptors.
    pub preserve_fds: u32,
    /// How many of those are sockets of an activation: told to the process with its own pid (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Stdio comes in slots.
    pub stdio_passed: bool,
    /// $HOME by the container's passwd.
    pub home: Option<String>,
    /// Keep our session keyring.
    pub no_new_keyring: bool,
    /// The container's id.
    pub id: &'a str,
}

/// Plans an exec. The caller puts init's pidfd into [`Slot::INIT`].
pub fn plan_exec(request: &ExecRequest<'_>) -> InitPlan {
    let mut slots = Slots::new();
    let mut parent = vec![Step::OpenProc { own: has_labels(request.process) }];
    let on_child: Vec<OnChild> = request.process.oom_score_adj().map(OnChild::OomScoreAdj).into_iter().collect();
    // Nothing is done to it: it need not wait.
    let alone = on_child.is_empty() && !request.moved;
    let mut child = if alone { Vec::new() } else { vec![Step::WaitForGo { with: Vec::new() }] };
    child.push(Step::NotDumpable);
    let into_cgroup = join_cgroup(&request.cgroup, &mut slots, &mut parent, &mut child);
    let (affinity, settle) = affinity(request.process);
    child.push(settle);
    let mut enter = |path: &CString, kind: u64, what: &str| {
        let ns = slots.take();
        parent.push(Step::Open { path: path.clone(), flags: 0, into: ns });
        Enter { ns, kind, what: what.to_owned() }
    };
    let in_userns = request.user_ns.is_some();
    // The child of a privileged parent enters with all the rest of init's.
    let user_first = request.user_ns.as_ref().filter(|_| !request.caller.may_mount());
    let pid = request.pid_ns.iter().map(|path| enter(path, CLONE_NEWPID, "pid")).collect();
    let user = user_first.map(|path| enter(path, CLONE_NEWUSER, "user"));
    let kinds = if in_userns && user.is_none() { request.join | CLONE_NEWUSER } else { request.join };
    let (around, within) = request.caller.enter(pid, user);
    child.push(Step::NewSession);
    if kinds != 0 {
        child.push(Step::JoinNs { ns: Slot::INIT, kinds, what: "of the container's init".to_owned() });
    }
    if let Some(root) = &request.chroot {
        parent.push(Step::Open { path: root.clone(), flags: crate::init::O_PATH, into: Slot::ROOT });
        child.push(Step::Chroot);
    } else {
        child.push(Step::Open { path: c("/"), flags: crate::init::O_PATH, into: Slot::ROOT });
    }
    if in_userns {
        child.push(Step::BecomeRoot);
    }
    if !request.no_new_keyring {
        child.push(Step::JoinKeyring { name: c(format!("_ses.{}", request.id)) });
    }
    stdio(request.process, request.stdio_passed, false, &mut child);
    let cwd = slots.take();
    child.push(Step::OpenTarget { target: target(request.process.cwd()), make: Some(Make::Dir), into: cwd });
    child.push(Step::Close(cwd));
    let tail = process::tail(
        request.process,
        &Surroundings {
            linux: request.linux,
            caps_available: if in_userns { ALL_CAPS } else { request.caller.caps },
            in_userns,
            home: request.home.as_deref(),
            preserve_fds: request.preserve_fds,
            listen_fds: request.listen_fds,
        },
    );
    child.extend(tail.labels);
    child.extend(tail.identity);
    child.extend(tail.last);
    InitPlan {
        slots: slots.count(),
        parent,
        affinity,
        around,
        within,
        clone_flags: 0,
        into_cgroup,
        handed: Vec::new(),
        on_child,
        runtime_hooks: Vec::new(),
        rlimits: tail.parent_rlimits,
        child,
        exec: tail.exec,
        warnings: tail.warnings,
    }
}

/// Where the process is born and where it then runs (runtime-spec, config.md, execCPUAffinity). Lists were checked.
fn affinity(process: &Process) -> (Option<Vec<u64>>, Step) {
    let mask =
        |list: &Option<String>| list.as_deref().filter(|list| !list.is_empty()).and_then(|l| lists::mask(l).ok());
    let wanted = process.exec_cpu_affinity().as_ref();
    let initial = wanted.and_then(|affinity| mask(affinity.initial()));
    let settle = match wanted.and_then(|affinity| mask(affinity.cpu_affinity_final())).or_else(|| initial.clone()) {
        Some(mask) => Step::Affinity(mask),
        None => Step::FreeAffinity,
    };
    (initial, settle)
}

/// Stdio of any process: a terminal, or what was passed; then it belongs to the user.
pub fn stdio(process: &Process, passed: bool, mount_console: bool, child: &mut Vec<Step>) {
    if process.terminal().unwrap_or(false) {
        let size = process.console_size().map(|size| (size.width() as u16, size.height() as u16));
        child.push(Step::Console { size, mount: mount_console });
    } else if passed {
        child.push(Step::PlaceStdio);
    }
    // An exec has the root of others, and is no part of a checkpoint.
    if mount_console && !process.terminal().unwrap_or(false) {
        child.push(Step::OwnNull);
    }
    child.push(Step::ChownStdio { uid: process.user().uid() });
}
