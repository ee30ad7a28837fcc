//! Checks of single sections of config.json: mounts, seccomp, scheduling, and the fields a wrong value of which the
//! kernel would take without a word.

use oci_spec::runtime::{
    Linux, LinuxDeviceType, LinuxNamespaceType, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSyscall, Mount,
    Process, Spec,
};

use crate::lists;
use crate::mount_options::Options;
use crate::spec::Problems;

/// Kinds of mounts whose every option is a matter of where they are, not of what they are.
pub(crate) fn is_bind(mount: &Mount, options: &Options) -> bool {
    options.bind.is_some() || matches!(mount.typ().as_deref(), None | Some("" | "none" | "bind" | "rbind"))
}

pub(crate) fn mounts(spec: &Spec, problems: &mut Problems) {
    for (n, mount) in spec.mounts().iter().flatten().enumerate() {
        mount_paths(n, mount, problems);
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let bind = is_bind(mount, &options);
        if bind && !options.data.is_empty() {
            let what = "bind mounts cannot have any filesystem-specific options applied";
            problems.add(format!("mounts[{n}].options"), format!("{what}: {}", options.data.join(",")));
        }
        if options.copy_up && mount.typ().as_deref() != Some("tmpfs") {
            problems.add(format!("mounts[{n}].options"), "tmpcopyup is for tmpfs only");
        }
        id_mapping(n, mount, &options, spec, problems);
    }
}

fn mount_paths(n: usize, mount: &Mount, problems: &mut Problems) {
    let at = |field: &str| format!("mounts[{n}].{field}");
    if mount.destination().as_os_str().is_empty() {
        problems.add(at("destination"), "is empty");
    }
    if let Some(source) = mount.source() {
        problems.no_nul(&at("source"), &source.to_string_lossy());
    }
    if let Some(kind) = mount.typ() {
        problems.no_nul(&at("type"), kind);
    }
    for (o, option) in mount.options().iter().flatten().enumerate() {
        problems.no_nul(&format!("mounts[{n}].options[{o}]"), option);
    }
    problems.no_nul(&at("destination"), &mount.destination().to_string_lossy());
    let names = mount.destination().components().filter(|c| matches!(c, std::path::Component::Normal(_))).count();
    if names == 0 && !mount.destination().as_os_str().is_empty() {
        problems.add(at("destination"), "the root file system itself cannot be mounted over");
    }
}

/// Ids are mapped by both maps of the mount, or, with `idmap` alone, by those of the container's user namespace.
fn id_mapping(n: usize, mount: &Mount, options: &Options, spec: &Spec, problems: &mut Problems) {
    let given = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    let (uids, gids) = (given(mount.uid_mappings()), given(mount.gid_mappings()));
    if !uids && !gids && options.idmap.is_none() {
        return;
    }
    if !is_bind(mount, options) {
        problems.add(format!("mounts[{n}]"), "id-mapped mounts are only supported for bind-mounts");
    }
    if uids != gids {
        let (has, lacks) = if uids { ("uidMappings", "gidMappings") } else { ("gidMappings", "uidMappings") };
        problems.add(format!("mounts[{n}].{has}"), format!("needs {lacks} as well"));
    }
    if !uids && !gids && !has_namespace(spec, LinuxNamespaceType::User) {
        problems.add(format!("mounts[{n}].options"), "idmap needs uidMappings, or a user namespace of the container");
    }
}

fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()).any(|ns| ns.typ() == kind)
}

/// Scheduling and affinity of a process.
pub(crate) fn scheduling(process: &Process, problems: &mut Problems) {
    if let Some(priority) = process.io_priority()
        && !(0..=7).contains(&priority.priority())
    {
        problems.add("process.ioPriority.priority", format!("{} is not between 0 and 7", priority.priority()));
    }
    if let Some(scheduler) = process.scheduler() {
        if scheduler.nice().is_some_and(|nice| !(-20..=19).contains(&nice)) {
            problems.add("process.scheduler.nice", "is not between -20 and 19");
        }
        if scheduler.priority().is_some_and(|priority| priority < 0) {
            problems.add("process.scheduler.priority", "is negative");
        }
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        for (field, list) in [("initial", affinity.initial()), ("final", affinity.cpu_affinity_final())] {
            if let Some(Err(reason)) = list.as_deref().filter(|list| !list.is_empty()).map(lists::mask) {
                problems.add(format!("process.execCPUAffinity.{field}"), reason);
            }
        }
    }
}

/// The sections of `linux` that are not checked elsewhere.
pub(crate) fn sections(linux: &Linux, problems: &mut Problems) {
    if let Some(personality) = linux.personality()
        && personality.flags().as_ref().is_some_and(|flags| !flags.is_empty())
    {
        problems.add("linux.personality.flags", "no flags are supported by the specification at this time");
    }
    for clock in linux.time_offsets().iter().flat_map(|offsets| offsets.keys()) {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            problems.add(format!("linux.timeOffsets.{clock}"), "is neither monotonic nor boottime");
        }
    }
    for (n, device) in linux.devices().iter().flatten().enumerate() {
        if device.typ() == LinuxDeviceType::A {
            problems.add(format!("linux.devices[{n}].type"), "\"a\" is for rules, not for devices");
        }
    }
    if let Some(policy) = linux.memory_policy()
        && let Some(Err(reason)) = policy.nodes().as_deref().filter(|nodes| !nodes.is_empty()).map(lists::mask)
    {
        problems.add("linux.memoryPolicy.nodes", reason);
    }
    for (name, maps) in [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())] {
        for (n, map) in maps.iter().flatten().enumerate() {
            if map.size() == 0 {
                problems.add(format!("linux.{name}[{n}].size"), "maps nothing");
            }
        }
    }
    if let Some(io) = linux.resources().as_ref().and_then(|resources| resources.block_io().as_ref()) {
        let leaf = "Linux has had no leaf weights since 5.0";
        if io.leaf_weight().is_some() {
            problems.add("linux.resources.blockIO.leafWeight", leaf);
        }
        for (n, device) in io.weight_device().iter().flatten().enumerate() {
            if device.leaf_weight().is_some() {
                problems.add(format!("linux.resources.blockIO.weightDevice[{n}].leafWeight"), leaf);
            }
        }
    }
    net_devices(linux, problems);
}

/// Names as the kernel takes them (dev_valid_name): short, no slash, no space, no colon.
fn net_devices(linux: &Linux, problems: &mut Problems) {
    let Some(devices) = linux.net_devices().as_ref().filter(|devices| !devices.is_empty()) else { return };
    let valid = |name: &str| {
        !name.is_empty()
            && name.len() < 16
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
    };
    let listed = linux.namespaces().iter().flatten();
    if !listed.clone().any(|ns| ns.typ() == LinuxNamespaceType::Network) {
        problems.add("linux.netDevices", "unable to move network devices without a private NET namespace");
    }
    let mut inside: Vec<&str> = Vec::new();
    for (host, device) in devices {
        let name = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        if !valid(host) {
            problems.add(format!("linux.netDevices[{host:?}]"), "is not the name of a network device");
        }
        if !valid(name) || inside.contains(&name) {
            let what = if valid(name) { "is given twice" } else { "is not the name of a network device" };
            problems.add(format!("linux.netDevices[{host:?}].name"), format!("{name:?} {what}"));
        }
        inside.push(name);
    }
}

pub(crate) fn seccomp(seccomp: &LinuxSeccomp, problems: &mut Problems) {
    let takes_errno = |action| matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
    if seccomp.default_action() == Action::ScmpActNotify {
        problems.add("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default action");
    }
    if seccomp.default_errno_ret().is_some() && !takes_errno(seccomp.default_action()) {
        problems.add("linux.seccomp.defaultErrnoRet", "the default action does not return an errno");
    }
    let listens = seccomp.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    if seccomp.listener_metadata().as_ref().is_some_and(|text| !text.is_empty()) && !listens {
        problems.add("linux.seccomp.listenerMetadata", "needs a listenerPath");
    }
    for (n, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        let at = format!("linux.seccomp.syscalls[{n}]");
        seccomp_rule(&at, rule, problems);
        if rule.errno_ret().is_some() && !takes_errno(rule.action()) {
            problems.add(format!("{at}.errnoRet"), "the action does not return an errno");
        }
        if rule.action() == Action::ScmpActNotify && !listens {
            problems.add("linux.seccomp.listenerPath", "is needed for SCMP_ACT_NOTIFY");
        }
    }
}

fn seccomp_rule(at: &str, rule: &LinuxSyscall, problems: &mut Problems) {
    if rule.names().is_empty() {
        problems.add(format!("{at}.names"), "must not be empty");
    }
    for (a, arg) in rule.args().iter().flatten().enumerate() {
        if arg.index() > 5 {
            problems.add(format!("{at}.args[{a}].index"), "system calls have arguments 0 to 5");
        }
    }
    if rule.action() == Action::ScmpActNotify && rule.names().iter().any(|name| name == "write") {
        problems.add(at, "SCMP_ACT_NOTIFY cannot be used for the write syscall");
    }
}

/// What a host must have for a container that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Security {
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
}

/// Labels that this host cannot apply: a container that asked to be confined must not run unconfined.
pub(crate) fn labels(process: Option<&Process>, mount_label: Option<&str>, host: Security, problems: &mut Problems) {
    let set = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    let selinux = "selinux label is specified in config, but selinux is disabled or not supported";
    if process.is_some_and(|process| set(process.apparmor_profile())) && !host.apparmor {
        problems.add("process.apparmorProfile", "apparmor: config provided but apparmor not supported");
    }
    if process.is_some_and(|process| set(process.selinux_label())) && !host.selinux {
        problems.add("process.selinuxLabel", selinux);
    }
    if mount_label.is_some_and(|label| !label.is_empty()) && !host.selinux {
        problems.add("linux.mountLabel", selinux);
    }
}
