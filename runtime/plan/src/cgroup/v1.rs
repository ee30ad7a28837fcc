//! cgroup v1 (Documentation/admin-guide/cgroup-v1).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice};

use super::{OnFailure, Plan, ResourceError, Write, devices, page_size, pids_max, plan_rdma, refuse, write};

/// kernel/sched/sched.h, MIN_SHARES and MAX_SHARES: outside of these the kernel takes something else without a word.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

pub fn plan(resources: &LinuxResources) -> Result<Plan, ResourceError> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(ResourceError::UnifiedOnV1);
    }
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut writes)?;
    }
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut writes)?;
    }
    if let Some(pids) = resources.pids() {
        writes.push(write("pids.limit", "pids", "pids.max", pids_max(pids.limit())));
    }
    if let Some(io) = resources.block_io() {
        plan_blkio(io, &mut writes);
    }
    for (index, page) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = page_size(index, page.page_size())?;
        let limit =
            |kind| write(format!("hugepageLimits[{index}]"), "hugetlb", format!("hugetlb.{size}.{kind}"), page.limit());
        writes.push(limit("limit_in_bytes"));
        writes.push(limit("rsvd.limit_in_bytes").on_failure(OnFailure::IgnoreMissing));
    }
    if let Some(network) = resources.network() {
        plan_network(network, &mut writes);
    }
    plan_rdma(resources, &mut writes);
    if let Some(rules) = resources.devices() {
        for (file, line) in devices::v1_lines(rules)? {
            writes.push(write("devices", "devices", file, line));
        }
    }
    Ok(Plan { usage_max: None, writes })
}

fn plan_network(network: &LinuxNetwork, writes: &mut Vec<Write>) {
    if let Some(class) = network.class_id() {
        writes.push(write("network.classID", "net_cls", "net_cls.classid", class));
    }
    for (index, one) in network.priorities().iter().flatten().enumerate() {
        let line = format!("{} {}", one.name(), one.priority());
        writes.push(write(format!("network.priorities[{index}]"), "net_prio", "net_prio.ifpriomap", line));
    }
}

fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<(), ResourceError> {
    let shares = cpu.shares().filter(|shares| *shares != 0);
    if let Some(shares) = shares.filter(|shares| !SHARES.contains(shares)) {
        let why = format!("{shares} is not between {} and {}", SHARES.start(), SHARES.end());
        return Err(refuse("cpu.shares", why));
    }
    let idle = cpu.idle();
    let mut put = |field: &str, controller, file: &str, value: Option<String>, on_failure| {
        if let Some(value) = value {
            writes.push(write(format!("cpu.{field}"), controller, file, value).on_failure(on_failure));
        }
    };
    use OnFailure::{AgainLast, Fail};
    put("idle", "cpu", "cpu.idle", idle.map(|i| i.to_string()), Fail);
    // The weight of an idle group is fixed: the kernel refuses to change it.
    put("shares", "cpu", "cpu.shares", shares.filter(|_| idle != Some(1)).map(|s| s.to_string()), Fail);
    // rt_runtime may not exceed rt_period, cfs quota and period must fit the parent's, and a burst its quota:
    // whether the old partner allows the new value depends on which way they move.
    put("realtimePeriod", "cpu", "cpu.rt_period_us", text(cpu.realtime_period()), AgainLast);
    let runtime = cpu.realtime_runtime().filter(|runtime| *runtime != 0);
    put("realtimeRuntime", "cpu", "cpu.rt_runtime_us", runtime.map(|r| r.to_string()), Fail);
    put("burst", "cpu", "cpu.cfs_burst_us", cpu.burst().map(|b| b.to_string()), AgainLast);
    put("period", "cpu", "cpu.cfs_period_us", text(cpu.period()), AgainLast);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    put("quota", "cpu", "cpu.cfs_quota_us", quota.map(|quota| quota.max(-1).to_string()), Fail);
    put("cpus", "cpuset", "cpuset.cpus", cpu.cpus().clone().filter(|c| !c.is_empty()), Fail);
    put("mems", "cpuset", "cpuset.mems", cpu.mems().clone().filter(|m| !m.is_empty()), Fail);
    Ok(())
}

fn text(value: Option<u64>) -> Option<String> {
    value.filter(|value| *value != 0).map(|value| value.to_string())
}

/// Zero means unset, as runc has it. `memory.kernel` is obsolete: kernels since 5.16 lack the file, and the
/// specification lets runtimes ignore it.
fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), ResourceError> {
    let set = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.max(-1));
    let (limit, swap) = (set(memory.limit()), set(memory.swap()));
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap != -1
        && (limit == -1 || swap < limit)
    {
        return Err(refuse("memory.swap", format!("{swap} is memory plus swap, and less than the limit {limit}")));
    }
    if let Some(limit) = limit {
        // limit <= memsw.limit holds at every moment. Growing, the first attempt fails; shrinking, the second file's.
        let first = write("memory.limit", "memory", "memory.limit_in_bytes", limit);
        writes.push(first.on_failure(OnFailure::AgainLast));
    }
    // Unlimited memory with limited swap is impossible, so the one lifts the other.
    let lifted = || (limit == Some(-1)).then_some(-1);
    if let Some(swap) = swap.or_else(lifted) {
        // A kernel without swap accounting has no swap to give: none and any are what it does anyway.
        let missing_is_fine =
            if swap == -1 || Some(swap) == limit { OnFailure::IgnoreMissing } else { OnFailure::Fail };
        let memsw = write("memory.swap", "memory", "memory.memsw.limit_in_bytes", swap);
        writes.push(memsw.on_failure(missing_is_fine));
    }
    let mut put = |field: &str, file: &str, value: i64| {
        writes.push(write(format!("memory.{field}"), "memory", file, value));
    };
    if let Some(reservation) = set(memory.reservation()) {
        put("reservation", "memory.soft_limit_in_bytes", reservation);
    }
    if let Some(tcp) = set(memory.kernel_tcp()) {
        put("kernelTCP", "memory.kmem.tcp.limit_in_bytes", tcp);
    }
    if let Some(disable) = memory.disable_oom_killer().filter(|disable| *disable) {
        put("disableOOMKiller", "memory.oom_control", i64::from(disable));
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 200 {
            return Err(refuse("memory.swappiness", format!("{swappiness} is not between 0 and 200")));
        }
        put("swappiness", "memory.swappiness", swappiness as i64);
    }
    Ok(())
}

fn plan_blkio(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    let mut put = |field: String, file: &str, value: String| {
        // bfq names its files differently, and cfq went with Linux 5.0: whichever is there takes it.
        let bfq = file.replacen("blkio.", "blkio.bfq.", 1);
        writes.push(write(format!("blockIO.{field}"), "blkio", file, &value).or(bfq, &value));
    };
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        put("weight".to_owned(), "blkio.weight", weight.to_string());
    }
    if let Some(weight) = io.leaf_weight().filter(|weight| *weight != 0) {
        put("leafWeight".to_owned(), "blkio.leaf_weight", weight.to_string());
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        let line = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            put(format!("weightDevice[{index}].weight"), "blkio.weight_device", line(weight));
        }
        if let Some(weight) = device.leaf_weight() {
            put(format!("weightDevice[{index}].leafWeight"), "blkio.leaf_weight_device", line(weight));
        }
    }
    let mut throttle = |field: &str, file: &str, list: &Option<Vec<LinuxThrottleDevice>>| {
        for (index, device) in list.iter().flatten().enumerate() {
            let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            writes.push(write(format!("blockIO.{field}[{index}]"), "blkio", file, line));
        }
    };
    throttle("throttleReadBpsDevice", "blkio.throttle.read_bps_device", io.throttle_read_bps_device());
    throttle("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", io.throttle_write_bps_device());
    throttle("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", io.throttle_read_iops_device());
    throttle("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", io.throttle_write_iops_device());
}
