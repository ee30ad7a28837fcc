//! The benchmark's bundle: what callers of runtimes usually ask for. bench/floor.c makes the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Whether containers get a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    None,
    /// Debian's profile for containers (golang-github-containers-common), which Podman uses.
    Usual,
}

const CAPS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

/// Makes a bundle whose program is `args`; the root file system is shared by all bundles.
pub fn make(work: &Path, name: &str, cgroup: &str, args: &[&str], profile: Option<&Value>) -> Result<PathBuf> {
    let (bundle, root) = (work.join(name), work.join("rootfs"));
    if !root.exists() {
        make_root(&root)?;
    }
    fs::create_dir_all(&bundle).with_context(|| format!("make {}", bundle.display()))?;
    let mut config = configuration(&root, &format!("{cgroup}/{name}"), args);
    if let Some(profile) = profile {
        config["linux"]["seccomp"] = profile.clone();
    }
    fs::write(bundle.join("config.json"), config.to_string())?;
    Ok(bundle)
}

fn make_root(root: &Path) -> Result<()> {
    for sub in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(sub))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy /bin/busybox (busybox-static)")?;
    for applet in ["sh", "true", "sleep"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

fn configuration(root: &Path, cgroup: &str, args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/bin"], "noNewPrivileges": true,
            "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS}
        },
        "root": {"path": root},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 268_435_456}, "cpu": {"shares": 512}, "pids": {"limit": 100}
            },
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// The usual profile as a runtime gets it: rules for our capabilities and architecture, names on their own.
pub fn usual_profile(peers: &Path) -> Result<Value> {
    let path = peers.join("usr/share/containers/seccomp.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {} (`cargo xtask peers`)", path.display()))?;
    let source: Value = serde_json::from_str(&text)?;
    let ours: BTreeSet<&str> = CAPS.into_iter().collect();
    let names = |of: &Value, field: &str| -> Vec<String> {
        of[field].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let applies = |rule: &Value| {
        let held = |caps: &Vec<String>| caps.iter().any(|cap| ours.contains(cap.as_str()));
        let (included, excluded) = (names(&rule["includes"], "caps"), names(&rule["excludes"], "caps"));
        let machines = names(&rule["includes"], "arches");
        (included.is_empty() || held(&included))
            && !held(&excluded)
            && (machines.is_empty() || machines.iter().any(|machine| machine == "amd64"))
            && !names(&rule["excludes"], "arches").iter().any(|machine| machine == "amd64")
    };
    let rules: Vec<Value> =
        source["syscalls"].as_array().into_iter().flatten().filter(|rule| applies(rule)).map(rule).collect();
    Ok(json!({
        "defaultAction": source["defaultAction"], "defaultErrnoRet": source["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules
    }))
}

fn rule(source: &Value) -> Value {
    let mut rule = json!({"names": source["names"], "action": source["action"]});
    for field in ["args", "errnoRet"] {
        if source[field].as_array().map_or(source[field].is_number(), |list| !list.is_empty()) {
            rule[field] = source[field].clone();
        }
    }
    rule
}
