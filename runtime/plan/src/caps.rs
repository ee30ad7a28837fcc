//! Capability names and numbers (capabilities(7), linux/capability.h).

use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::step::CapMasks;

/// In order of their numbers.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability by its name, with or without `CAP_`, any case.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| &known[4..] == bare).map(|n| n as u32)
}

fn mask(set: Option<&std::collections::HashSet<Capability>>) -> u64 {
    set.into_iter().flatten().filter_map(|cap| number(&cap.to_string())).fold(0, |mask, n| mask | 1 << n)
}

/// The sets of config.json as masks, cut to what the caller may give (`available`): (masks, names that were cut).
pub fn masks(caps: &LinuxCapabilities, available: u64) -> (CapMasks, Vec<&'static str>) {
    let all = CapMasks {
        bounding: mask(caps.bounding().as_ref()),
        effective: mask(caps.effective().as_ref()),
        permitted: mask(caps.permitted().as_ref()),
        inheritable: mask(caps.inheritable().as_ref()),
        ambient: mask(caps.ambient().as_ref()),
    };
    let wanted = all.bounding | all.effective | all.permitted | all.inheritable | all.ambient;
    let cut = wanted & !available;
    let names = NAMES.iter().enumerate().filter(|(n, _)| cut >> n & 1 == 1).map(|(_, name)| *name).collect();
    let masks = CapMasks {
        bounding: all.bounding & available,
        effective: all.effective & available,
        permitted: all.permitted & available,
        inheritable: all.inheritable & available,
        ambient: all.ambient & available,
    };
    (masks, names)
}
