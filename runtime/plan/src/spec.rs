//! config.json: read, and every problem named by its JSON path.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::json_path;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of the right shape.
    #[error("{file}: at {}: {reason}", if path.is_empty() { "the top" } else { path })]
    Syntax { file: &'static str, path: String, reason: String },
    /// The right shape, but no container can be made of it.
    #[error("config.json: {}", problems.iter().map(|(path, what)| format!("{path}: {what}")).collect::<Vec<_>>().join("; "))]
    Invalid { problems: Vec<(String, String)> },
}

/// Reads config.json.
pub fn parse_spec(text: &str) -> Result<Spec, ConfigError> {
    parse("config.json", text)
}

/// Reads process.json.
pub fn parse_process(text: &str) -> Result<Process, ConfigError> {
    parse("process.json", text)
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, text: &str) -> Result<T, ConfigError> {
    serde_json::from_str(text).map_err(|error| {
        let offset = json_path::offset(text, error.line(), error.column());
        ConfigError::Syntax { file, path: json_path::at(text, offset), reason: error.to_string() }
    })
}

/// Collects problems; each names its place.
#[derive(Default)]
struct Problems(Vec<(String, String)>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.0.push((path.into(), what.into()));
    }

    fn no_nul(&mut self, path: &str, text: &str) {
        if text.contains('\0') {
            self.add(path, "contains a NUL byte");
        }
    }
}

/// Checks everything that can be checked without looking at the machine.
pub fn validate(spec: &Spec) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    check_version(spec.version(), &mut problems);
    match spec.root() {
        None => problems.add("root", "is required"),
        Some(root) if root.path().as_os_str().is_empty() => problems.add("root.path", "is empty"),
        Some(_) => {}
    }
    if let Some(process) = spec.process() {
        check_process(process, &mut problems);
    }
    check_mounts(spec, &mut problems);
    check_namespaces(spec, &mut problems);
    check_linux(spec, &mut problems);
    check_hooks(spec, &mut problems);
    for (present, path) in [
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (spec.vm().is_some(), "vm"),
        (spec.zos().is_some(), "zos"),
    ] {
        if present && spec.linux().is_none() {
            problems.add(path, "is for another platform; this runtime runs linux containers");
        }
    }
    if problems.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { problems: problems.0 }) }
}

fn check_version(version: &str, problems: &mut Problems) {
    let mut parts = version.split(['.', '-', '+']);
    let numbers: Vec<Option<u32>> = (0..3).map(|_| parts.next().and_then(|part| part.parse().ok())).collect();
    match numbers[..] {
        [Some(1), Some(_), Some(_)] => {}
        [Some(major), Some(_), Some(_)] => {
            problems.add("ociVersion", format!("major version {major} is not supported, 1 is"))
        }
        _ => problems.add("ociVersion", format!("{version:?} is not a semantic version")),
    }
}

/// Checks a process (of config.json or process.json).
fn check_process(process: &Process, problems: &mut Problems) {
    match process.args() {
        None => problems.add("process.args", "is required"),
        Some(args) if args.is_empty() => problems.add("process.args", "must not be empty"),
        Some(args) => {
            for (n, arg) in args.iter().enumerate() {
                problems.no_nul(&format!("process.args[{n}]"), arg);
            }
        }
    }
    for (n, variable) in process.env().iter().flatten().enumerate() {
        problems.no_nul(&format!("process.env[{n}]"), variable);
    }
    if !process.cwd().is_absolute() {
        problems.add("process.cwd", "Cwd must be an absolute path");
    }
    let mut seen = Vec::new();
    for (n, limit) in process.rlimits().iter().flatten().enumerate() {
        if seen.contains(&limit.typ()) {
            problems.add(format!("process.rlimits[{n}].type"), format!("{} is given twice", limit.typ()));
        }
        seen.push(limit.typ());
        if limit.soft() > limit.hard() {
            problems.add(format!("process.rlimits[{n}].soft"), "is above the hard limit");
        }
    }
    if let Some(adj) = process.oom_score_adj()
        && !(-1000..=1000).contains(&adj)
    {
        problems.add("process.oomScoreAdj", format!("{adj} is not between -1000 and 1000"));
    }
    if let Some(priority) = process.io_priority()
        && !(0..=7).contains(&priority.priority())
    {
        problems.add("process.ioPriority.priority", format!("{} is not between 0 and 7", priority.priority()));
    }
}

/// A whole process.json on its own.
pub fn validate_process(process: &Process) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    check_process(process, &mut problems);
    if problems.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { problems: problems.0 }) }
}

fn check_mounts(spec: &Spec, problems: &mut Problems) {
    for (n, mount) in spec.mounts().iter().flatten().enumerate() {
        let at = |field: &str| format!("mounts[{n}].{field}");
        if mount.destination().as_os_str().is_empty() {
            problems.add(at("destination"), "is empty");
        }
        if let Some(source) = mount.source() {
            problems.no_nul(&at("source"), &source.to_string_lossy());
        }
        for (o, option) in mount.options().iter().flatten().enumerate() {
            problems.no_nul(&format!("mounts[{n}].options[{o}]"), option);
        }
        problems.no_nul(&at("destination"), &mount.destination().to_string_lossy());
        let lexical = mount.destination().components().filter(|c| matches!(c, std::path::Component::Normal(_))).count();
        if lexical == 0 && !mount.destination().as_os_str().is_empty() {
            problems.add(at("destination"), "the root file system itself cannot be mounted over");
        }
    }
}

fn check_namespaces(spec: &Spec, problems: &mut Problems) {
    let Some(linux) = spec.linux() else { return };
    let mut seen = Vec::new();
    let new = |wanted| linux.namespaces().iter().flatten().any(|ns| ns.typ() == wanted && ns.path().is_none());
    let (new_user, new_time) = (new(LinuxNamespaceType::User), new(LinuxNamespaceType::Time));
    let any = |wanted| linux.namespaces().iter().flatten().any(|ns| ns.typ() == wanted);
    for (n, ns) in linux.namespaces().iter().flatten().enumerate() {
        if seen.contains(&ns.typ()) {
            problems.add(format!("linux.namespaces[{n}].type"), format!("namespace {:?} is given twice", ns.typ()));
        }
        seen.push(ns.typ());
        if ns.path().as_ref().is_some_and(|path| !path.is_absolute()) {
            problems.add(format!("linux.namespaces[{n}].path"), "must be absolute");
        }
    }
    let mapped = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    if new_user && !(mapped(linux.uid_mappings()) && mapped(linux.gid_mappings())) {
        problems.add("linux.uidMappings", "a new user namespace needs uidMappings and gidMappings");
    }
    if !any(LinuxNamespaceType::User) && (mapped(linux.uid_mappings()) || mapped(linux.gid_mappings())) {
        problems.add("linux.uidMappings", "needs a user namespace");
    }
    if linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()) && !new_time {
        problems.add("linux.timeOffsets", "needs a new time namespace");
    }
    if spec.hostname().as_ref().is_some_and(|name| !name.is_empty()) && !any(LinuxNamespaceType::Uts) {
        problems.add("hostname", "unable to set hostname without a private UTS namespace");
    }
    if spec.domainname().as_ref().is_some_and(|name| !name.is_empty()) && !any(LinuxNamespaceType::Uts) {
        problems.add("domainname", "unable to set domainname without a private UTS namespace");
    }
    let paths = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if (paths(linux.masked_paths()) || paths(linux.readonly_paths())) && !any(LinuxNamespaceType::Mount) {
        problems.add("linux.maskedPaths", "unable to restrict sys entries without a private MNT namespace");
    }
}

fn check_linux(spec: &Spec, problems: &mut Problems) {
    let Some(linux) = spec.linux() else { return };
    for (n, device) in linux.devices().iter().flatten().enumerate() {
        if !device.path().is_absolute() {
            problems.add(format!("linux.devices[{n}].path"), "must be absolute");
        }
        if !valid_number(device.major(), 4095) || !valid_number(device.minor(), 1_048_575) {
            problems.add(
                format!("linux.devices[{n}]"),
                format!("{}:{} is no device number", device.major(), device.minor()),
            );
        }
    }
    for (name, value) in linux.sysctl().iter().flatten() {
        problems.no_nul(&format!("linux.sysctl[{name:?}]"), value);
        if name.is_empty() || name.split(['.', '/']).any(|part| part.is_empty() || part == "..") {
            problems.add(format!("linux.sysctl[{name:?}]"), "is not the name of a sysctl");
        } else if let Some(reason) = sysctl_refused(name, spec) {
            problems.add(format!("linux.sysctl[{name:?}]"), reason);
        }
    }
    if let Some(propagation) = linux.rootfs_propagation() {
        const KNOWN: [&str; 9] =
            ["", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
        if !KNOWN.contains(&propagation.as_str()) {
            problems.add("linux.rootfsPropagation", format!("{propagation:?} is not a propagation"));
        }
    }
    for (list, name) in [(linux.masked_paths(), "maskedPaths"), (linux.readonly_paths(), "readonlyPaths")] {
        for (n, path) in list.iter().flatten().enumerate() {
            if !Path::new(path).is_absolute() || path.contains('\0') {
                problems.add(format!("linux.{name}[{n}]"), "must be an absolute path");
            }
        }
    }
    check_seccomp(spec, problems);
    if linux.intel_rdt().is_some() {
        problems.add("linux.intelRdt", "is not supported yet");
    }
}

fn valid_number(number: i64, most: i64) -> bool {
    (-1..=most).contains(&number)
}

fn check_seccomp(spec: &Spec, problems: &mut Problems) {
    let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return };
    for (n, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        if rule.names().is_empty() {
            problems.add(format!("linux.seccomp.syscalls[{n}].names"), "must not be empty");
        }
        for (a, arg) in rule.args().iter().flatten().enumerate() {
            if arg.index() > 5 {
                problems
                    .add(format!("linux.seccomp.syscalls[{n}].args[{a}].index"), "system calls have arguments 0 to 5");
            }
        }
    }
    if seccomp.default_action() == oci_spec::runtime::LinuxSeccompAction::ScmpActNotify {
        problems.add("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default action");
    }
    let notifies =
        |rule: &oci_spec::runtime::LinuxSyscall| rule.action() == oci_spec::runtime::LinuxSeccompAction::ScmpActNotify;
    for (n, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        if notifies(rule) && rule.names().iter().any(|name| name == "write") {
            problems
                .add(format!("linux.seccomp.syscalls[{n}]"), "SCMP_ACT_NOTIFY cannot be used for the write syscall");
        }
        if notifies(rule) && seccomp.listener_path().is_none() {
            problems.add("linux.seccomp.listenerPath", "is needed for SCMP_ACT_NOTIFY");
        }
    }
}

/// Only sysctls that a namespace of the container's own confines may be set: others would change the host.
fn sysctl_refused(name: &str, spec: &Spec) -> Option<String> {
    let dotted = name.replace('/', ".");
    let has =
        |wanted| spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()).any(|ns| ns.typ() == wanted);
    let ipc = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let (needs, which) = if ipc.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        (LinuxNamespaceType::Ipc, "an ipc")
    } else if dotted.starts_with("net.") {
        (LinuxNamespaceType::Network, "a network")
    } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        (LinuxNamespaceType::Uts, "a uts")
    } else if dotted.starts_with("user.") {
        (LinuxNamespaceType::User, "a user")
    } else {
        return Some("is not in a separate kernel namespace".to_owned());
    };
    (!has(needs)).then(|| format!("is not allowed without {which} namespace of the container's own"))
}

fn check_hooks(spec: &Spec, problems: &mut Problems) {
    let Some(hooks) = spec.hooks() else { return };
    let lists = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in lists {
        for (n, hook) in list.iter().flatten().enumerate() {
            if !hook.path().is_absolute() {
                problems.add(format!("hooks.{name}[{n}].path"), "must be absolute");
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                problems.add(format!("hooks.{name}[{n}].timeout"), "must be greater than zero");
            }
        }
    }
}
