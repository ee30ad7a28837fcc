//! `spec`.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{Order, switch, value};
use super::{Command, Invocation};
use crate::error::{Doing as _, Error, Result};
use crate::state::OCI_VERSION;

/// `spec`.
pub const COMMAND: Command = Command {
    name: "spec",
    arguments: "",
    about: "create a new specification file",
    flags: &[
        value("bundle", "path to the root of the bundle directory").or("b"),
        switch("rootless", "generate a configuration for a rootless container"),
    ],
    order: Order::Mixed,
    exposed: false,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let file = Path::new(invocation.own.get("bundle").unwrap_or(".")).join("config.json");
    let mut spec = template();
    if invocation.own.has("rootless") {
        rootless(&mut spec);
    }
    let text = serde_json::to_string_pretty(&spec).map_err(|error| Error::WrongState(error.to_string()))?;
    let opened = std::fs::File::options().write(true).create_new(true).open(&file);
    let mut out = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Usage(format!("file {} exists. Remove it first", file.display())),
        _ => Error::Usage(format!("cannot write {}: {error}", file.display())),
    })?;
    std::io::Write::write_all(&mut out, text.as_bytes()).doing(|| format!("write {}", file.display()))?;
    Ok(0)
}

fn template() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn mounts() -> Value {
    fn usual(more: &[&'static str]) -> Vec<&'static str> {
        [&["nosuid", "noexec", "nodev"], more].concat()
    }
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": usual(&["mode=1777", "size=65536k"])},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": usual(&[])},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": usual(&["ro"])},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": usual(&["relatime", "ro"])}
    ])
}

/// Without privileges: a user namespace of one id, no network of its own, the host's /sys bound. What is mounted beneath
/// that stays writable: the cgroups are covered by the container's own (CVE-2023-25809).
fn rootless(spec: &mut Value) {
    let id = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
    let kinds = ["pid", "ipc", "uts", "mount", "cgroup", "user"].map(|kind| json!({"type": kind}));
    spec["linux"]["namespaces"] = json!(kinds);
    spec["linux"]["uidMappings"] = id(nix::unistd::geteuid().as_raw());
    spec["linux"]["gidMappings"] = id(nix::unistd::getegid().as_raw());
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        for mount in mounts.iter_mut() {
            if mount["type"] == "sysfs" {
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| !option.as_str().unwrap_or_default().starts_with("gid="));
            }
        }
    }
}
