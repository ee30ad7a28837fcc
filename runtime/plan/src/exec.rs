//! One more process in a running container.

use std::ffi::CString;

use oci_spec::runtime::{Linux, Process};

use crate::host::CgroupJoin;
use crate::init::{CLONE_NEWPID, CLONE_NEWUSER, join_cgroup, open_proc};
use crate::lists;
use crate::process::{self, Surroundings};
use crate::slots::{Slots, c, target};
use crate::step::{AroundClone, InitPlan, Make, OnChild, Slot, Step};

/// What to run, and where.
pub struct ExecRequest<'a> {
    /// The process.
    pub process: &'a Process,
    /// The container's `linux` section: profile, personality and memory policy are its processes' as well.
    pub linux: Option<&'a Linux>,
    /// CLONE_NEW* of the namespaces in which init differs from us.
    pub join: u64,
    /// How to get into the cgroup.
    pub cgroup: CgroupJoin,
    /// Pid namespace of init, if it is another.
    pub pid_ns: Option<CString>,
    /// Whether init chrooted without a mount namespace: its root, as a path of the host.
    pub chroot: Option<CString>,
    /// Capabilities we can give away.
    pub caps_available: u64,
    /// Inherited descriptors.
    pub preserve_fds: u32,
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
    let mut parent = vec![open_proc()];
    let mut child = vec![Step::WaitForGo, Step::NotDumpable];
    let into_cgroup = join_cgroup(&request.cgroup, &mut slots, &mut parent, &mut child);
    let (mut around, settle) = affinity(request.process);
    child.push(settle);
    if let Some(path) = &request.pid_ns {
        let ns = slots.take();
        parent.push(Step::Open { path: path.clone(), flags: 0, into: ns });
        around.push(AroundClone::Enter { ns, kind: CLONE_NEWPID, what: "pid".to_owned() });
    }
    child.push(Step::NewSession);
    let in_userns = request.join & CLONE_NEWUSER != 0;
    let kinds = request.join & !CLONE_NEWPID;
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
            caps_available: request.caps_available,
            in_userns,
            home: request.home.as_deref(),
            preserve_fds: request.preserve_fds,
        },
    );
    child.extend(tail.labels);
    child.extend(tail.identity);
    child.extend(tail.last);
    InitPlan {
        slots: slots.count(),
        parent,
        around,
        clone_flags: 0,
        into_cgroup,
        born_in: None,
        on_child: request.process.oom_score_adj().map(OnChild::OomScoreAdj).into_iter().collect(),
        runtime_hooks: Vec::new(),
        rlimits: tail.parent_rlimits,
        child,
        exec: tail.exec,
        warnings: tail.warnings,
    }
}

/// Where the process is born and where it then runs (runtime-spec, config.md, execCPUAffinity). Lists were checked.
fn affinity(process: &Process) -> (Vec<AroundClone>, Step) {
    let mask =
        |list: &Option<String>| list.as_deref().filter(|list| !list.is_empty()).and_then(|l| lists::mask(l).ok());
    let wanted = process.exec_cpu_affinity().as_ref();
    let initial = wanted.and_then(|affinity| mask(affinity.initial()));
    let settle = match wanted.and_then(|affinity| mask(affinity.cpu_affinity_final())).or_else(|| initial.clone()) {
        Some(mask) => Step::Affinity(mask),
        None => Step::FreeAffinity,
    };
    (initial.into_iter().map(AroundClone::Affinity).collect(), settle)
}

/// Stdio of any process: a terminal, or what was passed; then it belongs to the user.
pub fn stdio(process: &Process, passed: bool, mount_console: bool, child: &mut Vec<Step>) {
    if process.terminal().unwrap_or(false) {
        let size = process.console_size().map(|size| (size.width() as u16, size.height() as u16));
        child.push(Step::Console { size, mount: mount_console });
    } else if passed {
        child.push(Step::PlaceStdio);
    }
    child.push(Step::ChownStdio { uid: process.user().uid() });
}
