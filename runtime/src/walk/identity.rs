//! Steps on who the process is and what it may.

use std::os::fd::AsFd as _;

use nix::sys::stat::Mode;
use pintle_runtime_plan::step::{CapMasks, Scheduling, Slot, Step};
use pintle_sys::{Errno, Result, cred, open, sched};

use super::Walker;

/// The highest capability number there could be.
const CAP_BITS: u32 = 64;

impl Walker<'_> {
    pub(super) fn identity_step(&mut self, index: usize, step: &Step) -> Result<()> {
        match step {
            Step::Umask(mask) => {
                nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            Step::NoNewPrivs => cred::set_no_new_privs(),
            Step::Scheduler(scheduling) => sched::set_scheduler(&attributes(scheduling)),
            Step::IoPriority(value) => sched::set_io_priority(*value),
            Step::Personality(domain) => cred::set_personality(*domain),
            Step::FreeAffinity => free_affinity(),
            Step::Affinity(mask) => sched::set_affinity(0, mask),
            Step::MemoryPolicy { mode, nodes } => sched::set_memory_policy(*mode, nodes),
            Step::Rlimit(limit) => cred::set_rlimit(0, limit.resource, limit.soft, limit.hard),
            Step::Chdir { path, try_again_later } => match nix::unistd::chdir(path.as_c_str()) {
                Err(Errno::EACCES | Errno::EPERM) if *try_again_later => Ok(()),
                other => other,
            },
            Step::CheckCwd => check_cwd(),
            Step::Bounding(mask) => bound(*mask),
            Step::KeepCaps => cred::set_keep_caps(true),
            Step::Groups(groups) => self.groups(groups),
            Step::Gid(gid) => cred::set_gid(*gid),
            Step::Uid(uid) => cred::set_uid(*uid),
            Step::Caps(masks) => self.caps(index, masks),
            // Every other step was handled before; a new one without a handler is refused, not skipped.
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// In a user namespace that denies setgroups there are no groups to drop.
    fn groups(&self, groups: &[u32]) -> Result<()> {
        match cred::set_groups(groups) {
            Err(Errno::EPERM) if groups.is_empty() && self.setgroups_denied() => Ok(()),
            other => other,
        }
    }

    fn setgroups_denied(&self) -> bool {
        let Ok(proc) = self.slots.get(Slot::PROC) else { return false };
        let Ok(file) = open::at(proc, c"self/setgroups", libc::O_RDONLY, 0) else { return false };
        let mut text = [0; 8];
        nix::unistd::read(file.as_fd(), &mut text).is_ok_and(|n| text[..n].starts_with(b"deny"))
    }

    fn caps(&self, index: usize, masks: &CapMasks) -> Result<()> {
        let sets =
            cred::CapSets { effective: masks.effective, permitted: masks.permitted, inheritable: masks.inheritable };
        cred::set_caps(sets)?;
        cred::set_keep_caps(false)?;
        cred::clear_ambient()?;
        for cap in (0..CAP_BITS).filter(|cap| masks.ambient >> cap & 1 == 1) {
            if let Err(errno) = cred::raise_ambient(cap) {
                self.parent()?.warn(index, errno)?;
            }
        }
        Ok(())
    }
}

/// The kernel cuts the mask to what the cpuset allows. A host that forbids the change keeps what it had.
fn free_affinity() -> Result<()> {
    match sched::set_affinity(0, &[u64::MAX; 16]) {
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn bound(mask: u64) -> Result<()> {
    for cap in (0..CAP_BITS).filter(|cap| mask >> cap & 1 == 0) {
        match cred::drop_bounding(cap) {
            Ok(()) => {}
            // Beyond the last capability of this kernel.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A working directory outside the root lets the process climb out (CVE-2024-21626); the kernel then reports a
/// path that does not begin with `/`, or none.
fn check_cwd() -> Result<()> {
    let cwd = nix::unistd::getcwd()?;
    if cwd.is_absolute() { Ok(()) } else { Err(Errno::ENOENT) }
}

fn attributes(scheduling: &Scheduling) -> sched::SchedAttr {
    let mut attr = sched::SchedAttr::default();
    attr.policy = scheduling.policy;
    attr.flags = scheduling.flags;
    attr.nice = scheduling.nice;
    attr.priority = scheduling.priority;
    attr.runtime = scheduling.runtime;
    attr.deadline = scheduling.deadline;
    attr.period = scheduling.period;
    attr
}
