//! Checkpoint and restore: what CRIU is asked for.
//!
//! Owns: options, external mounts and namespaces, what a version can do, what of its log is worth telling. Does not own:
//! CRIU itself, directories, descriptors: their numbers come in.

mod log;
mod mounts;
mod stdio;
mod version;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType as Ns, Spec};
use pintle_criu::{CgroupMode, CgroupRoot, InheritFd, JoinNamespace, Kind, Options, PageServer, Request};

pub use log::errors;
pub use mounts::{Mountpoint, mountpoints};
pub use stdio::{OutsideFile, descriptors};
pub use version::{Needs, TooOld, Version};

use crate::host::Hierarchy;

/// linux/sched.h. Network devices are not ours, so a network namespace is always restored empty, as runc does it.
const CLONE_NEWNET: u32 = 0x4000_0000;
/// CRIU says everything: what is quoted on failure comes from its log.
const LOG_LEVEL: i32 = 4;
/// Settings of the administrator for CRIU under any runtime of runc's kind.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
/// CRIU's log of a dump, and of a restore.
pub const DUMP_LOG: &str = "dump.log";
/// The same.
pub const RESTORE_LOG: &str = "restore.log";

/// Why a container cannot be checkpointed or restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A flag's value.
    #[error("{0}")]
    Flag(String),
    /// CRIU 3.17 and older lose the map in silence.
    #[error("mounts[{index}]: CRIU cannot restore a mount with mapped ids")]
    MappedIds { index: usize },
    /// CRIU makes cgroup namespaces, it does not join them.
    #[error("linux.namespaces: CRIU cannot restore into a cgroup namespace given by path")]
    CgroupByPath,
    /// Not by this version.
    #[error("{0}")]
    TooOld(#[from] TooOld),
}

/// Flags of both commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// --tcp-established.
    pub tcp_established: bool,
    /// --ext-unix-sk.
    pub ext_unix_sk: bool,
    /// --shell-job.
    pub shell_job: bool,
    /// --file-locks.
    pub file_locks: bool,
    /// --auto-dedup.
    pub auto_dedup: bool,
    /// --lazy-pages.
    pub lazy_pages: bool,
    /// --manage-cgroups-mode.
    pub cgroups: Option<CgroupMode>,
}

/// What only a checkpoint has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpFlags {
    /// --pre-dump.
    pub pre_dump: bool,
    /// --leave-running.
    pub leave_running: bool,
    /// --tcp-skip-in-flight.
    pub tcp_skip_in_flight: bool,
    /// --link-remap.
    pub link_remap: bool,
    /// --page-server.
    pub page_server: Option<(String, i32)>,
    /// --parent-path.
    pub parent: Option<String>,
}

/// Reads `--manage-cgroups-mode`.
///
/// # Errors
/// If it is none.
pub fn cgroup_mode(word: &str) -> Result<Option<CgroupMode>, Refused> {
    Ok(Some(match word {
        "" => return Ok(None),
        "soft" => CgroupMode::Soft,
        "full" => CgroupMode::Full,
        "strict" => CgroupMode::Strict,
        "ignore" => CgroupMode::Ignore,
        _ => return Err(Refused::Flag("Invalid manage-cgroups-mode value".to_owned())),
    }))
}

/// Reads `--page-server`.
///
/// # Errors
/// If it is no `ADDRESS:PORT`.
pub fn page_server(text: &str) -> Result<(String, i32), Refused> {
    let form = || Refused::Flag("Use --page-server ADDRESS:PORT to specify page server".to_owned());
    let (address, port) = text.rsplit_once(':').ok_or_else(form)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if bare.is_empty() || port.is_empty() || (bare == address && bare.contains(':')) {
        return Err(form());
    }
    let port: u16 = port.parse().map_err(|_| Refused::Flag("Invalid port number".to_owned()))?;
    Ok((bare.to_owned(), port.into()))
}

/// Checks `--empty-ns`; network namespaces are restored empty anyhow.
///
/// # Errors
/// If it names another one.
pub fn empty_ns<'a>(mut kinds: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
    match kinds.find(|kind| *kind != "network") {
        Some(kind) => Err(Refused::Flag(format!("namespace {kind:?} is not supported"))),
        None => Ok(()),
    }
}

/// What is known of a container that is dumped.
#[derive(Debug)]
pub struct Dump<'a> {
    /// Its configuration.
    pub spec: &'a Spec,
    /// Its root file system.
    pub rootfs: &'a Path,
    /// Its first process.
    pub pid: i32,
    /// The cgroup whose freezer stops it.
    pub freezer: Option<&'a Path>,
    /// cgroup v1 with the container's paths; empty on v2.
    pub hierarchies: &'a [Hierarchy],
    /// `linux.maskedPaths` that are there and no directories.
    pub masked_files: &'a [String],
    /// Inode numbers of the network and pid namespaces that are given by path.
    pub inodes: [Option<u64>; 2],
    /// Stdio that is files outside the container.
    pub outside: &'a [Option<OutsideFile>],
    /// Our descriptors of the directories for images and logs.
    pub directories: (i32, Option<i32>),
    /// Where a path in the container leads, symbolic links followed.
    pub resolve: fn(&Path, &Path) -> PathBuf,
}

/// The kinds of namespaces that CRIU leaves to the caller, and what both agree to call them.
const EXTERNAL: [(Ns, &str, &str); 2] = [(Ns::Network, "net", "extRootNetNS"), (Ns::Pid, "pid", "extRootPidNS")];

/// Path of a namespace that is joined and not made.
pub fn joined(spec: &Spec, kind: Ns) -> Option<&Path> {
    let all = spec.linux().as_ref()?.namespaces().as_ref()?;
    let found = all.iter().find(|ns| ns.typ() == kind)?.path().as_deref()?;
    Some(found).filter(|path| !path.as_os_str().is_empty())
}

/// Paths of the namespaces that a dump leaves out: network, pid.
pub fn external(spec: &Spec) -> [Option<&Path>; 2] {
    EXTERNAL.map(|(kind, ..)| joined(spec, kind))
}

/// What a dump and what a restore have in common.
fn common(flags: &Flags, spec: &Spec, log: &str, (images, work): (i32, Option<i32>)) -> Options {
    Options {
        images_dir_fd: images,
        work_dir_fd: work,
        log_level: Some(LOG_LEVEL),
        log_file: Some(log.to_owned()),
        notify_scripts: Some(true),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(flags.cgroups.unwrap_or(CgroupMode::Default).into()),
        shell_job: Some(flags.shell_job),
        tcp_established: Some(flags.tcp_established),
        ext_unix_sk: Some(flags.ext_unix_sk),
        file_locks: Some(flags.file_locks),
        auto_dedup: Some(flags.auto_dedup),
        lazy_pages: Some(flags.lazy_pages),
        empty_ns: Some(CLONE_NEWNET),
        orphan_pts_master: Some(true),
        config_file: config_file(spec),
        ..Options::default()
    }
}

/// The annotation `org.criu.config` names another file, or, empty, none.
fn config_file(spec: &Spec) -> Option<String> {
    let own = spec.annotations().as_ref().and_then(|all| all.get("org.criu.config"));
    own.map_or(Some(CONFIG_FILE), |path| Some(path.as_str()).filter(|path| !path.is_empty())).map(str::to_owned)
}

/// Plans a dump.
///
/// # Errors
/// If the container has what CRIU cannot dump, or this CRIU.
pub fn dump(flags: &Flags, more: &DumpFlags, what: &Dump<'_>, version: Version) -> Result<Request, Refused> {
    let mut options = common(flags, what.spec, DUMP_LOG, what.directories);
    options.root = Some(text(what.rootfs));
    options.pid = Some(what.pid);
    options.leave_running = Some(more.leave_running);
    options.tcp_skip_in_flight = Some(more.tcp_skip_in_flight);
    options.link_remap = Some(more.link_remap);
    options.page_server =
        more.page_server.clone().map(|(address, port)| PageServer { address: Some(address), port: Some(port) });
    if let Some(parent) = &more.parent {
        options.parent_img = Some(parent.clone());
        options.track_mem = Some(true);
    }
    for ((_, name, key), inode) in EXTERNAL.iter().zip(what.inodes) {
        if let Some(inode) = inode {
            version.require(if *name == "net" { Needs::ExternalNet } else { Needs::ExternalPid })?;
            options.external.push(format!("{name}[{inode}]:{key}"));
        }
    }
    options.external.extend(what.outside.iter().flatten().map(OutsideFile::to_string));
    // Without a freezer CRIU stops one process after the other.
    if !what.hierarchies.is_empty() || version.has(Needs::FreezerV2) {
        options.freeze_cgroup = what.freezer.map(text);
    }
    if more.pre_dump {
        return Ok(Request::with(Kind::PreDump, options));
    }
    options.ext_mnt = mounts::at_dump(what)?;
    Ok(Request::with(Kind::Dump, options))
}

/// What is known of a container that is restored.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Its configuration.
    pub spec: &'a Spec,
    /// Where config.json is.
    pub bundle: &'a Path,
    /// Its root file system.
    pub rootfs: &'a Path,
    /// Where that is mounted for CRIU.
    pub root: &'a Path,
    /// cgroup v1 with the container's paths; empty on v2.
    pub hierarchies: &'a [Hierarchy],
    /// The text of /proc/<criu>/cgroup, once CRIU is in the container's cgroups.
    pub cgroups: &'a str,
    /// What its stdio was at the dump.
    pub descriptors: &'a [String],
    /// CRIU's descriptors of the network and pid namespaces that are given by path.
    pub namespaces: [Option<i32>; 2],
    /// Our descriptors of the directories for images and logs.
    pub directories: (i32, Option<i32>),
    /// --lsm-profile.
    pub lsm_profile: Option<&'a str>,
    /// --lsm-mount-context.
    pub lsm_mount_context: Option<&'a str>,
    /// Where a path in the container leads, symbolic links followed.
    pub resolve: fn(&Path, &Path) -> PathBuf,
}

/// Plans a restore.
///
/// # Errors
/// If the container has what CRIU cannot restore, or this CRIU.
pub fn restore(flags: &Flags, what: &Restore<'_>, version: Version) -> Result<Request, Refused> {
    let mut options = common(flags, what.spec, RESTORE_LOG, what.directories);
    options.root = Some(text(what.root));
    options.evasive_devices = Some(true);
    options.rst_sibling = Some(true);
    if what.lsm_profile.is_some() || what.lsm_mount_context.is_some() {
        version.require(Needs::Lsm)?;
        options.lsm_profile = what.lsm_profile.map(str::to_owned);
        options.lsm_mount_context = what.lsm_mount_context.map(str::to_owned);
    }
    options.join_ns = join_ns(what.spec)?;
    for ((_, name, key), fd) in EXTERNAL.iter().zip(what.namespaces) {
        if let Some(fd) = fd {
            version.require(if *name == "net" { Needs::ExternalNet } else { Needs::ExternalPid })?;
            options.inherit_fd.push(InheritFd { key: (*key).to_owned(), fd });
        }
    }
    options.inherit_fd.extend(stdio::inherited(what.descriptors));
    options.ext_mnt = mounts::at_restore(what)?;
    options.cg_root = cgroup_roots(what.cgroups);
    Ok(Request::with(Kind::Restore, options))
}

/// Namespaces other than those of [`EXTERNAL`] are joined by CRIU.
fn join_ns(spec: &Spec) -> Result<Vec<JoinNamespace>, Refused> {
    if joined(spec, Ns::Cgroup).is_some() {
        return Err(Refused::CgroupByPath);
    }
    let kinds = [(Ns::Ipc, "ipc"), (Ns::Uts, "uts"), (Ns::Mount, "mnt"), (Ns::User, "user"), (Ns::Time, "time")];
    let join = |(kind, name): (Ns, &str)| {
        joined(spec, kind).map(|path| JoinNamespace { kind: name.to_owned(), path: text(path) })
    };
    Ok(kinds.into_iter().filter_map(join).collect())
}

/// cgroups(7): `id:controllers:path`; on v2 no controllers.
fn cgroup_roots(text: &str) -> Vec<CgroupRoot> {
    let roots = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        Some(
            controllers
                .split(',')
                .map(move |controller| CgroupRoot { controller: Some(controller.to_owned()), path: path.to_owned() }),
        )
    });
    roots.flatten().collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
