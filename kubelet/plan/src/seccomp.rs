//! The `RuntimeDefault` seccomp profile: calls that reach into the kernel or the machine are refused.
//!
//! Owns: which calls are refused and which capabilities give them back. Does not own: the filter's code (runtime).
//! A list of refusals, not of permissions: programs newer than this file keep working, and the filter stays
//! short enough to cost nothing at start; see docs/gaps.md for what an allow-list would add.

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// All `CLONE_NEW*` bits of clone(2) but CLONE_NEWTIME, which shares its bit with the exit signal.
const CLONE_NEW: u64 = 0x7E02_0000;

/// Calls refused unless one of the capabilities (without `CAP_`) is held.
const REFUSED: &[(&[&str], &[&str])] = &[
    (
        &["SYS_ADMIN"],
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (&["SYS_BOOT"], &["reboot", "kexec_load", "kexec_file_load"]),
    (&["SYS_MODULE"], &["delete_module", "init_module", "finit_module", "create_module", "query_module"]),
    (&["SYS_PACCT"], &["acct"]),
    (&["SYS_RAWIO"], &["iopl", "ioperm"]),
    (&["SYS_TIME"], &["settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "adjtimex"]),
    (&["SYS_PTRACE"], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&["SYS_NICE"], &["get_mempolicy", "mbind", "set_mempolicy", "move_pages", "migrate_pages"]),
    (&["DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (&["SYS_TTY_CONFIG"], &["vhangup"]),
    (&["SYSLOG"], &["syslog"]),
    (
        &[],
        &[
            "_sysctl",
            "add_key",
            "get_kernel_syms",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "keyctl",
            "nfsservctl",
            "personality",
            "request_key",
            "swapoff",
            "swapon",
            "sysfs",
            "uselib",
            "userfaultfd",
            "ustat",
            "vm86",
            "vm86old",
        ],
    ),
];

/// The profile for a process that holds these capabilities (names without `CAP_`).
pub fn runtime_default(capabilities: &BTreeSet<String>) -> LinuxSeccomp {
    let held = |names: &[&str]| names.iter().any(|n| capabilities.contains(*n));
    let refused = REFUSED.iter().filter(|(by, _)| !held(by)).flat_map(|(_, calls)| calls.iter());
    let mut rules = vec![rule(refused.map(|c| (*c).to_owned()).collect(), EPERM, Vec::new())];
    if !held(&["SYS_ADMIN"]) {
        // One rule per bit: a masked comparison tells "this bit is set", not "any of these".
        for bit in (0..64).map(|shift| 1u64 << shift).filter(|bit| CLONE_NEW & bit != 0) {
            rules.push(rule(vec!["clone".to_owned()], EPERM, vec![masked(bit)]));
        }
        // clone3 hides its flags behind a pointer; ENOSYS makes libc fall back to clone.
        rules.push(rule(vec!["clone3".to_owned()], ENOSYS, Vec::new()));
    }
    let mut out = LinuxSeccomp::default();
    out.set_default_action(LinuxSeccompAction::ScmpActAllow);
    out.set_architectures(Some(architectures())).set_syscalls(Some(rules));
    out
}

fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    }
}

fn rule(names: Vec<String>, errno: u32, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut out = LinuxSyscall::default();
    out.set_names(names).set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(errno));
    out.set_args((!args.is_empty()).then_some(args));
    out
}

fn masked(bit: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(0usize)
        .value(bit)
        .value_two(bit)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
        .expect("every field of the argument is given")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(profile: &LinuxSeccomp, call: &str) -> bool {
        profile.syscalls().iter().flatten().any(|r| r.names().iter().any(|n| n == call))
    }

    #[test]
    fn a_capability_gives_its_calls_back() {
        let plain = runtime_default(&BTreeSet::new());
        let admin = runtime_default(&BTreeSet::from(["SYS_ADMIN".to_owned()]));
        for (call, in_plain, in_admin) in
            [("mount", true, false), ("clone3", true, false), ("keyctl", true, true), ("read", false, false)]
        {
            assert_eq!((refuses(&plain, call), refuses(&admin, call)), (in_plain, in_admin), "{call}");
        }
    }
}
