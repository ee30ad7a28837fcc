//! A container's first process.
//!
//! The order is runc's, because programs and hooks have come to rely on it: keyring, network, mounts, devices,
//! hooks, pivot, console, read-only, host name, sysctls, hidden paths, limits, identity, seccomp, fifo, exec.

mod birth;
mod hooks;

use std::ffi::CString;
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType as Ns, Process, Spec};

use crate::caller::ALL_CAPS;
use crate::exec::stdio;
use crate::host::Host;
use crate::mount_options::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, RDONLY};
use crate::mounts;
use crate::process::{self, Surroundings};
use crate::slots::{Slots, c, target};
use crate::step::{Attr, Hook, IdRange, InitPlan, Make, OnChild, Slot, Step};
pub use birth::{CLONE_NEWPID, CLONE_NEWUSER, join_cgroup, overlaps};
use birth::{birth, namespaces};
use hooks::before_pivot;
pub use hooks::convert_hooks;

/// asm-generic/fcntl.h.
pub const O_PATH: i32 = 0o10_000_000;
const O_RDWR: i32 = 2;
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
    let hooks = before_pivot(draft);
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
