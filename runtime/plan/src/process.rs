//! The tail every process shares, be it init's or an exec's: from limits and identity to the program.

use std::ffi::CString;

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag as SchedFlag, MemoryPolicyFlagType as NumaFlag,
    MemoryPolicyModeType as NumaMode, Process,
};

use crate::seccomp;
use crate::slots::c;
use crate::step::{CapMasks, Exec, Point, Rlimit, Scheduling, Step};
use crate::{caps, lists, rlimits};

/// What surrounds a process besides its own description.
pub struct Surroundings<'a> {
    /// The container's `linux` section.
    pub linux: Option<&'a Linux>,
    /// Capabilities we can give.
    pub caps_available: u64,
    /// In a user namespace: the parent sets limits.
    pub in_userns: bool,
    /// $HOME by passwd.
    pub home: Option<&'a str>,
    /// Inherited descriptors above stdio.
    pub preserve_fds: u32,
    /// Sockets among them.
    pub listen_fds: u32,
}

/// A process's steps, in three parts between which init puts its own.
pub struct Tail {
    /// Labels for the coming exec.
    pub labels: Vec<Step>,
    /// From no_new_privs to the program's lookup and the filter.
    pub identity: Vec<Step>,
    /// Limits for the parent to set.
    pub parent_rlimits: Vec<Rlimit>,
    /// The last: signals, descriptors.
    pub last: Vec<Step>,
    /// exec.
    pub exec: Exec,
    /// Capabilities that could not be had and the like.
    pub warnings: Vec<String>,
}

/// Plans a process.
pub fn tail(process: &Process, around: &Surroundings<'_>) -> Tail {
    let nnp = process.no_new_privileges().unwrap_or(false);
    let filter = around.linux.and_then(|linux| linux.seccomp().as_ref()).map(seccomp::assemble);
    let (masks, cut) = process
        .capabilities()
        .as_ref()
        .map_or((CapMasks::default(), Vec::new()), |wanted| caps::masks(wanted, around.caps_available));
    let limits = rlimits::plan(process.rlimits().as_deref().unwrap_or_default());
    let mut steps = Vec::new();
    if nnp {
        steps.push(Step::NoNewPrivs);
    }
    steps.extend(scheduling(process));
    steps.extend(around.linux.into_iter().flat_map(shared));
    if around.in_userns && !limits.is_empty() {
        steps.push(Step::Sync(Point::Rlimits));
    } else {
        steps.extend(limits.iter().map(|limit| Step::Rlimit(*limit)));
    }
    // Without no_new_privs installing a filter takes CAP_SYS_ADMIN, which we are about to drop.
    if let (false, Some(filter)) = (nnp, &filter) {
        steps.push(Step::Seccomp(filter.clone()));
    }
    steps.extend(identity(process, masks));
    steps.push(Step::FindProgram);
    if let (true, Some(filter)) = (nnp, filter) {
        steps.push(Step::Seccomp(filter));
    }
    let first_closed = 3 + i32::try_from(around.preserve_fds).unwrap_or(0);
    Tail {
        labels: labels(process),
        identity: steps,
        parent_rlimits: if around.in_userns { limits } else { Vec::new() },
        last: vec![Step::ResetSignals, Step::CloseFrom(first_closed)],
        exec: exec(process, around.home, around.listen_fds),
        warnings: cut.iter().map(|name| format!("capability {name} is not available and is left out")).collect(),
    }
}

/// Labels take effect at exec; their files sit in the host's procfs, where no container can put a mount on top.
fn labels(process: &Process) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|profile| !profile.is_empty()) {
        let value = format!("exec {profile}").into_bytes();
        steps.push(Step::WriteProc { path: c("thread-self/attr/apparmor/exec"), value });
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
        let value = label.clone().into_bytes();
        steps.push(Step::WriteProc { path: c("thread-self/attr/exec"), value });
    }
    steps
}

fn scheduling(process: &Process) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(scheduler) = process.scheduler() {
        steps.push(Step::Scheduler(Scheduling {
            policy: policy_number(&scheduler.policy().to_string()),
            flags: scheduler.flags().iter().flatten().fold(0, |bits, flag| bits | sched_flag(*flag)),
            nice: scheduler.nice().unwrap_or(0),
            priority: scheduler.priority().unwrap_or(0).max(0) as u32,
            runtime: scheduler.runtime().unwrap_or(0),
            deadline: scheduler.deadline().unwrap_or(0),
            period: scheduler.period().unwrap_or(0),
        }));
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        steps.push(Step::IoPriority(class << 13 | priority.priority() as i32));
    }
    steps
}

/// sched(7); linux/sched.h.
fn policy_number(name: &str) -> u32 {
    const POLICIES: [&str; 8] = [
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "SCHED_ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
        "SCHED_EXT",
    ];
    POLICIES.iter().position(|known| *known == name).unwrap_or(0) as u32
}

/// linux/sched.h, SCHED_FLAG_*.
fn sched_flag(flag: SchedFlag) -> u64 {
    match flag {
        SchedFlag::SchedResetOnFork => 0x01,
        SchedFlag::SchedFlagReclaim => 0x02,
        SchedFlag::SchedFlagDLOverrun => 0x04,
        SchedFlag::SchedFlagKeepPolicy => 0x08,
        SchedFlag::SchedFlagKeepParams => 0x10,
        SchedFlag::SchedFlagUtilClampMin => 0x20,
        SchedFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// What the container's processes have in common: execution domain and memory policy.
fn shared(linux: &Linux) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(personality) = linux.personality() {
        steps.push(Step::Personality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    if let Some(policy) = linux.memory_policy() {
        let flags = policy.flags().iter().flatten().fold(0, |bits, flag| bits | numa_flag(*flag));
        let nodes = policy.nodes().as_deref().and_then(|nodes| lists::mask(nodes).ok()).unwrap_or_default();
        steps.push(Step::MemoryPolicy { mode: numa_mode(policy.mode()) | flags, nodes });
    }
    steps
}

/// linux/mempolicy.h.
fn numa_mode(mode: NumaMode) -> u32 {
    match mode {
        NumaMode::MpolDefault => 0,
        NumaMode::MpolPreferred => 1,
        NumaMode::MpolBind => 2,
        NumaMode::MpolInterleave => 3,
        NumaMode::MpolLocal => 4,
        NumaMode::MpolPreferredMany => 5,
        NumaMode::MpolWeightedInterleave => 6,
    }
}

fn numa_flag(flag: NumaFlag) -> u32 {
    match flag {
        NumaFlag::MpolFNumaBalancing => 1 << 13,
        NumaFlag::MpolFRelativeNodes => 1 << 14,
        NumaFlag::MpolFStaticNodes => 1 << 15,
    }
}

fn identity(process: &Process, masks: CapMasks) -> Vec<Step> {
    let user = process.user();
    let cwd = c(process.cwd());
    let mut steps = vec![
        Step::Chdir { path: cwd.clone(), try_again_later: true },
        Step::Bounding(masks.bounding),
        Step::KeepCaps,
        Step::Groups(user.additional_gids().clone().unwrap_or_default()),
        Step::Gid(user.gid()),
        Step::Uid(user.uid()),
        Step::Chdir { path: cwd, try_again_later: false },
        Step::CheckCwd,
        Step::Caps(masks),
    ];
    if let Some(umask) = user.umask() {
        steps.push(Step::Umask(umask));
    }
    steps
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn exec(process: &Process, home: Option<&str>, listen_fds: u32) -> Exec {
    let args = process.args().clone().unwrap_or_default();
    let mut env = environment(process.env().as_deref().unwrap_or_default(), home);
    if listen_fds > 0 {
        env.retain(|variable| !variable.starts_with("LISTEN_PID=") && !variable.starts_with("LISTEN_FDS="));
        env.push(format!("LISTEN_FDS={listen_fds}"));
    }
    let name = args.first().cloned().unwrap_or_default();
    let path = env.iter().rev().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH).to_owned();
    let searched = !name.contains('/');
    let candidates: Vec<CString> = if searched {
        path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| c(format!("{dir}/{name}"))).collect()
    } else {
        vec![c(&name)]
    };
    Exec {
        argv: args.iter().map(c).collect(),
        envp: env.iter().map(c).collect(),
        candidates,
        name,
        searched,
        tell_pid: listen_fds > 0,
    }
}

/// The last of duplicate variables wins, in the place of the first; HOME is added if the user has none.
fn environment(env: &[String], home: Option<&str>) -> Vec<String> {
    fn key(variable: &str) -> &str {
        variable.split('=').next().unwrap_or_default()
    }
    let mut result: Vec<String> = Vec::with_capacity(env.len() + 1);
    for variable in env {
        match result.iter_mut().find(|known| key(known) == key(variable)) {
            Some(known) => known.clone_from(variable),
            None => result.push(variable.clone()),
        }
    }
    if !result.iter().any(|v| key(v) == "HOME" && v.len() > "HOME=".len()) {
        result.retain(|v| key(v) != "HOME");
        result.push(format!("HOME={}", home.unwrap_or("/")));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_duplicate_wins_and_home_is_filled() {
        let env = ["A=1", "PATH=/bin", "A=2", "HOME="].map(str::to_owned);
        assert_eq!(environment(&env, Some("/root")), ["A=2", "PATH=/bin", "HOME=/root"]);
    }
}
