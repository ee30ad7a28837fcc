//! A container of a pod as an OCI runtime spec.
//!
//! Owns: the translation. Does not own: namespaces the pod's supervisor made (net, ipc, uts are inherited from it),
//! the root file system, writing config.json.

use std::collections::HashMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, Mount, Process, Root, Spec, User,
};

use crate::containers::{Role, name, namespace, spec, uid};
use crate::env::{ConfigError, expand};
use crate::resources::{QosClass, container_resources, oom_score_adj, qos_class};
use crate::security;
use crate::users::Identity;
use crate::volumes::MountPlan;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image's configuration says about its processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSettings {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`; empty is `/`.
    pub working_dir: String,
    /// `User`; empty is root.
    pub user: String,
    /// `StopSignal`; empty is SIGTERM.
    pub stop_signal: String,
}

/// A volume of the pod at its place in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeBind {
    /// On the node.
    pub source: PathBuf,
    /// In the container.
    pub mount_path: String,
    /// No writes through this mount.
    pub read_only: bool,
    /// No writes through mounts below it either.
    pub recursive_read_only: bool,
    /// How mounts travel between node and container.
    pub propagation: Propagation,
    /// More options of the bind mount.
    pub options: Vec<&'static str>,
}

impl VolumeBind {
    /// A planned mount whose source was found on the node.
    pub fn new(source: PathBuf, mount: &MountPlan) -> VolumeBind {
        VolumeBind {
            source,
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only,
            recursive_read_only: mount.recursive_read_only,
            propagation: mount.propagation,
            options: mount.options.clone(),
        }
    }
}

/// How mounts travel between node and container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not.
    Private,
    /// From node to container.
    HostToContainer,
    /// Both ways; privileged containers only.
    Bidirectional,
}

/// Files every container of the pod sees, on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFiles {
    /// /etc/hosts.
    pub hosts: PathBuf,
    /// /etc/hostname.
    pub hostname: PathBuf,
    /// /etc/resolv.conf.
    pub resolv_conf: PathBuf,
    /// The pod's /dev/shm.
    pub shm: PathBuf,
    /// The container's termination message.
    pub termination_log: PathBuf,
}

/// Everything a container's spec is made from.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the container is in it.
    pub role: Role,
    /// The container.
    pub container: &'a Container,
    /// Its OCI id.
    pub id: &'a str,
    /// Which start of this container this is, from 0.
    pub attempt: u32,
    /// Its image's settings.
    pub image: &'a ImageSettings,
    /// Its environment, without the image's.
    pub env: &'a [(String, String)],
    /// Who it runs as.
    pub identity: &'a Identity,
    /// Its volumes.
    pub binds: &'a [VolumeBind],
    /// Files of the pod.
    pub files: &'a PodFiles,
    /// Its root file system, on the node.
    pub rootfs: &'a PathBuf,
    /// The pod's cgroup, relative to every controller's root.
    pub pod_cgroup: &'a str,
    /// Memory of the machine, in bytes.
    pub machine_memory: i64,
    /// Devices of the node; given to privileged containers.
    pub devices: &'a [LinuxDevice],
    /// The profile a `Localhost` seccomp type names.
    pub localhost_seccomp: Option<&'a LinuxSeccomp>,
}

/// The container's OCI spec.
pub fn container_spec(input: &ContainerInput<'_>) -> Result<Spec, ConfigError> {
    let mut root = Root::default();
    root.set_path(input.rootfs.clone()).set_readonly(Some(security::read_only_root(input.container)));
    let mut out = Spec::default();
    out.set_version("1.2.0".to_owned());
    out.set_root(Some(root)).set_process(Some(process(input)?)).set_mounts(Some(mounts(input)));
    out.set_hostname(None).set_hooks(None).set_linux(Some(linux(input)));
    out.set_annotations(Some(annotations(input)));
    Ok(out)
}

/// An exec's process: the container's own, with another command.
pub fn exec_process(own: &Process, command: Vec<String>, terminal: bool) -> Process {
    let mut out = own.clone();
    out.set_args(Some(command)).set_terminal(Some(terminal));
    if terminal {
        let mut env = out.env().clone().unwrap_or_default();
        if !env.iter().any(|v| v.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        out.set_env(Some(env));
    }
    out
}

/// What to run: command and args of the container, or entrypoint and cmd of the image.
pub fn arguments(container: &Container, image: &ImageSettings, env: &[(String, String)]) -> Vec<String> {
    let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, &lookup)).collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [image.entrypoint.clone(), args].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

fn process(input: &ContainerInput<'_>) -> Result<Process, ConfigError> {
    let container = input.container;
    let args = arguments(container, input.image, input.env);
    if args.is_empty() {
        return Err(ConfigError::NoCommand);
    }
    let mut user = User::default();
    user.set_uid(input.identity.uid).set_gid(input.identity.gid);
    user.set_additional_gids(Some(input.identity.groups.clone()));
    let cwd = [container.working_dir.as_deref().unwrap_or_default(), &input.image.working_dir, "/"];
    let cwd = cwd.into_iter().find(|c| !c.is_empty()).unwrap_or("/");
    let class = qos_class(input.pod);
    let mut out = Process::default();
    out.set_terminal(Some(container.tty.unwrap_or(false))).set_user(user).set_args(Some(args));
    out.set_env(Some(whole_environment(input))).set_cwd(PathBuf::from(cwd)).set_rlimits(None);
    out.set_capabilities(Some(security::capabilities(&security::capability_names(container))?));
    out.set_no_new_privileges(Some(security::no_new_privileges(container)));
    out.set_oom_score_adj(Some(oom_score_adj(class, container, input.machine_memory)));
    out.set_apparmor_profile(security::localhost_apparmor(input.pod, container));
    Ok(out)
}

fn whole_environment(input: &ContainerInput<'_>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut set = |entry: String| {
        let key = entry.split('=').next().unwrap_or_default().to_owned();
        match out.iter_mut().find(|e| e.split('=').next() == Some(&key)) {
            Some(old) => *old = entry,
            None => out.push(entry),
        }
    };
    set(PATH.to_owned());
    set(format!("HOSTNAME={}", crate::files::hostname(input.pod)));
    if let Some(home) = &input.identity.home {
        set(format!("HOME={home}"));
    }
    if input.container.tty.unwrap_or(false) {
        set("TERM=xterm".to_owned());
    }
    input.image.env.iter().cloned().for_each(&mut set);
    input.env.iter().map(|(k, v)| format!("{k}={v}")).for_each(&mut set);
    out
}

fn linux(input: &ContainerInput<'_>) -> Linux {
    let container = input.container;
    let privileged = security::privileged(container);
    let pod = spec(input.pod);
    let shared_pid = pod.host_pid.unwrap_or(false) || pod.share_process_namespace.unwrap_or(false);
    let mut kinds = vec![LinuxNamespaceType::Mount];
    if !shared_pid {
        kinds.push(LinuxNamespaceType::Pid);
    }
    if !privileged {
        kinds.push(LinuxNamespaceType::Cgroup);
    }
    let (masked, read_only) = security::proc_paths(container);
    let mut out = Linux::default();
    out.set_namespaces(Some(kinds.into_iter().map(a_namespace).collect()));
    out.set_cgroups_path(Some(PathBuf::from(format!("{}/{}", input.pod_cgroup, input.id))));
    out.set_resources(Some(container_resources(container, privileged)));
    out.set_masked_paths(Some(masked)).set_readonly_paths(Some(read_only));
    out.set_seccomp(security::seccomp_filter(input.pod, container, input.localhost_seccomp));
    out.set_devices(privileged.then(|| input.devices.to_vec()));
    let shared = input.binds.iter().any(|b| b.propagation == Propagation::Bidirectional);
    let slave = input.binds.iter().any(|b| b.propagation == Propagation::HostToContainer);
    out.set_rootfs_propagation(match (shared, slave) {
        (true, _) => Some("rshared".to_owned()),
        (false, true) => Some("rslave".to_owned()),
        (false, false) => None,
    });
    out
}

fn a_namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut out = LinuxNamespace::default();
    out.set_typ(kind).set_path(None);
    out
}

fn mounts(input: &ContainerInput<'_>) -> Vec<Mount> {
    let access = if security::privileged(input.container) { "rw" } else { "ro" };
    let mut out = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ];
    let files = input.files;
    let root_ro = if security::read_only_root(input.container) { "ro" } else { "rw" };
    let message = input.container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let own = [
        ("/dev/shm", &files.shm, "rw"),
        ("/etc/hosts", &files.hosts, root_ro),
        ("/etc/hostname", &files.hostname, root_ro),
        ("/etc/resolv.conf", &files.resolv_conf, root_ro),
        (message, &files.termination_log, "rw"),
    ];
    let mut binds: Vec<&VolumeBind> = input.binds.iter().collect();
    binds.sort_by_key(|b| b.mount_path.split('/').filter(|p| !p.is_empty()).count());
    for (path, source, access) in own {
        if !binds.iter().any(|b| b.mount_path.trim_end_matches('/') == path) {
            out.push(mount(path, "bind", &source.to_string_lossy(), &["rbind", "rprivate", access]));
        }
    }
    out.extend(binds.into_iter().map(volume_mount));
    out
}

fn volume_mount(bind: &VolumeBind) -> Mount {
    let propagation = match bind.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match (bind.recursive_read_only, bind.read_only) {
        (true, _) => "rro",
        (false, true) => "ro",
        (false, false) => "rw",
    };
    let options: Vec<&str> = ["rbind", propagation, access].into_iter().chain(bind.options.iter().copied()).collect();
    mount(&bind.mount_path, "bind", &bind.source.to_string_lossy(), &options)
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let mut out = Mount::default();
    out.set_destination(PathBuf::from(destination)).set_typ(Some(typ.to_owned()));
    out.set_source(Some(PathBuf::from(source)));
    out.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    out
}

fn annotations(input: &ContainerInput<'_>) -> HashMap<String, String> {
    let class: QosClass = qos_class(input.pod);
    let pairs = [
        ("io.kubernetes.pod.name", name(input.pod).to_owned()),
        ("io.kubernetes.pod.namespace", namespace(input.pod).to_owned()),
        ("io.kubernetes.pod.uid", uid(input.pod).to_owned()),
        ("io.kubernetes.container.name", input.container.name.clone()),
        ("io.kubernetes.container.attempt", input.attempt.to_string()),
        ("io.kubernetes.pod.qos", class.to_string()),
    ];
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}
