//! `linux.seccomp` into a classic BPF program.
//!
//! Owns: reading the profile and choosing actions. `program` assembles, `syscalls` holds the numbers. Written by
//! hand because libseccomp takes 15 ms for a usual profile and this takes well under one.

mod program;
pub mod syscalls;

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator, LinuxSyscall,
};

pub use program::Insn;
use syscalls::{NONE, SYSCALLS};

/// An assembled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub program: Vec<Insn>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u32,
    /// Whether some rule notifies: the listener must be handed on.
    pub notifies: bool,
}

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 2;
const FLAG_SPEC_ALLOW: u32 = 4;
const FLAG_NEW_LISTENER: u32 = 8;
const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

/// The calling conventions of an x86_64 kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abi {
    X86_64,
    X86,
    X32,
}

impl Abi {
    fn number(self, entry: &(&str, u16, u16, u16)) -> Option<u32> {
        let number = match self {
            Abi::X86_64 => entry.1,
            Abi::X86 => entry.2,
            Abi::X32 => entry.3,
        };
        (number != NONE).then_some(u32::from(number))
    }
}

/// One comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compare {
    pub index: usize,
    pub op: LinuxSeccompOperator,
    pub value: u64,
    pub value_two: u64,
}

/// What happens to one system call: the first alternative whose comparisons all hold, else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub alternatives: Vec<(Vec<Compare>, u32)>,
    pub otherwise: u32,
}

fn action_value(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => RET_KILL_THREAD,
        Action::ScmpActKillProcess => RET_KILL_PROCESS,
        Action::ScmpActTrap => RET_TRAP,
        Action::ScmpActErrno => RET_ERRNO | errno.unwrap_or(EPERM) & 0xffff,
        Action::ScmpActNotify => RET_USER_NOTIF,
        Action::ScmpActTrace => RET_TRACE | errno.unwrap_or(EPERM) & 0xffff,
        Action::ScmpActLog => RET_LOG,
        Action::ScmpActAllow => RET_ALLOW,
    }
}

/// Assembles the filter of a profile. Names the kernel's tables do not have are skipped: profiles list calls of
/// every kernel and architecture.
pub fn assemble(profile: &LinuxSeccomp) -> Filter {
    let default = action_value(profile.default_action(), profile.default_errno_ret());
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let abis = abis(profile.architectures().as_deref());
    let sections =
        abis.iter().map(|abi| (*abi, segments(*abi, rules, default, beyond_known(profile, default)))).collect();
    let notifies = profile.default_action() == Action::ScmpActNotify
        || rules.iter().any(|rule| rule.action() == Action::ScmpActNotify);
    let listener = if notifies { FLAG_NEW_LISTENER } else { 0 };
    Filter { program: program::assemble(sections), flags: flags(profile.flags().as_deref()) | listener, notifies }
}

fn abis(architectures: Option<&[Arch]>) -> Vec<Abi> {
    let listed = architectures.unwrap_or_default();
    let mut abis = vec![Abi::X86_64];
    if listed.contains(&Arch::ScmpArchX86) {
        abis.push(Abi::X86);
    }
    if listed.contains(&Arch::ScmpArchX32) {
        abis.push(Abi::X32);
    }
    abis
}

/// runc's default is SPEC_ALLOW, unless the profile says which flags it wants, be it none.
fn flags(flags: Option<&[Flag]>) -> u32 {
    let Some(flags) = flags else { return FLAG_SPEC_ALLOW };
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            Flag::SeccompFilterFlagTsync => FLAG_TSYNC,
            Flag::SeccompFilterFlagLog => FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
        }
    })
}

/// A call newer than everything the profile names is unknown to its author: ENOSYS makes programs fall back,
/// where EPERM would make them fail. A profile that lets unknown calls through is left alone.
fn beyond_known(profile: &LinuxSeccomp, default: u32) -> u32 {
    match profile.default_action() {
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => default,
        _ => RET_ERRNO | ENOSYS,
    }
}

/// The verdicts of one ABI, as ranges: each holds from its number to the next one's.
fn segments(abi: Abi, rules: &[LinuxSyscall], default: u32, beyond: u32) -> Vec<(u32, Verdict)> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    let mut highest = None;
    for rule in rules {
        let action = action_value(rule.action(), rule.errno_ret());
        for name in rule.names() {
            let Ok(at) = SYSCALLS.binary_search_by(|entry| entry.0.cmp(name.as_str())) else { continue };
            let Some(number) = abi.number(&SYSCALLS[at]) else { continue };
            highest = highest.max(Some(number));
            if action != default {
                add_rule(&mut verdicts, number, rule.args().as_deref().unwrap_or_default(), action, default);
            }
        }
    }
    let plain = |action| Verdict { alternatives: Vec::new(), otherwise: action };
    let mut ranges = vec![(0, plain(default))];
    for (number, verdict) in verdicts {
        push_range(&mut ranges, number, verdict);
        push_range(&mut ranges, number + 1, plain(default));
    }
    push_range(&mut ranges, highest.map_or(0, |n| n + 1), plain(beyond));
    ranges
}

/// Appends a range; one at the same start replaces, an equal neighbour is extended.
fn push_range(ranges: &mut Vec<(u32, Verdict)>, start: u32, verdict: Verdict) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != verdict) {
        ranges.push((start, verdict));
    }
}

fn add_rule(verdicts: &mut BTreeMap<u32, Verdict>, number: u32, args: &[LinuxSeccompArg], action: u32, default: u32) {
    let verdict = verdicts.entry(number).or_insert(Verdict { alternatives: Vec::new(), otherwise: default });
    if args.is_empty() {
        verdict.otherwise = action;
        return;
    }
    let compares: Vec<Compare> = args
        .iter()
        .map(|arg| Compare {
            index: arg.index(),
            op: arg.op(),
            value: arg.value(),
            value_two: arg.value_two().unwrap_or(0),
        })
        .collect();
    // libseccomp cannot compare one argument twice in a rule, so runc makes such a rule several: any may hold.
    let repeats = (0..6).any(|index| compares.iter().filter(|c| c.index == index).count() > 1);
    if repeats {
        verdict.alternatives.extend(compares.into_iter().map(|compare| (vec![compare], action)));
    } else {
        verdict.alternatives.push((compares, action));
    }
}

#[cfg(test)]
mod tests;
