//! cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{OnFailure, Plan, ResourceError, Write, max_or, page_size, pids_max, plan_rdma, refuse, write};

pub fn plan(resources: &LinuxResources) -> Result<Plan, ResourceError> {
    let mut plan = Plan::default();
    if resources.network().as_ref().is_some_and(|net| net.class_id().is_some() || net.priorities().is_some()) {
        return Err(ResourceError::NotOnV2 { at: "network" });
    }
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut plan.writes)?;
    }
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut plan.writes)?;
        let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0);
        plan.usage_max = limit.filter(|_| memory.check_before_update() == Some(true));
    }
    if let Some(pids) = resources.pids() {
        plan.writes.push(write("pids.limit", "pids", "pids.max", pids_max(pids.limit())));
    }
    if let Some(io) = resources.block_io() {
        plan_io(io, &mut plan.writes)?;
    }
    for (index, page) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = page_size(index, page.page_size())?;
        let limit = |kind| {
            let file = format!("hugetlb.{size}.{kind}");
            write(format!("hugepageLimits[{index}]"), "hugetlb", file, max_or(page.limit()))
        };
        plan.writes.push(limit("max"));
        plan.writes.push(limit("rsvd.max").on_failure(OnFailure::IgnoreMissing));
    }
    plan_rdma(resources, &mut plan.writes);
    plan_unified(resources, &mut plan.writes)?;
    Ok(plan)
}

fn plan_unified(resources: &LinuxResources, writes: &mut Vec<Write>) -> Result<(), ResourceError> {
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (key, value) in unified {
        let Some((controller, _)) = key.split_once('.').filter(|_| !key.contains('/')) else {
            return Err(ResourceError::UnifiedKey { key: key.clone() });
        };
        let controller = CONTROLLERS.iter().find(|known| **known == controller).copied().unwrap_or("");
        // A file may take one line per write only (io.max, rdma.max).
        let line = |line: &str| write(format!("unified[{key:?}]"), controller, key.clone(), line);
        writes.extend(value.lines().map(line));
    }
    Ok(())
}

const CONTROLLERS: [&str; 8] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc"];

/// The resources that a threaded cgroup cannot limit, by their JSON paths (cgroup-v2.rst, "Threads").
pub fn domain_controllers(resources: &LinuxResources) -> Vec<&'static str> {
    let asked = [
        ("linux.resources.memory", resources.memory().is_some()),
        ("linux.resources.blockIO", resources.block_io().is_some()),
        ("linux.resources.hugepageLimits", resources.hugepage_limits().iter().flatten().next().is_some()),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(at, _)| at).collect()
}

/// cpu.weight for cpu.shares: shares of 1024 map to weight 100, where a linear map would give 39. The curve is the
/// one runc and Kubernetes agreed on, so that a pod weighs the same under any runtime.
pub fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1 | 2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<(), ResourceError> {
    if cpu.realtime_period().is_some_and(|period| period != 0) {
        return Err(ResourceError::NotOnV2 { at: "cpu.realtimePeriod" });
    }
    if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) {
        return Err(ResourceError::NotOnV2 { at: "cpu.realtimeRuntime" });
    }
    if let Some(idle) = cpu.idle() {
        writes.push(write("cpu.idle", "cpu", "cpu.idle", idle));
    }
    // The weight of an idle group is fixed: the kernel refuses to change it.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        writes.push(write("cpu.shares", "cpu", "cpu.weight", weight_from_shares(shares)));
    }
    // A burst may not exceed the quota: growing it follows, shrinking it precedes.
    if let Some(burst) = cpu.burst() {
        writes.push(write("cpu.burst", "cpu", "cpu.max.burst", burst).on_failure(OnFailure::AgainLast));
    }
    let max = match (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0)) {
        (None, None) => None,
        (None, Some(period)) => Some(("cpu.period", format!("max {period}"))),
        // A lone quota keeps the period there is.
        (Some(quota), None) => Some(("cpu.quota", max_or(quota))),
        (Some(quota), Some(period)) => Some(("cpu.quota", format!("{} {period}", max_or(quota)))),
    };
    writes.extend(max.map(|(at, value)| write(at, "cpu", "cpu.max", value)));
    if let Some(cpus) = cpu.cpus().as_ref().filter(|c| !c.is_empty()) {
        writes.push(write("cpu.cpus", "cpuset", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|m| !m.is_empty()) {
        writes.push(write("cpu.mems", "cpuset", "cpuset.mems", mems));
    }
    Ok(())
}

/// OCI's swap is memory plus swap; v2 counts swap alone. -1 is no limit, `None` unset.
pub fn swap_of_v2(memory: &LinuxMemory) -> Result<Option<i64>, ResourceError> {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    match (set(memory.limit()), set(memory.swap())) {
        // As on v1, where unlimited memory with limited swap is impossible: the one lifts the other.
        (Some(..0), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(..0)) => Ok(Some(-1)),
        (None | Some(..0), Some(swap)) => {
            let why = format!("{swap} is memory plus swap, which needs a memory.limit to take the swap from");
            Err(refuse("memory.swap", why))
        }
        (Some(limit), Some(swap)) if swap < limit => {
            Err(refuse("memory.swap", format!("{swap} is memory plus swap, and less than the limit {limit}")))
        }
        (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
    }
}

fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), ResourceError> {
    if memory.swappiness().is_some() {
        return Err(ResourceError::NotOnV2 { at: "memory.swappiness" });
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(ResourceError::NotOnV2 { at: "memory.disableOOMKiller" });
    }
    if memory.kernel_tcp().is_some_and(|tcp| tcp != 0) {
        return Err(ResourceError::NotOnV2 { at: "memory.kernelTCP" });
    }
    if let Some(swap) = swap_of_v2(memory)? {
        // A kernel without swap accounting has no swap to give: none and any are what it does anyway.
        let missing_is_fine = if swap <= 0 { OnFailure::IgnoreMissing } else { OnFailure::Fail };
        writes.push(write("memory.swap", "memory", "memory.swap.max", max_or(swap)).on_failure(missing_is_fine));
    }
    if let Some(limit) = memory.limit().filter(|limit| *limit != 0) {
        writes.push(write("memory.limit", "memory", "memory.max", max_or(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        writes.push(write("memory.reservation", "memory", "memory.low", max_or(reservation)));
    }
    Ok(())
}

/// blkio's 10..1000 onto io's 1..10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn plan_io(io: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<(), ResourceError> {
    if io.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(ResourceError::NotOnV2 { at: "blockIO.leafWeight" });
    }
    // bfq takes blkio's weight as it is, io.weight has another scale.
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        let bfq = write("blockIO.weight", "io", "io.bfq.weight", weight);
        writes.push(bfq.or("io.weight", format!("default {}", io_weight(weight))));
    }
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return Err(ResourceError::NotOnV2 { at: "blockIO.weightDevice[].leafWeight" });
        }
        if let Some(weight) = device.weight() {
            let number = format!("{}:{}", device.major(), device.minor());
            let at = format!("blockIO.weightDevice[{index}].weight");
            let bfq = write(at, "io", "io.bfq.weight", format!("{number} {weight}"));
            writes.push(bfq.or("io.weight", format!("{number} {}", io_weight(weight))));
        }
    }
    let mut throttle = |field: &str, key: &str, list: &Option<Vec<LinuxThrottleDevice>>| {
        for (index, device) in list.iter().flatten().enumerate() {
            // 0 lifts a limit on v1; v2 refuses it and has a word for that.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let line = format!("{}:{} {key}={rate}", device.major(), device.minor());
            writes.push(write(format!("blockIO.{field}[{index}]"), "io", "io.max", line));
        }
    };
    throttle("throttleReadBpsDevice", "rbps", io.throttle_read_bps_device());
    throttle("throttleWriteBpsDevice", "wbps", io.throttle_write_bps_device());
    throttle("throttleReadIOPSDevice", "riops", io.throttle_read_iops_device());
    throttle("throttleWriteIOPSDevice", "wiops", io.throttle_write_iops_device());
    Ok(())
}
