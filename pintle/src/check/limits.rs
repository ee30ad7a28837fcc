//! Limits of the running kernel.

use super::{Context, Finding};

/// Each pod's supervisor and the kubelet's volumes use a few; Debian's default of 128 is for desktops.
const INOTIFY_INSTANCES_MIN: u64 = 128;
const PID_MAX_MIN: u64 = 32_768;

pub(super) fn inotify(_: &Context) -> Finding {
    let path = "/proc/sys/fs/inotify/max_user_instances";
    match number(path) {
        Ok(n) if n >= INOTIFY_INSTANCES_MIN => Finding::Good(format!("{n} instances")),
        Ok(n) => Finding::Costs {
            what: format!("{n} instances"),
            cost: "with many pods, `kubectl logs -f` and changes of ConfigMaps are noticed late",
            hint: "sysctl fs.inotify.max_user_instances=512",
        },
        Err(what) => unknown(what),
    }
}

pub(super) fn pids(_: &Context) -> Finding {
    match number("/proc/sys/kernel/pid_max") {
        Ok(n) if n >= PID_MAX_MIN => Finding::Good(format!("up to {n}")),
        Ok(n) => Finding::Costs {
            what: format!("up to {n}"),
            cost: "few processes fit on the node",
            hint: "sysctl kernel.pid_max=4194304",
        },
        Err(what) => unknown(what),
    }
}

fn number(path: &str) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    text.trim().parse().map_err(|e| format!("{path}: {e}"))
}

fn unknown(what: String) -> Finding {
    Finding::Costs { what, cost: "unknown", hint: "is /proc mounted?" }
}
