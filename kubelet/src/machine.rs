//! What the machine is: cores, memory, kernel, devices.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use pintle_kubelet_plan::node::MachineFacts;
use pintle_kubelet_plan::refusals::Host;

use crate::config::{KUBERNETES_VERSION, KubeletConfig};

/// Reads what does not change while the kubelet runs.
pub(crate) fn facts(config: &KubeletConfig) -> MachineFacts {
    let uname = nix::sys::utsname::uname().ok();
    let text = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
    let machine_id = line("/etc/machine-id");
    let uuid = line("/sys/class/dmi/id/product_uuid");
    MachineFacts {
        name: config.node_name.clone(),
        hostname: config.node_name.clone(),
        ips: vec![config.node_ip.to_string()],
        cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
        memory: memory(),
        disk: disk_bytes(&config.dirs.state),
        pods_max: i64::from(config.max_pods),
        kernel: uname.as_ref().map(|u| text(u.release())).unwrap_or_default(),
        os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
        machine_id,
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        kubelet_port: i32::from(config.port),
        kubelet_version: KUBERNETES_VERSION.to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        images: Vec::new(),
        not_ready: None,
    }
}

/// What the kernel enforces beside the usual.
pub(crate) fn host() -> Host {
    Host {
        apparmor: line("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

/// The character and block devices of the node, for privileged containers.
pub(crate) fn devices() -> Vec<LinuxDevice> {
    let mut out = Vec::new();
    collect_devices(Path::new("/dev"), &mut out);
    out
}

fn collect_devices(dir: &Path, out: &mut Vec<LinuxDevice>) {
    // A directory that vanished holds no devices.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
        let name = entry.file_name();
        let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", "console", "ptmx"];
        if own.iter().any(|o| name == *o) {
            continue;
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            collect_devices(&path, out);
        }
        let typ = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => LinuxDeviceType::C,
            (_, true) => LinuxDeviceType::B,
            _ => continue,
        };
        let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
        let mut device = LinuxDevice::default();
        device.set_path(path).set_typ(typ);
        device.set_major(i64::try_from(major).unwrap_or(0)).set_minor(i64::try_from(minor).unwrap_or(0));
        device.set_file_mode(Some(meta.mode() & 0o777)).set_uid(Some(meta.uid())).set_gid(Some(meta.gid()));
        out.push(device);
    }
}

fn memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    total.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok()).unwrap_or(0) * 1024
}

fn disk_bytes(path: &Path) -> i64 {
    let stat = nix::sys::statvfs::statvfs(path);
    stat.map_or(0, |s| i64::try_from(s.blocks() * s.fragment_size()).unwrap_or(i64::MAX))
}

fn os_image(text: &str) -> String {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    fields.get("PRETTY_NAME").map_or("Linux", |v| v.trim_matches('"')).to_owned()
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
