//! The mounts and devices of a container.
//!
//! Every mount is made detached, given its attributes, and attached to a descriptor opened beneath the root: no path
//! is looked up twice, so nothing can be swapped in between (CVE-2021-30465, CVE-2024-45310).

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType as Ns, Mount};

use crate::checks::is_bind;
use crate::init::{Draft, ranges};
use crate::mount_options::{MS_PRIVATE, MS_REC, Options, RDONLY};
use crate::slots::{c, target};
use crate::step::{Attr, IdRange, Make, NewMount, Node, Slot, Step};

const S_IFMT: u32 = 0o170_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// What every container has (runtime-spec, config-linux.md, default devices).
pub(crate) const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const DEV_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// Plans all mounts, then /dev.
pub(crate) fn plan(draft: &mut Draft<'_>) {
    let spec = draft.spec;
    for mount in spec.mounts().iter().flatten() {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or_default();
        match kind {
            _ if is_bind(mount, &options) => bind(draft, mount, &options),
            "cgroup" => cgroup(draft, mount, &options),
            _ => file_system(draft, mount, kind, &options),
        }
    }
    if needs_dev(draft) {
        devices(draft);
    }
    if let Some(own) = draft.own_dev.take() {
        draft.child.push(Step::Close(own));
    }
}

/// Whether a mount is the one tmpfs on /dev, empty and nobody's but ours: no image and no volume can have a say in what is
/// made in it.
fn is_own_dev(draft: &Draft<'_>, mount: &Mount, kind: &str, options: &Options) -> bool {
    let on_dev = |mount: &&Mount| same_path(mount.destination(), Path::new("/dev"));
    kind == "tmpfs"
        && on_dev(&mount)
        && !options.copy_up
        && draft.spec.mounts().iter().flatten().filter(on_dev).count() == 1
}

/// Opens where a file system is to be mounted.
fn open_place(draft: &mut Draft<'_>, mount: &Mount, kind: &str, on: Slot) {
    let (target, into) = (target(mount.destination()), on);
    let in_dev = target.walk.len() == 2 && target.walk[0].1.as_c_str() == c"dev";
    draft.child.push(match draft.own_dev {
        _ if kind == "proc" || kind == "sysfs" => Step::OpenRealDir { target, into },
        Some(own) if in_dev && target.walk[1].1.as_c_str() != c".." => Step::OpenInOwn { own, target, into },
        _ => Step::OpenTarget { target, make: Some(Make::Dir), into },
    });
}

/// Mounts over /dev that come from the host are taken as they are.
fn needs_dev(draft: &Draft<'_>) -> bool {
    let over_dev = |mount: &Mount| {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let bind = options.bind.is_some() || mount.typ().as_deref() == Some("bind");
        bind && same_path(mount.destination(), Path::new("/dev"))
    };
    !draft.spec.mounts().iter().flatten().any(over_dev)
}

fn same_path(a: &Path, b: &Path) -> bool {
    target(a).path == target(b).path
}

fn bind(draft: &mut Draft<'_>, mount: &Mount, options: &Options) {
    let source = mount.source().clone().unwrap_or_else(|| PathBuf::from("/"));
    let source = draft.host.bundle.join(source);
    let tree = draft.slots.take();
    let recursive = options.bind.unwrap_or(true);
    draft.taker().push(Step::CloneTree { path: c(&source), recursive, into: tree });
    set_attr(draft.taker(), tree, options.attr, false);
    set_attr(draft.taker(), tree, options.recursive, true);
    // Nothing may flow either way unless it was asked for: the copy of a shared mount is its peer.
    let propagation = if options.propagation == 0 { MS_PRIVATE | MS_REC } else { options.propagation };
    set_propagation(draft.taker(), tree, propagation);
    id_map(draft, mount, options, tree);
    if !options.superblock.is_empty() {
        draft.warnings.push(format!(
            "bind mount on {}: {:?} are set where the file system is mounted",
            mount.destination().display(),
            options.superblock
        ));
    }
    let on = draft.slots.take();
    let destination = target(mount.destination());
    let path = destination.path.clone();
    draft.child.push(Step::OpenTarget { target: destination, make: Some(Make::Like(tree)), into: on });
    draft.child.push(Step::CheckProcTarget { mount: tree, on, path: path.clone() });
    draft.child.push(Step::Attach { mount: tree, on, path });
    draft.child.push(Step::Close(on));
    draft.child.push(Step::Close(tree));
}

/// Maps the ids of a tree that nobody has seen yet, by a user namespace that only holds the maps.
fn id_map(draft: &mut Draft<'_>, mount: &Mount, options: &Options, tree: Slot) {
    let own = (ranges(mount.uid_mappings()), ranges(mount.gid_mappings()));
    let given = !own.0.is_empty();
    if !given && options.idmap.is_none() {
        return;
    }
    let joined = draft.namespace(Ns::User).flatten().map(c);
    let userns = match joined {
        Some(path) if !given => {
            let slot = draft.slots.take();
            draft.parent.push(Step::Open { path, flags: 0, into: slot });
            slot
        }
        _ if given => maps_in_slot(draft, own),
        _ => {
            let of = |pick: fn(&Linux) -> &Option<Vec<LinuxIdMapping>>| draft.linux().map(pick).map(ranges);
            let maps = (of(Linux::uid_mappings).unwrap_or_default(), of(Linux::gid_mappings).unwrap_or_default());
            maps_in_slot(draft, maps)
        }
    };
    let (recursive, path) = (options.idmap.unwrap_or(false), target(mount.destination()).path);
    draft.parent.push(Step::IdMap { mount: tree, userns, recursive, path });
}

fn maps_in_slot(draft: &mut Draft<'_>, (uids, gids): (Vec<IdRange>, Vec<IdRange>)) -> Slot {
    if let Some((_, _, slot)) = draft.id_maps.iter().find(|(u, g, _)| *u == uids && *g == gids) {
        return *slot;
    }
    let into = draft.slots.take();
    draft.parent.push(Step::MakeUserNs { uids: uids.clone(), gids: gids.clone(), into });
    draft.id_maps.push((uids, gids, into));
    into
}

fn set_attr(steps: &mut Vec<Step>, mount: Slot, attr: Attr, recursive: bool) {
    if !attr.is_empty() {
        steps.push(Step::SetAttr { mount, attr, recursive });
    }
}

fn set_propagation(steps: &mut Vec<Step>, mount: Slot, flags: u64) {
    let attr = Attr { propagation: flags & !MS_REC, ..Attr::default() };
    steps.push(Step::SetAttr { mount, attr, recursive: flags & MS_REC != 0 });
}

fn file_system(draft: &mut Draft<'_>, mount: &Mount, kind: &str, options: &Options) {
    let (on, made) = (draft.slots.take(), draft.slots.take());
    let path = target(mount.destination()).path;
    open_place(draft, mount, kind, on);
    let has_mode = options.data.iter().any(|option| option.starts_with("mode="));
    let at_the_end = kind == "tmpfs" && same_path(mount.destination(), Path::new("/dev"));
    let late = if at_the_end { options.attr.set & RDONLY } else { 0 };
    let mut data = fs_options(kind, mount.source().as_deref(), &options.data);
    data.extend(options.superblock.iter().map(|flag| (c(flag), None)));
    if options.attr.set & RDONLY != 0 && !VIRTUAL.contains(&kind) {
        data.push((c("ro"), None));
    }
    data.extend(label(draft, kind).map(|label| (c("context"), Some(label))));
    draft.child.push(Step::NewMount(NewMount {
        fstype: c(kind),
        options: data,
        attrs: options.attr.set & !late,
        inherit_mode_of: (kind == "tmpfs" && !has_mode).then_some(on),
        on,
        path: path.clone(),
        into: made,
    }));
    if options.copy_up {
        draft.child.push(Step::CopyUp { from: on, to: made });
    }
    if options.propagation != 0 {
        set_propagation(&mut draft.child, made, options.propagation);
    }
    set_attr(&mut draft.child, made, options.recursive, true);
    draft.child.push(Step::CheckProcTarget { mount: made, on, path: path.clone() });
    draft.child.push(Step::Attach { mount: made, on, path });
    draft.child.push(Step::Close(on));
    if is_own_dev(draft, mount, kind, options) {
        draft.own_dev = Some(made);
    } else {
        draft.child.push(Step::Close(made));
    }
}

/// File systems without a device behind them: read-only is a matter of the mount. Of the others the superblock is
/// read-only too, or a read-only device could not be mounted.
const VIRTUAL: [&str; 8] = ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "ramfs"];

/// The SELinux label of what is inside; the kernel labels its own file systems itself.
fn label(draft: &Draft<'_>, kind: &str) -> Option<std::ffi::CString> {
    let label = draft.linux()?.mount_label().as_ref().filter(|label| !label.is_empty())?;
    (!matches!(kind, "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue")).then(|| c(label))
}

/// Mount options as fsconfig wants them: one by one, the source among them.
fn fs_options(
    kind: &str,
    source: Option<&Path>,
    data: &[String],
) -> Vec<(std::ffi::CString, Option<std::ffi::CString>)> {
    let source = source.map(|path| path.to_string_lossy().into_owned()).filter(|s| !s.is_empty());
    let source = source.unwrap_or_else(|| kind.to_owned());
    let mut options = vec![(c("source"), Some(c(source)))];
    for entry in data.iter().flat_map(|entry| entry.split(',')).filter(|entry| !entry.is_empty()) {
        match entry.split_once('=') {
            Some((key, value)) => options.push((c(key), Some(c(value)))),
            None => options.push((c(entry), None)),
        }
    }
    options
}

fn cgroup(draft: &mut Draft<'_>, mount: &Mount, options: &Options) {
    if draft.host.hierarchies.is_empty() {
        cgroup_v2(draft, mount, options);
    } else {
        cgroup_v1(draft, mount, options);
    }
}

fn cgroup_v2(draft: &mut Draft<'_>, mount: &Mount, options: &Options) {
    if draft.makes(Ns::Cgroup) {
        let options = Options { data: Vec::new(), ..options.clone() };
        return file_system(draft, mount, "cgroup2", &options);
    }
    let source = draft.host.unified.clone().unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup"));
    bind_at(draft, &source, mount.destination(), options.attr, Taken::AsUsual);
}

/// A tmpfs with one directory per hierarchy, the container's own cgroup in each.
fn cgroup_v1(draft: &mut Draft<'_>, mount: &Mount, options: &Options) {
    let attrs = options.attr.set & !RDONLY;
    let (on, made) = (draft.slots.take(), draft.slots.take());
    let destination = target(mount.destination());
    draft.child.push(Step::OpenTarget { target: destination.clone(), make: Some(Make::Dir), into: on });
    draft.child.push(Step::NewMount(NewMount {
        fstype: c("tmpfs"),
        options: vec![(c("source"), Some(c("tmpfs"))), (c("mode"), Some(c("755")))],
        attrs,
        inherit_mode_of: None,
        on,
        path: destination.path.clone(),
        into: made,
    }));
    draft.child.push(Step::Attach { mount: made, on, path: destination.path });
    let new_namespace = draft.makes(Ns::Cgroup);
    for hierarchy in draft.host.hierarchies.clone() {
        let name = hierarchy.mountpoint.file_name().unwrap_or_default().to_owned();
        let at = mount.destination().join(&name);
        if new_namespace {
            let data = hierarchy.controllers.iter().flat_map(|controller| match controller.strip_prefix("name=") {
                Some(_) => vec!["none".to_owned(), controller.clone()],
                None => vec![controller.clone()],
            });
            let options = Options { data: data.collect(), attr: options.attr, ..Options::default() };
            let mut inner = mount.clone();
            inner.set_destination(at.clone()).set_source(Some(PathBuf::from("cgroup")));
            file_system(draft, &inner, "cgroup", &options);
        } else {
            let source = hierarchy.mountpoint.join(hierarchy.path.trim_start_matches('/'));
            // Made by now for the child, and perhaps not yet for the parent.
            let taken = if draft.host.cgroups_later { Taken::ByChild } else { Taken::AsUsual };
            bind_at(draft, &source, &at, options.attr, taken);
        }
        for controller in hierarchy.controllers.iter().filter(|one| name != one.as_str() && !one.starts_with("name=")) {
            let link = target(&mount.destination().join(controller));
            draft.child.push(Step::Symlink { target: link, points_to: c(&name), own: None });
        }
    }
    let readonly = Attr { set: options.attr.set & RDONLY, ..Attr::default() };
    set_attr(&mut draft.child, made, readonly, false);
    draft.child.push(Step::Close(on));
    draft.child.push(Step::Close(made));
}

/// Who takes a mount of the host.
#[derive(Clone, Copy)]
enum Taken {
    /// The parent, if it may.
    AsUsual,
    /// The child, before it covers `/`.
    ByChild,
}

fn bind_at(draft: &mut Draft<'_>, source: &Path, destination: &Path, attr: Attr, taken: Taken) -> Slot {
    let (tree, on) = (draft.slots.take(), draft.slots.take());
    let taker = match taken {
        Taken::AsUsual => draft.taker(),
        Taken::ByChild => &mut draft.trees,
    };
    taker.push(Step::CloneTree { path: c(source), recursive: true, into: tree });
    set_attr(taker, tree, attr, false);
    set_propagation(taker, tree, MS_PRIVATE | MS_REC);
    let destination = target(destination);
    let path = destination.path.clone();
    draft.child.push(Step::OpenTarget { target: destination, make: Some(Make::Like(tree)), into: on });
    draft.child.push(Step::Attach { mount: tree, on, path });
    draft.child.push(Step::Close(on));
    draft.child.push(Step::Close(tree));
    tree
}

fn devices(draft: &mut Draft<'_>) {
    if let Some(own) = draft.own_dev {
        draft.child.push(Step::CheckOwn { own, path: c("/dev") });
    }
    let listed = draft.linux().and_then(|linux| linux.devices().clone()).unwrap_or_default();
    for (path, major, minor) in DEFAULT_DEVICES {
        if !listed.iter().any(|device| same_path(device.path(), Path::new(path))) {
            node(draft, Path::new(path), S_IFCHR | 0o666, (major, minor), (0, 0));
        }
    }
    for device in &listed {
        let mode = device.file_mode().unwrap_or(0o666) & 0o7777 | type_bits(device);
        if !may_mknod(draft, mode) && (device.file_mode().is_some() || device.uid().or(device.gid()).is_some()) {
            let (path, wanted) = (device.path().display(), (device.file_mode(), device.uid(), device.gid()));
            let what = "is the host's, with its mode and owner: in a user namespace no device can be made";
            draft.warnings.push(format!("linux.devices: {path} {what} (asked for {wanted:?})"));
        }
        let number = (device.major().max(0) as u32, device.minor().max(0) as u32);
        node(draft, device.path(), mode, number, (device.uid().unwrap_or(0), device.gid().unwrap_or(0)));
    }
    let own = draft.own_dev;
    for (link, points_to) in DEV_LINKS.iter().chain(&[("/dev/ptmx", "pts/ptmx")]) {
        draft.child.push(Step::Symlink { target: target(Path::new(link)), points_to: c(points_to), own });
    }
}

fn type_bits(device: &LinuxDevice) -> u32 {
    match device.typ() {
        LinuxDeviceType::B => S_IFBLK,
        LinuxDeviceType::P => S_IFIFO,
        LinuxDeviceType::A | LinuxDeviceType::C | LinuxDeviceType::U => S_IFCHR,
    }
}

/// In a user namespace only pipes can be made.
fn may_mknod(draft: &Draft<'_>, mode: u32) -> bool {
    mode & S_IFMT == S_IFIFO || !draft.has(Ns::User) && !draft.host.caller.in_user_namespace()
}

/// Where nodes cannot be made, the host's is bound.
fn node(draft: &mut Draft<'_>, path: &Path, mode: u32, number: (u32, u32), owner: (u32, u32)) {
    if may_mknod(draft, mode) {
        let target = target(path);
        // Ours are root's; what is in a directory below is made step by step.
        let caller = &draft.host.caller;
        let plain =
            target.walk.len() == 2 && target.walk[0].1.as_c_str() == c"dev" && target.walk[1].1.as_c_str() != c"..";
        let own = draft.own_dev.filter(|_| plain && owner == (0, 0) && (caller.uid, caller.gid) == (0, 0));
        draft.child.push(Step::MakeNode(Node { target, mode, number, owner, own }));
    } else {
        let tree = bind_at(draft, path, path, Attr::default(), Taken::AsUsual);
        draft.taker().push(Step::RequireDevice { tree, kind: mode & S_IFMT, number, path: target(path).path });
    }
}

/// After the pivot: what had to stay writable until now.
pub(crate) fn finish(draft: &mut Draft<'_>) {
    for mount in draft.spec.mounts().iter().flatten() {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let dev = mount.typ().as_deref() == Some("tmpfs") && same_path(mount.destination(), Path::new("/dev"));
        if dev && options.attr.set & RDONLY != 0 {
            let slot = draft.slots.take();
            draft.child.push(Step::OpenTarget { target: target(mount.destination()), make: None, into: slot });
            let attr = Attr { set: RDONLY, ..Attr::default() };
            draft.child.push(Step::SetAttr { mount: slot, attr, recursive: false });
            draft.child.push(Step::Close(slot));
        }
    }
}
