//! What the kernel was built with.

use super::{Context, Finding};
use std::fs;
use std::path::Path;

/// clone3, pidfd_open and openat2 with all their flags; the runtime uses them without a second path.
const VERSION_MIN: (u32, u32) = (5, 10);

pub(super) fn version(_: &Context) -> Finding {
    let release = match nix::sys::utsname::uname() {
        Ok(name) => name.release().to_string_lossy().into_owned(),
        Err(e) => return Finding::Missing { what: format!("uname: {e}"), hint: "is this Linux?" },
    };
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= VERSION_MIN {
        Finding::Good(release)
    } else {
        let what = format!("{release}, but {}.{} is the oldest that works", VERSION_MIN.0, VERSION_MIN.1);
        Finding::Missing { what, hint: "install a newer kernel" }
    }
}

pub(super) fn namespaces(_: &Context) -> Finding {
    let missing: Vec<_> = ["mnt", "net", "pid", "ipc", "uts", "cgroup"]
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    if missing.is_empty() {
        Finding::Good("mnt net pid ipc uts cgroup".into())
    } else {
        Finding::Missing { what: missing.join(" "), hint: "use a kernel with CONFIG_NAMESPACES and all its parts" }
    }
}

pub(super) fn overlayfs(_: &Context) -> Finding {
    match fs::read_to_string("/proc/filesystems") {
        Err(e) => Finding::Missing { what: format!("/proc/filesystems: {e}"), hint: "is /proc mounted?" },
        Ok(text) if text.lines().any(|l| l.trim_start_matches("nodev").trim() == "overlay") => {
            Finding::Good("known to the kernel".into())
        }
        // As a module it is loaded by the first mount, which needs no modprobe of ours.
        Ok(_) if module_exists("overlay") => Finding::Good("a module".into()),
        Ok(_) => Finding::Missing {
            what: "the kernel does not know it".into(),
            hint: "use a kernel with CONFIG_OVERLAY_FS; images are mounted by it",
        },
    }
}

fn module_exists(name: &str) -> bool {
    let Ok(kernel) = nix::sys::utsname::uname() else { return false };
    let list = format!("/lib/modules/{}/modules.dep", kernel.release().to_string_lossy());
    fs::read_to_string(list).is_ok_and(|text| text.lines().any(|l| l.contains(&format!("/{name}.ko"))))
}

pub(super) fn cgroups(_: &Context) -> Finding {
    if let Ok(text) = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        return judge("v2", |name| text.split_whitespace().any(|c| c == name));
    }
    match fs::read_to_string("/proc/self/cgroup") {
        Err(e) => Finding::Missing { what: format!("/proc/self/cgroup: {e}"), hint: "is /proc mounted?" },
        Ok(text) => judge("v1", |name| {
            text.lines().filter_map(|l| l.split(':').nth(1)).any(|list| list.split(',').any(|c| c == name))
        }),
    }
}

fn judge(version: &str, has: impl Fn(&str) -> bool) -> Finding {
    let missing: Vec<_> = ["cpu", "memory", "pids"].into_iter().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return Finding::Good(format!("{version} with cpu, memory, pids"));
    }
    Finding::Costs {
        what: format!("{version} without {}", missing.join(", ")),
        cost: "requests and limits of these resources are not enforced",
        hint: "mount the controllers, or boot with cgroup_enable=memory and systemd.unified_cgroup_hierarchy=1",
    }
}
