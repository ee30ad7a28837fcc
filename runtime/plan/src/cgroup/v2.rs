//! cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::v1::{max_or, rdma};
use super::{OnFailure, ResourceError, Write, write};

pub fn plan(resources: &LinuxResources) -> Result<Vec<Write>, ResourceError> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut writes);
    }
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut writes);
    }
    if let Some(pids) = resources.pids() {
        writes.push(write("", "pids.max", max_or(pids.limit())));
    }
    if let Some(io) = resources.block_io() {
        plan_io(io, &mut writes);
    }
    for page in resources.hugepage_limits().iter().flatten() {
        writes.push(write("", format!("hugetlb.{}.max", page.page_size()), page.limit()));
        let reserved = write("", format!("hugetlb.{}.rsvd.max", page.page_size()), page.limit());
        writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..reserved });
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        writes.push(write("", "rdma.max", rdma(device, limits)));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (key, value) in unified {
        if key.contains('/') || !key.contains('.') {
            return Err(ResourceError::UnifiedKey { key: key.clone() });
        }
        // A file may take one line per write only (io.max, rdma.max).
        writes.extend(value.lines().map(|line| write("", key.clone(), line)));
    }
    Ok(writes)
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

fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    if let Some(idle) = cpu.idle() {
        writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..write("", "cpu.idle", idle) });
    }
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        writes.push(write("", "cpu.weight", weight_from_shares(shares)));
    }
    match (cpu.quota().filter(|q| *q != 0), cpu.period().filter(|p| *p != 0)) {
        (None, None) => {}
        (None, Some(period)) => writes.push(write("", "cpu.max", format!("max {period}"))),
        // A lone quota keeps the period there is.
        (Some(quota), None) => writes.push(write("", "cpu.max", max_or(quota))),
        (Some(quota), Some(period)) => writes.push(write("", "cpu.max", format!("{} {period}", max_or(quota)))),
    }
    if let Some(burst) = cpu.burst() {
        writes.push(write("", "cpu.max.burst", burst));
    }
    if let Some(cpus) = cpu.cpus().as_ref().filter(|c| !c.is_empty()) {
        writes.push(write("", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|m| !m.is_empty()) {
        writes.push(write("", "cpuset.mems", mems));
    }
}

fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) {
    let limit = memory.limit().filter(|l| *l != 0);
    // OCI's swap is memory plus swap; v2 counts swap alone.
    if let Some(swap) = memory.swap().filter(|s| *s != 0) {
        let value = match (swap, limit) {
            (-1, _) => "max".to_owned(),
            (swap, Some(limit)) if limit > 0 => (swap - limit).max(0).to_string(),
            (swap, _) => swap.to_string(),
        };
        writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..write("", "memory.swap.max", value) });
    }
    if let Some(limit) = limit {
        writes.push(write("", "memory.max", max_or(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        writes.push(write("", "memory.low", max_or(reservation)));
    }
}

fn plan_io(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        // blkio's 10..1000 onto io's 1..10000, unless bfq takes the weight as it is.
        let scaled = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
        writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..write("", "io.bfq.weight", weight) });
        writes.push(Write {
            on_failure: OnFailure::IgnoreMissing,
            ..write("", "io.weight", format!("default {scaled}"))
        });
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..write("", "io.bfq.weight", line) });
        }
    }
    let mut throttle = |key: &str, list: &Option<Vec<LinuxThrottleDevice>>| {
        for device in list.iter().flatten() {
            writes.push(write("", "io.max", format!("{}:{} {key}={}", device.major(), device.minor(), device.rate())));
        }
    };
    throttle("rbps", io.throttle_read_bps_device());
    throttle("wbps", io.throttle_write_bps_device());
    throttle("riops", io.throttle_read_iops_device());
    throttle("wiops", io.throttle_write_iops_device());
}
