//! How the first process comes into being: its namespaces and cgroups, and who makes which of them when.

use std::collections::BTreeMap;
use std::ffi::CString;

use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, Spec};

use super::{Draft, O_DIRECTORY, O_PATH, session};
use crate::host::CgroupJoin;
use crate::slots::{Slots, c};
use crate::step::{Enter, Slot, Step};

/// linux/sched.h.
pub const CLONE_NEWPID: u64 = 0x2000_0000;
/// linux/sched.h.
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: u64 = 0x200_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
const O_WRONLY: i32 = 1;

/// Where the child's namespaces come from.
pub(super) struct Namespaces {
    pub(super) around: Vec<Enter>,
    pub(super) within: Vec<Enter>,
    /// CLONE_NEW* of those that are new, the cgroup and the time namespace excepted.
    pub(super) made: u64,
    pub(super) time: Option<Step>,
    pub(super) mount: Option<Step>,
}

/// A namespace given by path is entered before the clone (the child could not, once in its own user namespace), except a
/// mount namespace, which would take the parent's files away.
pub(super) fn namespaces(draft: &mut Draft<'_>) -> Namespaces {
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

/// How the child comes into being.
pub(super) struct Birth {
    pub(super) clone_flags: u64,
    pub(super) into_cgroup: Option<Slot>,
    pub(super) handed: Vec<CString>,
}

/// Whether the child may make its namespaces itself, all but the pid namespace, while the parent makes its cgroups: making
/// a network namespace takes as long as nine cgroups. With a user namespace the clone makes all, so that they belong to it;
/// network devices are moved to the child as soon as it is there.
pub fn overlaps(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else { return true };
    let user = linux.namespaces().iter().flatten().any(|ns| ns.typ() == Ns::User);
    !user && linux.net_devices().as_ref().is_none_or(|devices| devices.is_empty())
}

pub(super) fn birth(draft: &mut Draft<'_>, spaces: &Namespaces) -> Birth {
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

fn in_cgroup(draft: &mut Draft<'_>) {
    draft.child.push(Step::FreeAffinity);
    if draft.has(Ns::User) {
        draft.child.push(Step::BecomeRoot);
    }
    if draft.makes(Ns::Cgroup) {
        draft.child.push(Step::Unshare { kinds: CLONE_NEWCGROUP });
    }
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
