//! The words an init script is written in.
//!
//! Owns: [`Step`], [`Slot`], [`InitPlan`] and the sentence for each step. Does not own: choosing steps (`init`, `exec`)
//! or walking them (crate `runtime`). A plan holds every byte the child will need: strings are C strings already,
//! filters are assembled, so between clone and exec nothing is looked up, formatted or allocated on purpose.

use std::ffi::CString;
use std::fmt;

use crate::seccomp::Filter;

/// Names a descriptor: steps never hold numbers, the walker keeps the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// The slots every plan has.
impl Slot {
    /// The root file system's mount.
    pub const ROOT: Slot = Slot(0);
    /// The host's /proc, opened before anyone could replace it.
    pub const PROC: Slot = Slot(1);
    /// exec.fifo, for both directions.
    pub const FIFO: Slot = Slot(2);
    /// What becomes descriptor 0.
    pub const STDIN: Slot = Slot(3);
    /// What becomes descriptor 1.
    pub const STDOUT: Slot = Slot(4);
    /// What becomes descriptor 2.
    pub const STDERR: Slot = Slot(5);
    /// The root before pivot_root.
    pub const OLD_ROOT: Slot = Slot(6);
    /// An empty read-only tmpfs that hides masked directories.
    pub const MASK: Slot = Slot(7);
    /// The init process of the container to join (exec).
    pub const INIT: Slot = Slot(8);
    /// The host's /dev/null.
    pub const NULL: Slot = Slot(9);
    /// The container's /dev/null, verified.
    pub const OWN_NULL: Slot = Slot(10);
    /// The first number plans may use freely.
    pub const FIRST_FREE: u16 = 11;
}

/// A path inside the container, split so that missing parents can be made one by one beneath the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The whole path, absolute.
    pub path: CString,
    /// Every prefix, shortest first, with its last component; the last entry is the path itself.
    pub walk: Vec<(CString, CString)>,
}

/// What to make of a target that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// A directory.
    Dir,
    /// What the tree in the slot is: a directory or an empty file. Decided on the opened source, so it cannot change.
    Like(Slot),
}

/// Mount attributes to change, in the kernel's MOUNT_ATTR_* and MS_* bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// To set.
    pub set: u64,
    /// To clear.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE or 0.
    pub propagation: u64,
}

impl Attr {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Attr::default()
    }
}

/// A program run at a point of the life cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Where in config.json.
    pub at: String,
    /// Program.
    pub path: CString,
    /// Arguments, the name first.
    pub argv: Vec<CString>,
    /// Environment; `None` is the runtime's own.
    pub envp: Option<Vec<CString>>,
    /// Seconds until it is killed.
    pub timeout_s: Option<u64>,
}

/// A point where the child asks the parent to act, and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Point {
    /// Namespaces exist: prestart and createRuntime hooks.
    Hooks = 1,
    /// Resource limits, which a user namespace may not raise itself.
    Rlimits = 2,
}

/// A file system to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMount {
    /// Type.
    pub fstype: CString,
    /// Options for the file system: key and value.
    pub options: Vec<(CString, Option<CString>)>,
    /// MOUNT_ATTR_* bits.
    pub attrs: u64,
    /// Take the mode from the directory that will be covered (tmpfs without `mode=`).
    pub inherit_mode_of: Option<Slot>,
    /// Where it will be attached, open and by name: options that are too long for fsconfig(2) are for mount(2), which
    /// attaches at once.
    pub on: Slot,
    /// The same by name.
    pub path: CString,
    /// Receives the detached mount.
    pub into: Slot,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where.
    pub target: Target,
    /// Type and permission bits.
    pub mode: u32,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Owner and group.
    pub owner: (u32, u32),
    /// A directory of our own that it is in.
    pub own: Option<Slot>,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// RLIMIT_*.
    pub resource: u32,
    /// Its name in config.json.
    pub name: &'static str,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Capability masks; bit n is capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapMasks {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
}

/// Scheduling policy, as sched_setattr(2) wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Niceness.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// Deadline runtime, ns.
    pub runtime: u64,
    /// Deadline, ns.
    pub deadline: u64,
    /// Deadline period, ns.
    pub period: u64,
}

/// One action of the parent or the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Open a path of the host.
    Open { path: CString, flags: i32, into: Slot },
    /// Open the host's /proc; a procfs of our own instead where writes must not meet what somebody mounted over it.
    OpenProc { own: bool },
    /// Copy the mount at a path of the host, detached.
    CloneTree { path: CString, recursive: bool, into: Slot },
    /// Change a mount's attributes.
    SetAttr { mount: Slot, attr: Attr, recursive: bool },
    /// Map a mount's ids by the user namespace in a slot.
    IdMap { mount: Slot, userns: Slot, recursive: bool, path: CString },
    /// Make a user namespace that has nobody in it, for its maps alone.
    MakeUserNs { uids: Vec<IdRange>, gids: Vec<IdRange>, into: Slot },
    /// Forget a descriptor.
    Close(Slot),

    /// Wait until the parent has recorded us; it hands these over.
    WaitForGo { with: Vec<Slot> },
    /// Ask the parent to act.
    Sync(Point),
    /// Write `0` into an opened `tasks` or `cgroup.procs`.
    JoinCgroup { tasks: Slot, controller: String },
    /// Enter namespaces (CLONE_NEW* bits) of a namespace file or a pidfd.
    JoinNs { ns: Slot, kinds: u64, what: String },
    /// Leave namespaces for new ones.
    Unshare { kinds: u64 },
    /// Make a time namespace with these offsets (the text of timens_offsets) and enter it.
    NewTime { offsets: Vec<u8> },
    /// Become root of the user namespace.
    BecomeRoot,
    /// Lead a session.
    NewSession,
    /// A session keyring of our own.
    JoinKeyring { name: CString },
    /// Set `lo` up.
    LoopbackUp,
    /// Change the propagation of every mount.
    Propagate { flags: u64 },
    /// Attach the root's tree over `/`, to be pivoted to.
    AttachRoot,
    /// Make a file system, detached.
    NewMount(NewMount),
    /// Open (and make, if asked) a path beneath the root.
    OpenTarget { target: Target, make: Option<Make>, into: Slot },
    /// Open (and make) a directory beneath the root, without any symlink on the way (proc and sysfs).
    OpenRealDir { target: Target, into: Slot },
    /// Make and open a directory in one of our own, or as [`Step::OpenTarget`] where it is not ours.
    OpenInOwn { own: Slot, target: Target, into: Slot },
    /// Forget a directory of our own if `path` no longer leads to it: a later mount has covered it.
    CheckOwn { own: Slot, path: CString },
    /// Attach a detached mount.
    Attach { mount: Slot, on: Slot, path: CString },
    /// Refuse a target in /proc but for a few files; /proc itself takes only a procfs.
    CheckProcTarget { mount: Slot, on: Slot, path: CString },
    /// Copy the covered directory's content into the new mount (tmpcopyup).
    CopyUp { from: Slot, to: Slot },
    /// Make a device node and verify it.
    MakeNode(Node),
    /// Refuse a tree that is not the device it should be: its type bits and number.
    RequireDevice { tree: Slot, kind: u32, number: (u32, u32), path: CString },
    /// Make a symlink beneath the root, in a directory of our own if there is one; an existing file stays.
    Symlink { target: Target, points_to: CString, own: Option<Slot> },
    /// Run hooks here.
    RunHooks { point: &'static str, hooks: Vec<Hook>, state: Vec<u8> },
    /// pivot_root and let the old root go.
    Pivot,
    /// Move the root over `/` and chroot (--no-pivot).
    MoveRoot,
    /// chroot into the root (no mount namespace).
    Chroot,
    /// Make a terminal from the container's devpts, send its master to the parent, use it as stdio.
    Console { size: Option<(u16, u16)>, mount: bool },
    /// Put passed descriptors at 0, 1, 2.
    PlaceStdio,
    /// Stdio that is the host's /dev/null becomes the container's own: nothing of the host's files stays open.
    OwnNull,
    /// Give stdio to the container's user.
    ChownStdio { uid: u32 },
    /// umask(2).
    Umask(u32),
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Write a file beneath /proc.
    WriteProc { path: CString, value: Vec<u8> },
    /// Make a path read-only.
    ReadonlyPath(CString),
    /// Hide a path.
    MaskPath(CString),
    /// No exec gains privileges.
    NoNewPrivs,
    /// Scheduling policy.
    Scheduler(Scheduling),
    /// io priority, `class << 13 | level`.
    IoPriority(i32),
    /// Execution domain.
    Personality(u64),
    /// Cpus to run on, as a bit mask.
    Affinity(Vec<u64>),
    /// All cpus that the cgroup allows, whatever the caller of this program was bound to.
    FreeAffinity,
    /// NUMA policy.
    MemoryPolicy { mode: u32, nodes: Vec<u64> },
    /// A resource limit.
    Rlimit(Rlimit),
    /// Install the seccomp filter.
    Seccomp(Filter),
    /// Change directory; EACCES is forgiven if a later one tries again as the user.
    Chdir { path: CString, try_again_later: bool },
    /// The working directory must lie inside the root.
    CheckCwd,
    /// Drop from the bounding set all but these.
    Bounding(u64),
    /// Keep permitted capabilities over the change of user.
    KeepCaps,
    /// Supplementary groups.
    Groups(Vec<u32>),
    /// Group.
    Gid(u32),
    /// User.
    Uid(u32),
    /// Capability sets.
    Caps(CapMasks),
    /// Find the program in the candidates.
    FindProgram,
    /// Forbid others to look into this process before it execs.
    NotDumpable,
    /// Let an ordinary user, who could enter the container's namespaces by no other way, look into this process. It holds
    /// nothing any more but the fifo, and has forgotten its environment.
    Show,
    /// Tell the parent that creation is complete.
    Ready,
    /// Wait for `start` at the fifo.
    WaitForStart,
    /// Default signal dispositions.
    ResetSignals,
    /// Mark all descriptors but stdio and the preserved close-on-exec.
    CloseFrom(i32),
}

/// What the script ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Arguments.
    pub argv: Vec<CString>,
    /// Environment.
    pub envp: Vec<CString>,
    /// Where the program may be, in order.
    pub candidates: Vec<CString>,
    /// The name as given, for messages.
    pub name: String,
    /// Whether the name was looked up in $PATH.
    pub searched: bool,
    /// Its own pid is to be added to the environment, as LISTEN_PID: nobody knows it before the clone.
    pub tell_pid: bool,
}

/// A namespace that is entered around clone, so that the child is born in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enter {
    /// The namespace's file.
    pub ns: Slot,
    /// CLONE_NEW*.
    pub kind: u64,
    /// For messages.
    pub what: String,
}

/// An id mapping: container, host, count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// One map of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// What is mapped.
    pub ranges: Vec<IdRange>,
    /// Who gives it to the kernel (newuidmap, newgidmap, by absolute path); `None`: we do.
    pub helper: Option<CString>,
}

/// What the parent does to the child between clone and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnChild {
    /// Write uid_map and gid_map, before the latter `deny` into setgroups if so decided.
    IdMaps { uids: IdMap, gids: IdMap, deny_setgroups: bool },
    /// Write oom_score_adj.
    OomScoreAdj(i32),
    /// Move network devices in: (host name, name inside).
    NetDevices(Vec<(String, String)>),
}

/// Everything about a container's (or an exec's) first process, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitPlan {
    /// How many slots the walker needs.
    pub slots: u16,
    /// The parent's steps, before clone.
    pub parent: Vec<Step>,
    /// Cpus the parent runs on around clone, and so the child is born on.
    pub affinity: Option<Vec<u64>>,
    /// What the parent enters around clone.
    pub around: Vec<Enter>,
    /// What a process in between enters, in order, before it clones: who enters these does not come back.
    pub within: Vec<Enter>,
    /// CLONE_NEW* for clone3.
    pub clone_flags: u64,
    /// The slot of a cgroup v2 directory to be born in.
    pub into_cgroup: Option<Slot>,
    /// Files the parent opens for writing when the child has been recorded, for [`Step::WaitForGo`].
    pub handed: Vec<CString>,
    /// What the parent does to the child.
    pub on_child: Vec<OnChild>,
    /// prestart and createRuntime hooks, which the parent runs at [`Point::Hooks`].
    pub runtime_hooks: Vec<Hook>,
    /// Limits the parent sets at [`Point::Rlimits`].
    pub rlimits: Vec<Rlimit>,
    /// The child's steps.
    pub child: Vec<Step>,
    /// The end.
    pub exec: Exec,
    /// Things worth a warning that planning noticed.
    pub warnings: Vec<String>,
}

/// The sentence part "cannot …" for a step.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Open { path, .. } => write!(f, "open {path:?}"),
            Step::OpenProc { .. } => write!(f, "open /proc"),
            Step::CloneTree { path, recursive, .. } => {
                write!(f, "take {} of {path:?}", if *recursive { "the mount tree" } else { "a bind mount" })
            }
            Step::SetAttr { attr, recursive, .. } => write!(
                f,
                "set mount attributes (set {:#x}, clear {:#x}, propagation {:#x}{})",
                attr.set,
                attr.clear,
                attr.propagation,
                if *recursive { ", recursively" } else { "" }
            ),
            Step::IdMap { path, .. } => {
                write!(f, "map the ids of the mount for {path:?} (its file system must support that)")
            }
            Step::MakeUserNs { .. } => write!(f, "make a user namespace for mapping the ids of a mount"),
            Step::Close(_) => write!(f, "close a descriptor"),
            Step::WaitForGo { .. } => write!(f, "hear from the parent"),
            Step::Sync(Point::Hooks) => write!(f, "run prestart and createRuntime hooks"),
            Step::Sync(Point::Rlimits) => write!(f, "have resource limits set"),
            Step::JoinCgroup { controller, .. } => write!(f, "join the {controller} cgroup"),
            Step::JoinNs { what, .. } => write!(f, "join namespace {what}"),
            Step::Unshare { kinds } => write!(f, "make namespaces {kinds:#x}"),
            Step::NewTime { offsets } => {
                write!(f, "make a time namespace with offsets {:?}", String::from_utf8_lossy(offsets))
            }
            Step::BecomeRoot => write!(f, "become root of the user namespace"),
            Step::NewSession => write!(f, "start a session"),
            Step::JoinKeyring { name } => write!(f, "join session keyring {name:?}"),
            Step::LoopbackUp => write!(f, "set lo up"),
            Step::Propagate { flags } => write!(f, "set the propagation of / to {flags:#x}"),
            Step::AttachRoot => write!(f, "attach the root file system"),
            Step::NewMount(new) => display_new_mount(new, f),
            Step::OpenTarget { target, .. } => write!(f, "open {:?} in the root file system", target.path),
            Step::Attach { path, .. } => write!(f, "mount on {path:?}"),
            Step::CheckProcTarget { path, .. } => {
                write!(f, "mount on {path:?}: it is inside /proc, where only a few files may be covered")
            }
            Step::OpenInOwn { target, .. } => write!(f, "make {:?} in the root file system", target.path),
            Step::CheckOwn { path, .. } => write!(f, "look at what is mounted on {path:?}"),
            Step::OpenRealDir { target, .. } => {
                write!(f, "mount on {:?}, which must be a real directory and not behind a symlink", target.path)
            }
            Step::CopyUp { .. } => write!(f, "copy the covered directory up"),
            Step::MakeNode(node) => {
                write!(f, "make device {:?} ({}:{})", node.target.path, node.number.0, node.number.1)
            }
            Step::RequireDevice { number, path, .. } => {
                write!(f, "use the host's {path:?} as device {}:{}, which it is not", number.0, number.1)
            }
            Step::Symlink { target, points_to, .. } => write!(f, "link {:?} to {points_to:?}", target.path),
            Step::RunHooks { point, .. } => write!(f, "run {point} hooks"),
            Step::Pivot => write!(f, "pivot_root"),
            Step::MoveRoot => write!(f, "move the root over /"),
            Step::Chroot => write!(f, "chroot"),
            Step::Console { .. } => write!(f, "make the console from /dev/pts"),
            Step::PlaceStdio => write!(f, "place stdio"),
            Step::OwnNull => write!(f, "open the container's /dev/null for stdio"),
            Step::ChownStdio { uid } => write!(f, "give stdio to uid {uid}"),
            Step::Umask(mask) => write!(f, "set umask {mask:03o}"),
            Step::Hostname(name) => write!(f, "set host name {name:?}"),
            Step::Domainname(name) => write!(f, "set domain name {name:?}"),
            Step::WriteProc { path, value, .. } => {
                write!(f, "write {:?} to /proc/{}", String::from_utf8_lossy(value), path.to_string_lossy())
            }
            Step::ReadonlyPath(path) => write!(f, "make {path:?} read-only"),
            Step::MaskPath(path) => write!(f, "mask {path:?}"),
            _ => self.display_process(f),
        }
    }
}

fn display_new_mount(new: &NewMount, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "make file system {}", new.fstype.to_string_lossy())?;
    for (n, (key, value)) in new.options.iter().enumerate() {
        write!(f, "{}{}", if n == 0 { " with " } else { "," }, key.to_string_lossy())?;
        if let Some(value) = value {
            write!(f, "={}", value.to_string_lossy())?;
        }
    }
    Ok(())
}

impl Step {
    fn display_process(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::NoNewPrivs => write!(f, "set no_new_privs"),
            Step::Scheduler(s) => {
                write!(f, "set scheduling policy {} (priority {}, nice {})", s.policy, s.priority, s.nice)
            }
            Step::IoPriority(value) => write!(f, "set io priority {}:{}", value >> 13, value & 0x1fff),
            Step::Personality(domain) => write!(f, "set personality {domain:#x}"),
            Step::FreeAffinity => write!(f, "run on all cpus of the cgroup"),
            Step::Affinity(mask) => write!(f, "set cpu affinity {mask:x?}"),
            Step::MemoryPolicy { mode, .. } => write!(f, "set memory policy {mode}"),
            Step::Rlimit(limit) => write!(f, "set {} to {}:{}", limit.name, limit.soft, limit.hard),
            Step::Seccomp(filter) => write!(f, "install a seccomp filter of {} instructions", filter.program.len()),
            Step::Chdir { path, .. } => write!(f, "chdir to cwd ({path:?}) set in config.json"),
            Step::CheckCwd => write!(f, "stay: the current working directory is outside of the container's root"),
            Step::Bounding(mask) => write!(f, "set bounding capabilities {mask:#x}"),
            Step::KeepCaps => write!(f, "keep capabilities"),
            Step::Groups(groups) => write!(f, "set groups {groups:?}"),
            Step::Gid(gid) => write!(f, "set gid {gid}"),
            Step::Uid(uid) => write!(f, "set uid {uid}"),
            Step::Caps(masks) => write!(f, "set capabilities {:#x}", masks.effective),
            Step::FindProgram => write!(f, "find the program"),
            Step::NotDumpable => write!(f, "become not dumpable"),
            Step::Show => write!(f, "be visible to the user who made it"),
            Step::Ready => write!(f, "report readiness"),
            Step::WaitForStart => write!(f, "wait at exec.fifo"),
            Step::ResetSignals => write!(f, "reset signals"),
            Step::CloseFrom(from) => write!(f, "close descriptors from {from}"),
            other => unreachable!("Display names every other step: {other:?}"),
        }
    }
}
