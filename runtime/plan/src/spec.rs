//! config.json: read, and every problem named by its JSON path.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::checks::{self, Security};
use crate::{json_path, lenient};

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

/// Reads config.json; what was left out of it comes as warnings.
pub fn parse_spec(text: &str) -> Result<(Spec, Vec<String>), ConfigError> {
    let repair = |document: &mut serde_json::Value| document.get_mut("process").map(lenient::repair_process);
    parse("config.json", &crate::rdt::respell(text), |document| repair(document).unwrap_or_default())
}

/// Reads process.json; what was left out of it comes as warnings.
pub fn parse_process(text: &str) -> Result<(Process, Vec<String>), ConfigError> {
    parse("process.json", text, lenient::repair_process)
}

fn parse<T: serde::de::DeserializeOwned>(
    file: &'static str,
    text: &str,
    repair: impl FnOnce(&mut serde_json::Value) -> Vec<String>,
) -> Result<(T, Vec<String>), ConfigError> {
    let refused = match serde_json::from_str(text) {
        Ok(parsed) => return Ok((parsed, Vec::new())),
        Err(error) => error,
    };
    let mut document = serde_json::from_str(text).unwrap_or_default();
    let warnings = repair(&mut document);
    serde_json::from_value(document).map(|parsed| (parsed, warnings)).map_err(|_as_before| {
        let offset = json_path::offset(text, refused.line(), refused.column());
        ConfigError::Syntax { file, path: json_path::at(text, offset), reason: refused.to_string() }
    })
}

/// Collects problems; each names its place.
#[derive(Default)]
pub(crate) struct Problems(Vec<(String, String)>);

impl Problems {
    pub(crate) fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.0.push((path.into(), what.into()));
    }

    pub(crate) fn no_nul(&mut self, path: &str, text: &str) {
        if text.contains('\0') {
            self.add(path, "contains a NUL byte");
        }
    }

    pub(crate) fn done(self) -> Result<(), ConfigError> {
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { problems: self.0 }) }
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
    match spec.process() {
        // The specification asks for it at start; we look the program up at create already, as callers expect.
        None => problems.add("process", "is required"),
        Some(process) => check_process(process, &mut problems),
    }
    checks::mounts(spec, &mut problems);
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
    problems.done()
}

/// Checks that this host can confine a container as its configuration asks.
pub fn check_labels(spec: &Spec, host: Security) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    let mount_label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    checks::labels(spec.process().as_ref(), mount_label, host, &mut problems);
    problems.done()
}

/// The same for one more process.
pub fn check_process_labels(process: &Process, host: Security) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    checks::labels(Some(process), None, host, &mut problems);
    problems.done()
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
    checks::scheduling(process, problems);
}

/// A whole process.json on its own.
pub fn validate_process(process: &Process) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    check_process(process, &mut problems);
    problems.done()
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
    if let Some(seccomp) = linux.seccomp() {
        checks::seccomp(seccomp, problems);
    }
    checks::sections(linux, problems);
    if let Some(rdt) = linux.intel_rdt() {
        crate::rdt::check(rdt, problems);
    }
}

fn valid_number(number: i64, most: i64) -> bool {
    (-1..=most).contains(&number)
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
