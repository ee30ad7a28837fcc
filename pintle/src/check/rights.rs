//! Who we are and what we may.

use super::{Context, Finding};
use pintle_sys::cred;

/// Number, name and need of each capability without which nothing works (linux/capability.h).
const NEEDED: &[(u32, &str)] = &[
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (8, "CAP_SETPCAP"),
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (18, "CAP_SYS_CHROOT"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
];
const SYS_RESOURCE: u32 = 24;

pub(super) fn root(_: &Context) -> Finding {
    if nix::unistd::geteuid().is_root() {
        Finding::Good("uid 0".into())
    } else {
        let what = format!("uid {}, but namespaces, mounts and cgroups belong to root", nix::unistd::geteuid());
        Finding::Missing { what, hint: "run it as root: sudo pintle …" }
    }
}

pub(super) fn capabilities(_: &Context) -> Finding {
    match effective() {
        Err(e) => Finding::Missing { what: format!("cannot be read: {e}"), hint: "is /proc mounted?" },
        Ok(set) => {
            let missing: Vec<_> = NEEDED.iter().filter(|(n, _)| set & (1 << n) == 0).map(|(_, name)| *name).collect();
            if missing.is_empty() {
                Finding::Good("all that are needed".into())
            } else {
                Finding::Missing { what: missing.join(", "), hint: "run it as full root, outside of a container" }
            }
        }
    }
}

pub(super) fn sys_resource(_: &Context) -> Finding {
    match effective() {
        Ok(set) if set & (1 << SYS_RESOURCE) == 0 => Finding::Costs {
            what: "absent".into(),
            cost: "resource limits and oom_score_adj of containers can only be tightened, never raised",
            hint: "grant it to the machine or container that pintle runs in",
        },
        Ok(_) => Finding::Good("present".into()),
        Err(e) => Finding::Missing { what: format!("cannot be read: {e}"), hint: "is /proc mounted?" },
    }
}

fn effective() -> Result<u64, pintle_sys::Errno> {
    cred::caps().map(|sets| sets.effective)
}
