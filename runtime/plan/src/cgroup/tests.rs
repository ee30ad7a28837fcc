//! Resources of config.json and the files they end in.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use oci_spec::runtime::LinuxResources;
use serde_json::json;

use super::*;

fn v1(value: serde_json::Value) -> String {
    text(&plan_v1(&serde_json::from_value::<LinuxResources>(value).unwrap()).unwrap())
}

fn v2(value: serde_json::Value) -> String {
    text(&plan_v2(&serde_json::from_value::<LinuxResources>(value).unwrap()).unwrap())
}

fn text(writes: &[Write]) -> String {
    writes.iter().map(|w| format!("{} = {}\n", w.file, w.value)).collect()
}

#[test]
fn a_pods_limits_on_both_versions() {
    let resources = json!({
        "cpu": {"shares": 1024, "quota": 50000, "period": 100_000, "cpus": "0-1"},
        "memory": {"limit": 67_108_864, "swap": 67_108_864}, "pids": {"limit": 100}
    });
    insta::assert_snapshot!(v1(resources.clone()), @r"
    cpu.shares = 1024
    cpu.cfs_period_us = 100000
    cpu.cfs_quota_us = 50000
    cpuset.cpus = 0-1
    memory.limit_in_bytes = 67108864
    memory.memsw.limit_in_bytes = 67108864
    pids.max = 100
    ");
    insta::assert_snapshot!(v2(resources), @r"
    cpu.weight = 100
    cpu.max = 50000 100000
    cpuset.cpus = 0-1
    memory.swap.max = 0
    memory.max = 67108864
    pids.max = 100
    ");
}

#[test]
fn unlimited_memory_raises_the_sum_first() {
    insta::assert_snapshot!(v1(json!({"memory": {"limit": -1}})), @r"
    memory.memsw.limit_in_bytes = -1
    memory.limit_in_bytes = -1
    ");
}

#[test]
fn zero_pids_is_a_limit_and_a_lone_quota_keeps_the_period() {
    assert_eq!(v2(json!({"pids": {"limit": 0}})), "pids.max = 0\n");
    assert_eq!(v2(json!({"pids": {"limit": -1}})), "pids.max = max\n");
    assert_eq!(v2(json!({"cpu": {"quota": 5000}})), "cpu.max = 5000\n");
}

#[test]
fn shares_map_onto_weights_as_kubernetes_expects() {
    let table = [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (102, 17)];
    for (shares, weight) in table {
        let written = v2(json!({"cpu": {"shares": shares}}));
        assert_eq!(written, format!("cpu.weight = {weight}\n"), "{shares}");
    }
}

#[test]
fn files_of_v2_are_refused_on_v1_and_paths_everywhere() {
    let unified = |key: &str| serde_json::from_value::<LinuxResources>(json!({"unified": {key: "1"}})).unwrap();
    assert_eq!(plan_v1(&unified("memory.high")), Err(ResourceError::UnifiedOnV1));
    assert!(plan_v2(&unified("../memory.high")).is_err());
    assert!(plan_v2(&unified("memory.high")).is_ok());
}

#[test]
fn device_rules_of_v1_start_from_the_users() {
    let lines = v1(
        json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]}),
    );
    assert!(lines.starts_with("devices.deny = a\ndevices.allow = c 10:229 rwm\ndevices.allow = c *:* m\n"), "{lines}");
}

/// Runs a device program as the kernel would.
fn allows(program: &[device_program::Insn], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut r = [0u64; 11];
    let mut at = 0usize;
    loop {
        let i = program[at];
        at += 1;
        let (dst, src) = (usize::from(i.dst), usize::from(i.src));
        let skip = |taken: bool| if taken { i.off as usize } else { 0 };
        match i.code {
            0x61 => r[dst] = u64::from(context[i.off as usize / 4]),
            0xb7 => r[dst] = i.imm as u64,
            0xbc => r[dst] = r[src] & 0xffff_ffff,
            0x54 => r[dst] = u64::from(r[dst] as u32 & i.imm as u32),
            0x74 => r[dst] = u64::from((r[dst] as u32) >> i.imm),
            0x55 => at += skip(r[dst] != i.imm as u64),
            0x5d => at += skip(r[dst] != r[src]),
            0x15 => at += skip(r[dst] == i.imm as u64),
            0x95 => return r[0] != 0,
            other => panic!("unknown operation {other:#x}"),
        }
    }
}

#[test]
fn the_device_program_decides_like_the_rules() {
    let user: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_value(json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "access": "r"},
        {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "w"}
    ]))
    .unwrap();
    let program = device_program::assemble(&devices::rules(&user));
    let (block, char) = (1, 2);
    assert!(allows(&program, char, devices::READ | devices::WRITE, 1, 3), "/dev/null");
    assert!(!allows(&program, char, devices::READ, 1, 1), "/dev/mem");
    assert!(allows(&program, char, devices::MKNOD, 1, 1), "mknod alone opens nothing");
    assert!(allows(&program, block, devices::READ, 8, 5));
    assert!(!allows(&program, block, devices::WRITE, 8, 5));
    assert!(!allows(&program, block, devices::READ | devices::WRITE, 8, 5));
}

#[test]
fn a_device_program_has_no_instruction_that_nothing_reaches() {
    const EXIT: u8 = 0x95;
    let user: Vec<oci_spec::runtime::LinuxDeviceCgroup> =
        serde_json::from_value(serde_json::json!([{"allow": false, "access": "rwm"}])).unwrap();
    let program = device_program::assemble(&devices::rules(&user));
    for (at, _) in program.iter().enumerate().filter(|(at, insn)| insn.code == EXIT && at + 1 < program.len()) {
        let jumped_to = program
            .iter()
            .enumerate()
            .any(|(from, insn)| insn.off > 0 && insn.code & 0x07 == 0x05 && from + 1 + insn.off as usize == at + 1);
        assert!(jumped_to, "instruction {} follows an exit and no jump leads to it", at + 1);
    }
}
