//! The assembled programs are run by a small interpreter and compared with a direct reading of the profile.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use serde_json::json;

use super::program::{AND, JA, JEQ, JGE, JGT, LD, RET};
use super::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

fn run(program: &[Insn], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        _ => {
            let arg = args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
    };
    let (mut a, mut at) = (0u32, 0usize);
    loop {
        let insn = program[at];
        at += 1;
        let jump = |taken: bool| if taken { usize::from(insn.jt) } else { usize::from(insn.jf) };
        match insn.code {
            LD => a = word(insn.k),
            AND => a &= insn.k,
            JA => at += insn.k as usize,
            JEQ => at += jump(a == insn.k),
            JGT => at += jump(a > insn.k),
            JGE => at += jump(a >= insn.k),
            RET => return insn.k,
            other => panic!("unknown operation {other:#x}"),
        }
    }
}

fn profile(value: serde_json::Value) -> Filter {
    assemble(&serde_json::from_value::<LinuxSeccomp>(value).unwrap())
}

fn number(name: &str) -> u32 {
    let at = SYSCALLS.binary_search_by(|e| e.0.cmp(name)).unwrap();
    u32::from(SYSCALLS[at].1)
}

#[test]
fn the_table_is_sorted_by_name() {
    assert!(SYSCALLS.is_sorted_by_key(|entry| entry.0));
}

#[test]
fn named_calls_pass_others_fail_and_newer_ones_are_unknown() {
    let filter = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "write", "exit_group", "no_such_call"], "action": "SCMP_ACT_ALLOW"}]
    }));
    let verdict = |name| run(&filter.program, X86_64, number(name), [0; 6]);
    assert_eq!(verdict("read"), RET_ALLOW);
    assert_eq!(verdict("open"), RET_ERRNO | 1);
    assert_eq!(verdict("exit_group"), RET_ALLOW);
    assert_eq!(verdict("openat2"), RET_ERRNO | 38, "above the highest named number");
    assert_eq!(run(&filter.program, I386, 3, [0; 6]), RET_KILL_PROCESS, "i386 is not listed");
    assert_eq!(run(&filter.program, X86_64, 0x4000_0000, [0; 6]), RET_KILL_PROCESS, "x32 is not listed");
    assert_eq!(filter.flags, FLAG_SPEC_ALLOW);
}

#[test]
fn a_default_of_allow_lets_unknown_calls_through() {
    let filter = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "flags": [],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
    }));
    assert_eq!(run(&filter.program, X86_64, number("mkdir"), [0; 6]), RET_ERRNO | 28);
    assert_eq!(run(&filter.program, X86_64, 9999, [0; 6]), RET_ALLOW);
    assert_eq!(filter.flags, 0);
}

#[test]
fn every_architecture_has_its_own_numbers() {
    let filter = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["getpid", "execve"], "action": "SCMP_ACT_ALLOW"}]
    }));
    assert_eq!(run(&filter.program, X86_64, 39, [0; 6]), RET_ALLOW);
    assert_eq!(run(&filter.program, I386, 20, [0; 6]), RET_ALLOW);
    assert_eq!(run(&filter.program, I386, 39, [0; 6]), RET_ERRNO | 38);
    assert_eq!(run(&filter.program, X86_64, 0x4000_0000 + 520, [0; 6]), RET_ALLOW, "x32 execve");
}

#[test]
fn every_action_and_flag_has_its_value() {
    let table = [
        ("SCMP_ACT_KILL", RET_KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", RET_KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", RET_KILL_PROCESS),
        ("SCMP_ACT_TRAP", RET_TRAP),
        ("SCMP_ACT_TRACE", RET_TRACE | 1),
        ("SCMP_ACT_LOG", RET_LOG),
        ("SCMP_ACT_NOTIFY", RET_USER_NOTIF),
    ];
    for (name, value) in table {
        let filter =
            profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": name}]}));
        assert_eq!(run(&filter.program, X86_64, number("mkdir"), [0; 6]), value, "{name}");
        assert_eq!(filter.notifies, name == "SCMP_ACT_NOTIFY");
    }
    let flags =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]});
    assert_eq!(profile(flags).flags, FLAG_LOG | FLAG_TSYNC);
}

#[test]
fn comparing_one_argument_twice_means_either() {
    let filter = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]
    }));
    let verdict = |arg| run(&filter.program, X86_64, number("personality"), [arg, 0, 0, 0, 0, 0]);
    assert_eq!([verdict(0), verdict(8), verdict(1)], [RET_ALLOW, RET_ALLOW, RET_ERRNO | 1]);
}

fn holds(op: LinuxSeccompOperator, arg: u64, value: u64, value_two: u64) -> bool {
    match op {
        LinuxSeccompOperator::ScmpCmpNe => arg != value,
        LinuxSeccompOperator::ScmpCmpLt => arg < value,
        LinuxSeccompOperator::ScmpCmpLe => arg <= value,
        LinuxSeccompOperator::ScmpCmpEq => arg == value,
        LinuxSeccompOperator::ScmpCmpGe => arg >= value,
        LinuxSeccompOperator::ScmpCmpGt => arg > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => arg & value == value_two,
    }
}

const OPS: [(&str, LinuxSeccompOperator); 7] = [
    ("SCMP_CMP_NE", LinuxSeccompOperator::ScmpCmpNe),
    ("SCMP_CMP_LT", LinuxSeccompOperator::ScmpCmpLt),
    ("SCMP_CMP_LE", LinuxSeccompOperator::ScmpCmpLe),
    ("SCMP_CMP_EQ", LinuxSeccompOperator::ScmpCmpEq),
    ("SCMP_CMP_GE", LinuxSeccompOperator::ScmpCmpGe),
    ("SCMP_CMP_GT", LinuxSeccompOperator::ScmpCmpGt),
    ("SCMP_CMP_MASKED_EQ", LinuxSeccompOperator::ScmpCmpMaskedEq),
];

/// Values whose words are often equal, so that both halves of a comparison are met.
fn word_mix() -> impl Strategy<Value = u64> {
    let word = || prop_oneof![Just(0u32), Just(1), Just(5), Just(u32::MAX), any::<u32>()];
    (word(), word()).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

proptest! {
    #[test]
    fn comparisons_mean_what_they_say(op in 0..7usize, index in 0..6usize, value in word_mix(), two in word_mix(), arg in word_mix()) {
        let filter = profile(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": index, "value": value, "valueTwo": two, "op": OPS[op].0}]}]
        }));
        let mut args = [0x55; 6];
        args[index] = arg;
        let expected = if holds(OPS[op].1, arg, value, two) { RET_ALLOW } else { RET_ERRNO | 1 };
        prop_assert_eq!(run(&filter.program, X86_64, number("ioctl"), args), expected);
    }

    #[test]
    fn any_set_of_names_is_decided_number_by_number(allowed in proptest::collection::btree_set(0..SYSCALLS.len(), 1..200)) {
        let names: Vec<&str> = allowed.iter().map(|at| SYSCALLS[*at].0).collect();
        let filter = profile(json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]
        }));
        prop_assert!(filter.program.len() < 4096);
        for (arch, abi) in [(X86_64, Abi::X86_64), (I386, Abi::X86)] {
            let numbers: Vec<u32> = allowed.iter().filter_map(|at| abi.number(&SYSCALLS[*at])).collect();
            let highest = numbers.iter().max().copied();
            for number in 0..600 {
                let expected = if numbers.contains(&number) { RET_ALLOW }
                    else if Some(number) > highest { RET_ERRNO | 38 } else { RET_KILL_PROCESS };
                prop_assert_eq!(run(&filter.program, arch, number, [0; 6]), expected, "{}", number);
            }
        }
    }
}
