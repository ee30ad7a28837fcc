//! The files all containers of a pod share: hosts, hostname, resolv.conf, /dev/shm.
//!
//! Owns: where they lie and writing them. Does not own: their contents (plan).

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use nix::mount::{MsFlags, mount};
use pintle_kubelet_plan::containers::uid;
use pintle_kubelet_plan::files::{DnsSettings, hostname, hosts, resolv_conf, uts_name};
use pintle_kubelet_plan::oci::PodFiles;

use crate::config::Dirs;
use crate::disk;
use crate::error::{At as _, FileError};

/// The size of /dev/shm, as containerd gives it.
const SHM: &str = "mode=1777,size=65536k";

/// Writes the pod's files and mounts its /dev/shm. Blocking.
pub(crate) fn write(dirs: &Dirs, pod: &Pod, ips: &[String], dns: &DnsSettings) -> Result<(), FileError> {
    let dir = dirs.pod_state(uid(pod));
    disk::make_dir(&dir, 0o755)?;
    disk::replace(&dir.join("etc-hosts"), hosts(pod, ips, dns).as_bytes(), 0o644)?;
    let name =
        format!("{}\n", if hostname(pod).is_empty() { String::new() } else { uts_name(pod, &dns.cluster_domain) });
    disk::replace(&dir.join("hostname"), name.as_bytes(), 0o644)?;
    disk::replace(&dir.join("resolv.conf"), resolv_conf(pod, dns).as_bytes(), 0o644)?;
    let shm = dirs.pod_run(uid(pod)).join("shm");
    disk::make_dir(&shm, 0o755)?;
    tmpfs(&shm, SHM)
}

/// Where a container's files are; its termination log is made empty, writable by any user.
pub(crate) fn of_container(dirs: &Dirs, pod: &Pod, container: &str, id: &str) -> Result<PodFiles, FileError> {
    let dir = dirs.pod_state(uid(pod));
    let termination_log = termination_log(dirs, uid(pod), container, id);
    if let Some(parent) = termination_log.parent() {
        disk::make_dir(parent, 0o755)?;
    }
    std::fs::write(&termination_log, b"").at("make", &termination_log)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&termination_log, open).at("open up", &termination_log)?;
    Ok(PodFiles {
        hosts: dir.join("etc-hosts"),
        hostname: dir.join("hostname"),
        resolv_conf: dir.join("resolv.conf"),
        shm: dirs.pod_run(uid(pod)).join("shm"),
        termination_log,
    })
}

/// Where a container's termination message is written.
pub(crate) fn termination_log(dirs: &Dirs, uid: &str, container: &str, id: &str) -> PathBuf {
    dirs.pod_state(uid).join("containers").join(container).join(&id[..id.len().min(12)])
}

/// Mounts a tmpfs unless something is mounted there.
pub(crate) fn tmpfs(dir: &Path, options: &str) -> Result<(), FileError> {
    if is_mount_point(dir)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options)).at("mount tmpfs on", dir)
}

fn is_mount_point(dir: &Path) -> Result<bool, FileError> {
    use std::os::unix::fs::MetadataExt as _;
    let own = std::fs::metadata(dir).at("look at", dir)?;
    let parent = std::fs::metadata(dir.parent().unwrap_or(dir)).at("look at", dir)?;
    Ok(own.dev() != parent.dev())
}
