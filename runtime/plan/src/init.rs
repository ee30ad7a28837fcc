//! A container's first process.
//!
//! The order is runc's, because programs and hooks have come to rely on it: keyring, network, mounts, devices,
//! hooks, pivot, console, read-only, host name, sysctls, hidden paths, limits, identity, seccomp, fifo, exec.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType as Ns, Process, Spec};

use crate::caller::ALL_CAPS;
use crate::exec::stdio;
use crate::host::{CgroupJoin, Host};
use crate::mount_options::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, RDONLY};
use crate::mounts;
use crate::process::{self, Surroundings};
use crate::slots::{Slots, c, target};
use crate::step::{Attr, Enter, Hook, IdRange, InitPlan, Make, OnChild, Point, Slot, Step};

/// linux/sched.h.
pub const CLONE_NEWPID: u64 = 0x2000_0000;
/// linux/sched.h.
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: u64 = 0x200_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
/// asm-generic/fcntl.h.
pub const O_PATH: i32 = 0o10_000_000;
const O_RDWR: i32 = 2;
const O_WRONLY: i32 = 1;
const O_DIRECTORY: i32 = 0o200_000;

/// Whether a process has labels, which are written below /proc.
pub fn has_labels(process: &Process) -> bool {
    let set = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    set(process.apparmor_profile()) || set(process.selinux_label())
}

/// Whether anything is written below /proc for this container.
fn writes_proc(spec: &Spec) -> bool {
    let sysctl = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    sysctl.is_some_and(|sysctl| !sysctl.is_empty()) || spec.process().as_ref().is_some_and(has_labels)
}

/// Plans how the child gets into its cgroup; gives the directory to be born in on v2.
pub fn join_cgroup(
    join: &CgroupJoin,
    slots: &mut Slots,
    parent: &mut Vec<Step>,
    child: &mut Vec<Step>,
) -> Option<Slot> {
    match join {
        CgroupJoin::None => None,
        CgroupJoin::Tasks(files) => {
            for (controller, path) in files {
                let tasks = slots.take();
                parent.push(Step::Open { path: path.clone(), flags: O_WRONLY, into: tasks });
                child.push(Step::JoinCgroup { tasks, controller: controller.clone() });
                child.push(Step::Close(tasks));
            }
            None
        }
        CgroupJoin::Into(directory) => {
            let into = slots.take();
            parent.push(Step::Open { path: directory.clone(), flags: O_PATH | O_DIRECTORY, into });
            Some(into)
        }
    }
}

/// The parts of a plan while it is written.
pub(crate) struct Draft<'a> {
    pub spec: &'a Spec,
    pub host: &'a Host,
    pub slots: Slots,
    pub parent: Vec<Step>,
    pub child: Vec<Step>,
    /// How mounts of the host are taken: steps of the parent, or of a child whose parent may not.
    pub trees: Vec<Step>,
    pub warnings: Vec<String>,
    /// The tmpfs on /dev, if it is ours alone.
    pub own_dev: Option<Slot>,
    /// User namespaces made for the sake of their maps, so that equal mappings share one.
    pub id_maps: Vec<(Vec<IdRange>, Vec<IdRange>, Slot)>,
}

impl Draft<'_> {
    pub fn linux(&self) -> Option<&Linux> {
        self.spec.linux().as_ref()
    }

    pub fn namespace(&self, kind: Ns) -> Option<Option<&Path>> {
        let all = self.linux()?.namespaces().as_ref()?;
        all.iter().find(|ns| ns.typ() == kind).map(|ns| ns.path().as_deref().filter(|p| !p.as_os_str().is_empty()))
    }

    pub fn makes(&self, kind: Ns) -> bool {
        self.namespace(kind) == Some(None)
    }

    pub fn has(&self, kind: Ns) -> bool {
        self.namespace(kind).is_some()
    }

    /// Where steps go that take mounts of the host.
    pub fn taker(&mut self) -> &mut Vec<Step> {
        // The parent may be allowed what the child in its user namespace is not.
        if self.host.caller.may_mount() { &mut self.parent } else { &mut self.trees }
    }
}

/// Plans init. `spec` has passed validation.
pub fn plan_init(spec: &Spec, host: &Host) -> InitPlan {
    let mut draft = Draft {
        spec,
        host,
        slots: Slots::new(),
        parent: vec![Step::OpenProc { own: writes_proc(spec) }],
        child: Vec::new(),
        trees: Vec::new(),
        warnings: Vec::new(),
        own_dev: None,
        id_maps: Vec::new(),
    };
    let process = spec.process().clone().unwrap_or_default();
    let spaces = namespaces(&mut draft);
    let birth = birth(&mut draft, &spaces);
    let runtime_hooks = root(&mut draft, &process);
    let tail = process::tail(
        &process,
        &Surroundings {
            linux: spec.linux().as_ref(),
            caps_available: if draft.has(Ns::User) { ALL_CAPS } else { host.caller.caps },
            in_userns: draft.has(Ns::User),
            home: host.home.as_deref(),
            preserve_fds: host.preserve_fds,
            listen_fds: host.listen_fds,
        },
    );
    after_root(&mut draft, &tail.labels);
    draft.child.extend(tail.identity);
    show(&mut draft);
    last(&mut draft, tail.last, &tail.exec.envp);
    draft.warnings.extend(tail.warnings);
    InitPlan {
        slots: draft.slots.count(),
        affinity: None,
        around: spaces.around,
        within: spaces.within,
        clone_flags: birth.clone_flags,
        into_cgroup: birth.into_cgroup,
        handed: birth.handed,
        on_child: on_child(&draft, &process),
        runtime_hooks,
        rlimits: tail.parent_rlimits,
        exec: tail.exec,
        parent: draft.parent,
        child: draft.child,
        warnings: draft.warnings,
    }
}

/// A namespace given by path is entered before the clone (the child could not, once in its own user namespace), except a
/// mount namespace, which would take the parent's files away.
fn namespaces(draft: &mut Draft<'_>) -> Namespaces {
    let (mut others, mut made, mut user, mut time, mut mount) = (Vec::new(), 0, None, None, None);
    let list = draft.linux().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
    for ns in &list {
        let (kind, bit) = (ns.typ(), ns.typ() as u64);
        let path = ns.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        match (kind, path) {
            // The new cgroup namespace is rooted where its maker is: unshared by the child once it joined.
            (Ns::Cgroup, None) => {}
            (Ns::Time, None) => time = Some(Step::NewTime { offsets: time_offsets(draft.linux()) }),
            (_, None) => made |= bit,
            (_, Some(path)) => {
                let slot = draft.slots.take();
                draft.parent.push(Step::Open { path: c(path), flags: 0, into: slot });
                let what = format!("{} at {}", kind_name(kind), path.display());
                match kind {
                    Ns::User => user = Some(Enter { ns: slot, kind: bit, what }),
                    Ns::Mount => mount = Some(Step::JoinNs { ns: slot, kinds: bit, what }),
                    _ => others.push(Enter { ns: slot, kind: bit, what }),
                }
            }
        }
    }
    let (around, within) = draft.host.caller.enter(others, user);
    let made = made & (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWNET | 0x0c00_0000);
    Namespaces { around, within, made, time, mount }
}

/// Where the child's namespaces come from.
struct Namespaces {
    around: Vec<Enter>,
    within: Vec<Enter>,
    /// CLONE_NEW* of those that are new, the cgroup and the time namespace excepted.
    made: u64,
    time: Option<Step>,
    mount: Option<Step>,
}

/// How the child comes into being.
struct Birth {
    clone_flags: u64,
    into_cgroup: Option<Slot>,
    handed: Vec<CString>,
}

/// Whether the child may make its namespaces itself, all but the pid namespace, while the parent makes its cgroups: making
/// a network namespace takes as long as nine cgroups. With a user namespace the clone makes all, so that they belong to it;
/// network devices are moved to the child as soon as it is there.
pub fn overlaps(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else { return true };
    let user = linux.namespaces().iter().flatten().any(|ns| ns.typ() == Ns::User);
    !user && linux.net_devices().as_ref().is_none_or(|devices| devices.is_empty())
}

fn birth(draft: &mut Draft<'_>, spaces: &Namespaces) -> Birth {
    let go = |with: Vec<Slot>| Step::WaitForGo { with };
    // A time namespace comes before the child hides itself: its own timens_offsets would be hidden from it as well.
    if !draft.host.cgroups_later {
        draft.child.push(go(Vec::new()));
        draft.child.extend(spaces.time.iter().cloned());
        draft.child.push(Step::NotDumpable);
        draft.child.extend(spaces.mount.iter().cloned());
        let into_cgroup = join_cgroup(&draft.host.join, &mut draft.slots, &mut draft.parent, &mut draft.child);
        in_cgroup(draft);
        session(draft);
        return Birth { clone_flags: spaces.made, into_cgroup, handed: Vec::new() };
    }
    let (clone_flags, kinds) = (spaces.made & CLONE_NEWPID, spaces.made & !CLONE_NEWPID);
    draft.child.extend(spaces.time.iter().cloned());
    draft.child.push(Step::NotDumpable);
    if kinds != 0 {
        draft.child.push(Step::Unshare { kinds });
    }
    draft.child.extend(spaces.mount.iter().cloned());
    session(draft);
    // What can be opened once it is made, and the steps that write to it.
    let (mut opened, mut joins) = (Vec::new(), Vec::new());
    let into_cgroup = join_cgroup(&draft.host.join, &mut draft.slots, &mut opened, &mut joins);
    let open = |step| match step {
        Step::Open { path, into, .. } => Some((path, into)),
        _ => None,
    };
    let (handed, with) = opened.into_iter().filter_map(open).unzip();
    draft.child.push(go(with));
    draft.child.extend(joins);
    in_cgroup(draft);
    Birth { clone_flags, into_cgroup, handed }
}

fn kind_name(kind: Ns) -> &'static str {
    match kind {
        Ns::Mount => "mount",
        Ns::Cgroup => "cgroup",
        Ns::Uts => "uts",
        Ns::Ipc => "ipc",
        Ns::User => "user",
        Ns::Pid => "pid",
        Ns::Network => "network",
        Ns::Time => "time",
    }
}

/// The lines of timens_offsets (time_namespaces(7)).
fn time_offsets(linux: Option<&Linux>) -> Vec<u8> {
    let mut text = String::new();
    let offsets = linux.and_then(|linux| linux.time_offsets().as_ref());
    for (clock, offset) in offsets.into_iter().flatten().collect::<BTreeMap<_, _>>() {
        text.push_str(&format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)));
    }
    text.into_bytes()
}

/// Maps of config.json.
pub(crate) fn ranges(maps: &Option<Vec<LinuxIdMapping>>) -> Vec<IdRange> {
    let convert =
        |map: &LinuxIdMapping| IdRange { inside: map.container_id(), outside: map.host_id(), count: map.size() };
    maps.iter().flatten().map(convert).collect()
}

fn on_child(draft: &Draft<'_>, process: &Process) -> Vec<OnChild> {
    let mut steps = Vec::new();
    if let (true, Some(linux)) = (draft.makes(Ns::User), draft.linux()) {
        steps.push(draft.host.caller.write_maps(ranges(linux.uid_mappings()), ranges(linux.gid_mappings())));
    }
    if let Some(adj) = process.oom_score_adj() {
        steps.push(OnChild::OomScoreAdj(adj));
    }
    if let Some(devices) = draft.linux().and_then(|linux| linux.net_devices().as_ref()) {
        let named = devices.iter().map(|(host, device)| {
            (host.clone(), device.name().clone().filter(|name| !name.is_empty()).unwrap_or(host.clone()))
        });
        let mut list: Vec<_> = named.collect();
        list.sort();
        steps.push(OnChild::NetDevices(list));
    }
    steps
}

fn in_cgroup(draft: &mut Draft<'_>) {
    draft.child.push(Step::FreeAffinity);
    if draft.has(Ns::User) {
        draft.child.push(Step::BecomeRoot);
    }
    if draft.makes(Ns::Cgroup) {
        draft.child.push(Step::Unshare { kinds: CLONE_NEWCGROUP });
    }
}

fn session(draft: &mut Draft<'_>) {
    draft.child.push(Step::NewSession);
    if !draft.host.no_new_keyring {
        draft.child.push(Step::JoinKeyring { name: c(format!("_ses.{}", draft.host.id)) });
    }
    if draft.makes(Ns::Network) {
        draft.child.push(Step::LoopbackUp);
    }
}

/// Everything up to and including the new root; gives the hooks the parent runs.
fn root(draft: &mut Draft<'_>, process: &Process) -> Vec<Hook> {
    let host = draft.host;
    let private_mounts = draft.has(Ns::Mount);
    if private_mounts || host.caller.may_mount() {
        draft.taker().push(Step::CloneTree { path: c(&host.rootfs), recursive: true, into: Slot::ROOT });
    } else {
        draft.parent.push(Step::Open { path: c(&host.rootfs), flags: O_PATH | O_DIRECTORY, into: Slot::ROOT });
    }
    if let Some(fifo) = &host.fifo {
        draft.parent.push(Step::Open { path: c(fifo), flags: O_RDWR, into: Slot::FIFO });
    }
    draft.parent.push(Step::Open { path: c("/dev/null"), flags: O_RDWR, into: Slot::NULL });
    if private_mounts {
        // Nothing we mount may reach the host. Propagation that the configuration wants is set after the pivot.
        draft.child.push(Step::Propagate { flags: MS_REC | MS_SLAVE });
        let taken_at = draft.child.len();
        draft.child.push(Step::SetAttr {
            mount: Slot::ROOT,
            attr: Attr { propagation: MS_PRIVATE, ..Attr::default() },
            recursive: false,
        });
        draft.child.push(Step::AttachRoot);
        mounts::plan(draft);
        draft.child.splice(taken_at..taken_at, std::mem::take(&mut draft.trees));
    }
    let hooks = hooks_before_pivot(draft);
    if private_mounts {
        let step = if draft.host.no_pivot { Step::MoveRoot } else { Step::Pivot };
        draft.child.push(step);
        root_propagation(draft);
    } else {
        draft.child.push(Step::Chroot);
    }
    let mount_console = private_mounts;
    stdio(process, draft.host.stdio_passed, mount_console, &mut draft.child);
    let cwd = draft.slots.take();
    draft.child.push(Step::OpenTarget { target: target(process.cwd()), make: Some(Make::Dir), into: cwd });
    draft.child.push(Step::Close(cwd));
    hooks
}

fn hooks_before_pivot(draft: &mut Draft<'_>) -> Vec<Hook> {
    let Some(hooks) = draft.spec.hooks() else { return Vec::new() };
    let mut runtime = convert_hooks("prestart", hooks.prestart().as_deref());
    runtime.extend(convert_hooks("createRuntime", hooks.create_runtime().as_deref()));
    if !runtime.is_empty() {
        draft.child.push(Step::Sync(Point::Hooks));
    }
    let container = convert_hooks("createContainer", hooks.create_container().as_deref());
    if !container.is_empty() {
        let state = draft.host.hook_states.0.clone();
        draft.child.push(Step::RunHooks { point: "createContainer", hooks: container, state });
    }
    runtime
}

/// Hooks of config.json, ready to run.
pub fn convert_hooks(point: &str, hooks: Option<&[oci_spec::runtime::Hook]>) -> Vec<Hook> {
    let convert = |(n, hook): (usize, &oci_spec::runtime::Hook)| Hook {
        at: format!("hooks.{point}[{n}]"),
        path: c(hook.path()),
        argv: match hook.args() {
            Some(args) if !args.is_empty() => args.iter().map(c).collect(),
            _ => vec![c(hook.path())],
        },
        envp: hook.env().as_ref().map(|env| env.iter().map(c).collect()),
        timeout_s: hook.timeout().and_then(|s| u64::try_from(s).ok()),
    };
    hooks.unwrap_or_default().iter().enumerate().map(convert).collect()
}

fn root_propagation(draft: &mut Draft<'_>) {
    let wanted = draft.linux().and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default();
    // Recursion would undo the propagation each mount asked for, so only the root itself changes.
    let kind = match wanted {
        "shared" | "rshared" => MS_SHARED,
        "slave" | "rslave" => MS_SLAVE,
        "unbindable" | "runbindable" => MS_UNBINDABLE,
        _private_already => return,
    };
    let attr = Attr { propagation: kind, ..Attr::default() };
    draft.child.push(Step::SetAttr { mount: Slot::ROOT, attr, recursive: false });
}

fn after_root(draft: &mut Draft<'_>, labels: &[Step]) {
    let spec = draft.spec;
    if draft.has(Ns::Mount) {
        mounts::finish(draft);
        if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
            let attr = Attr { set: RDONLY, ..Attr::default() };
            draft.child.push(Step::SetAttr { mount: Slot::ROOT, attr, recursive: false });
        }
    }
    draft.child.push(Step::Umask(0o022));
    if let Some(name) = spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        draft.child.push(Step::Hostname(c(name)));
    }
    if let Some(name) = spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        draft.child.push(Step::Domainname(c(name)));
    }
    draft.child.extend_from_slice(labels);
    let Some(linux) = draft.spec.linux() else { return };
    let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
    sysctls.sort();
    for (name, value) in sysctls {
        draft.child.push(sysctl(name, value));
    }
    for path in linux.readonly_paths().iter().flatten() {
        draft.child.push(Step::ReadonlyPath(c(path)));
    }
    for path in linux.masked_paths().iter().flatten() {
        draft.child.push(Step::MaskPath(c(path)));
    }
}

/// The write for a sysctl, by its name with dots or slashes.
pub fn sysctl(name: &str, value: &str) -> Step {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    Step::WriteProc { path: c(format!("sys/{path}")), value: value.as_bytes().to_vec() }
}

/// Nobody but root enters the namespaces of a process that cannot be dumped: an ordinary user's `exec` before `start` needs
/// it visible. Right after its capabilities are what they will be, for a filter may follow that knows no prctl(2).
fn show(draft: &mut Draft<'_>) {
    let caps_set = draft.child.iter().rposition(|step| matches!(step, Step::Caps(_)));
    if let (true, false, Some(at)) = (draft.host.fifo.is_some(), draft.host.caller.may_mount(), caps_set) {
        draft.child.insert(at + 1, Step::Show);
    }
}

/// Hooks that run in the container have its process' environment unless they have their own, as with runc.
fn last(draft: &mut Draft<'_>, last: Vec<Step>, environment: &[CString]) {
    if draft.host.fifo.is_some() {
        draft.child.push(Step::Ready);
        draft.child.push(Step::WaitForStart);
    }
    let hooks = draft.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_deref());
    let mut hooks = convert_hooks("startContainer", hooks);
    for hook in &mut hooks {
        hook.envp.get_or_insert_with(|| environment.to_vec());
    }
    if !hooks.is_empty() {
        let state = draft.host.hook_states.1.clone();
        draft.child.push(Step::RunHooks { point: "startContainer", hooks, state });
    }
    draft.child.extend(last);
}
