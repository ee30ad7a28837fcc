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

fn text(plan: &Plan) -> String {
    plan.writes
        .iter()
        .map(|w| {
            let or = w.or.as_ref().map(|(file, value)| format!(" or {file} = {value}")).unwrap_or_default();
            let failure = match w.on_failure {
                OnFailure::Fail => "",
                OnFailure::IgnoreMissing => " (may be missing)",
                OnFailure::AgainLast => " (again if EINVAL)",
            };
            format!("{} = {}{or}{failure}\n", w.file, w.value)
        })
        .collect()
}

#[test]
fn a_pods_limits_on_both_versions() {
    let resources = json!({
        "cpu": {"shares": 1024, "quota": 50000, "period": 100_000, "burst": 1000, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 67_108_864, "swap": 67_108_864, "reservation": 1_048_576}, "pids": {"limit": 100},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}, "mlx4_0": {"hcaObjects": 1000}}
    });
    insta::assert_snapshot!(v1(resources.clone()), @r"
    cpu.shares = 1024
    cpu.cfs_burst_us = 1000 (again if EINVAL)
    cpu.cfs_period_us = 100000 (again if EINVAL)
    cpu.cfs_quota_us = 50000
    cpuset.cpus = 0-1
    cpuset.mems = 0
    memory.limit_in_bytes = 67108864 (again if EINVAL)
    memory.memsw.limit_in_bytes = 67108864 (may be missing)
    memory.soft_limit_in_bytes = 1048576
    pids.max = 100
    hugetlb.2MB.limit_in_bytes = 4194304
    hugetlb.2MB.rsvd.limit_in_bytes = 4194304 (may be missing)
    rdma.max = mlx4_0 hca_object=1000
    rdma.max = mlx5_1 hca_handle=3 hca_object=10000
    ");
    insta::assert_snapshot!(v2(resources), @r"
    cpu.weight = 100
    cpu.max.burst = 1000 (again if EINVAL)
    cpu.max = 50000 100000
    cpuset.cpus = 0-1
    cpuset.mems = 0
    memory.swap.max = 0 (may be missing)
    memory.max = 67108864
    memory.low = 1048576
    pids.max = 100
    hugetlb.2MB.max = 4194304
    hugetlb.2MB.rsvd.max = 4194304 (may be missing)
    rdma.max = mlx4_0 hca_object=1000
    rdma.max = mlx5_1 hca_handle=3 hca_object=10000
    ");
}

#[test]
fn block_io_on_both_versions() {
    let resources = json!({"blockIO": {
        "weight": 500,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2000}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 30}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]
    }});
    insta::assert_snapshot!(v1(resources.clone()), @r"
    blkio.weight = 500 or blkio.bfq.weight = 500
    blkio.weight_device = 8:0 10 or blkio.bfq.weight_device = 8:0 10
    blkio.throttle.read_bps_device = 8:0 1000
    blkio.throttle.write_bps_device = 8:0 2000
    blkio.throttle.read_iops_device = 8:16 30
    blkio.throttle.write_iops_device = 8:16 0
    ");
    insta::assert_snapshot!(v2(resources), @r"
    io.bfq.weight = 500 or io.weight = default 4950
    io.bfq.weight = 8:0 10 or io.weight = 8:0 1
    io.max = 8:0 rbps=1000
    io.max = 8:0 wbps=2000
    io.max = 8:16 riops=30
    io.max = 8:16 wiops=max
    ");
}

#[test]
fn what_only_v1_has() {
    let resources = json!({
        "cpu": {"realtimePeriod": 1000, "realtimeRuntime": 900, "idle": 1, "shares": 512},
        "memory": {"kernel": 5, "kernelTCP": 4096, "disableOOMKiller": true, "swappiness": 0, "useHierarchy": true},
        "network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 500}]},
        "blockIO": {"leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 20}]}
    });
    insta::assert_snapshot!(v1(resources), @r"
    cpu.idle = 1
    cpu.rt_period_us = 1000 (again if EINVAL)
    cpu.rt_runtime_us = 900
    memory.kmem.tcp.limit_in_bytes = 4096
    memory.oom_control = 1
    memory.swappiness = 0
    blkio.leaf_weight = 10 or blkio.bfq.leaf_weight = 10
    blkio.leaf_weight_device = 8:0 20 or blkio.bfq.leaf_weight_device = 8:0 20
    net_cls.classid = 1048577
    net_prio.ifpriomap = eth0 500
    ");
}

#[test]
fn what_a_version_cannot_do_is_an_error_that_names_its_place() {
    let refused = |value: serde_json::Value| {
        let resources = serde_json::from_value::<LinuxResources>(value).unwrap();
        let one =
            |plan: Result<Plan, ResourceError>| plan.map_or_else(|error| error.to_string(), |_| "fine".to_owned());
        format!("v1: {}\nv2: {}\n", one(plan_v1(&resources)), one(plan_v2(&resources)))
    };
    let all: String = [
        json!({"cpu": {"shares": 1}}),
        json!({"cpu": {"realtimePeriod": 1000}}),
        json!({"cpu": {"realtimeRuntime": 1000}}),
        json!({"memory": {"swappiness": 60}}),
        json!({"memory": {"swappiness": 201}}),
        json!({"memory": {"disableOOMKiller": true}}),
        json!({"memory": {"kernelTCP": 1}}),
        json!({"memory": {"swap": 5}}),
        json!({"memory": {"limit": 6, "swap": 5}}),
        json!({"network": {"classID": 1}}),
        json!({"blockIO": {"leafWeight": 10}}),
        json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
        json!({"unified": {"memory.high": "1"}}),
        json!({"unified": {"../memory.high": "1"}}),
        json!({"devices": [{"allow": true, "type": "c", "major": -2, "access": "r"}]}),
        json!({"devices": [{"allow": true, "access": "rx"}]}),
    ]
    .map(refused)
    .concat();
    insta::assert_snapshot!(all, @r#"
    v1: linux.resources.cpu.shares: 1 is not between 2 and 262144
    v2: fine
    v1: fine
    v2: linux.resources.cpu.realtimePeriod: cgroup v2 has nothing like it
    v1: fine
    v2: linux.resources.cpu.realtimeRuntime: cgroup v2 has nothing like it
    v1: fine
    v2: linux.resources.memory.swappiness: cgroup v2 has nothing like it
    v1: linux.resources.memory.swappiness: 201 is not between 0 and 200
    v2: linux.resources.memory.swappiness: cgroup v2 has nothing like it
    v1: fine
    v2: linux.resources.memory.disableOOMKiller: cgroup v2 has nothing like it
    v1: fine
    v2: linux.resources.memory.kernelTCP: cgroup v2 has nothing like it
    v1: fine
    v2: linux.resources.memory.swap: 5 is memory plus swap, which needs a memory.limit to take the swap from
    v1: linux.resources.memory.swap: 5 is memory plus swap, and less than the limit 6
    v2: linux.resources.memory.swap: 5 is memory plus swap, and less than the limit 6
    v1: fine
    v2: linux.resources.network: cgroup v2 has nothing like it
    v1: fine
    v2: linux.resources.blockIO.leafWeight: cgroup v2 has nothing like it
    v1: linux.resources.hugepageLimits[0].pageSize: "../2MB" is no page size such as 2MB
    v2: linux.resources.hugepageLimits[0].pageSize: "../2MB" is no page size such as 2MB
    v1: linux.resources.unified: this host uses cgroup v1
    v2: fine
    v1: linux.resources.unified: this host uses cgroup v1
    v2: linux.resources.unified["../memory.high"]: must be a file name in the form CONTROLLER.PARAMETER
    v1: linux.resources.devices[0].major: -2 is no device number
    v2: fine
    v1: linux.resources.devices[0].access: "rx" has letters other than r, w and m
    v2: fine
    "#);
}

#[test]
fn unlimited_memory_lifts_the_limit_on_swap() {
    insta::assert_snapshot!(v1(json!({"memory": {"limit": -1}})), @r"
    memory.limit_in_bytes = -1 (again if EINVAL)
    memory.memsw.limit_in_bytes = -1 (may be missing)
    ");
    insta::assert_snapshot!(v2(json!({"memory": {"limit": -1}})), @r"
    memory.swap.max = max (may be missing)
    memory.max = max
    ");
    let checked = json!({"memory": {"limit": 5, "checkBeforeUpdate": true}});
    assert_eq!(plan_v2(&serde_json::from_value(checked).unwrap()).unwrap().usage_max, Some(5));
}

#[test]
fn a_file_of_v2_takes_one_line_at_a_time() {
    let unified = json!({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "memory.high": "5"}});
    insta::assert_snapshot!(v2(unified), @r"
    io.max = 8:0 rbps=1
    io.max = 8:16 rbps=2
    memory.high = 5
    ");
}

#[test]
fn zero_pids_is_a_limit_of_one_and_a_lone_quota_keeps_the_period() {
    assert_eq!(v2(json!({"pids": {"limit": 0}})), "pids.max = 1\n");
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
fn a_narrow_rule_for_all_kinds_is_not_taken_for_one_about_everything() {
    let lines = v1(json!({"devices": [{"allow": true, "type": "a", "major": 10, "access": "r"}]}));
    assert!(lines.starts_with("devices.allow = b 10:* r\ndevices.allow = c 10:* r\n"), "{lines}");
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
    let program = device_program::assemble(&devices::rules(&user).unwrap());
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
    let program = device_program::assemble(&devices::rules(&user).unwrap());
    for (at, _) in program.iter().enumerate().filter(|(at, insn)| insn.code == EXIT && at + 1 < program.len()) {
        let jumped_to = program
            .iter()
            .enumerate()
            .any(|(from, insn)| insn.off > 0 && insn.code & 0x07 == 0x05 && from + 1 + insn.off as usize == at + 1);
        assert!(jumped_to, "instruction {} follows an exit and no jump leads to it", at + 1);
    }
}
