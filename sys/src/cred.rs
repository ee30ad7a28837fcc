//! Credentials of the calling process: ids, capabilities, keyring, flags. For single-threaded programs: these are
//! the raw calls, which change one thread; glibc's wrappers would signal the others.

use std::ffi::CStr;

use crate::{Result, check};

/// Sets real, effective and saved user id.
pub fn set_uid(uid: u32) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Sets real, effective and saved group id.
pub fn set_gid(gid: u32) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets the supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and length describe `groups`.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Capability sets as bit masks (bit n is capability n, capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets effective, permitted and inheritable capabilities.
pub fn set_caps(sets: CapSets) -> Result<()> {
    let header = CapHeader { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let low = |mask: u64| mask as u32;
    let high = |mask: u64| (mask >> 32) as u32;
    let data = [
        [low(sets.effective), low(sets.permitted), low(sets.inheritable)],
        [high(sets.effective), high(sets.permitted), high(sets.inheritable)],
    ];
    // SAFETY: version 3 takes two data structs of three u32 each, as laid out above.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Reads effective, permitted and inheritable capabilities.
pub fn caps() -> Result<CapSets> {
    let header = CapHeader { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 writes two data structs of three u32 each.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let join = |i: usize| u64::from(data[0][i]) | u64::from(data[1][i]) << 32;
    Ok(CapSets { effective: join(0), permitted: join(1), inheritable: join(2) })
}

fn prctl(option: libc::c_int, arg2: u64, arg3: u64) -> Result<libc::c_long> {
    // SAFETY: the options used in this file take integers only; unused arguments must be zero and are.
    check(libc::c_long::from(unsafe { libc::prctl(option, arg2, arg3, 0u64, 0u64) }))
}

/// Drops one capability from the bounding set.
pub fn drop_bounding(cap: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(cap), 0).map(drop)
}

/// Whether the bounding set has a capability; EINVAL if the kernel does not know it.
pub fn has_bounding(cap: u32) -> Result<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(cap), 0).map(|has| has == 1)
}

/// Adds one capability to the ambient set.
pub fn raise_ambient(cap: u32) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(cap)).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Whether permitted capabilities survive a change away from uid 0.
pub fn set_keep_caps(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0).map(drop)
}

/// From now on no exec gains privileges; cannot be undone.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether others with our ids may look into this process (ptrace, /proc/self/fd, core dumps).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(dumpable), 0).map(drop)
}

/// Asks for `signal` when our parent ends.
pub fn set_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(domain: u64) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// Joins a new session keyring of that name; the caller's keys stay behind.
pub fn join_session_keyring(name: &CStr) -> Result<i64> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the string outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
}

/// Leaves all rights to who possesses the keyring, and to its user's processes only that of finding it by name.
pub fn restrict_keyring(serial: i64) -> Result<()> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    const KEY_POS_ALL: u32 = 0x3f00_0000;
    const KEY_USR_SEARCH: u32 = 0x0008_0000;
    let mode = KEY_POS_ALL | KEY_USR_SEARCH;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, mode) }).map(drop)
}

/// Sets a resource limit of another process, or of ourselves for pid 0.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call; no old value is asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, 0usize) }).map(drop)
}

/// Whether the process with our real ids may execute (`mode` X_OK) or read the file, by its effective ids.
pub fn may_execute(path: &CStr) -> Result<()> {
    // SAFETY: the string outlives the call.
    check(libc::c_long::from(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) }))
        .map(drop)
}

/// Sets the NIS domain name of the UTS namespace.
pub fn set_domainname(name: &CStr) -> Result<()> {
    let len = name.to_bytes().len();
    // SAFETY: pointer and length describe `name`.
    check(libc::c_long::from(unsafe { libc::setdomainname(name.as_ptr(), len) })).map(drop)
}
