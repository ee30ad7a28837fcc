//! cgroup v1 (Documentation/admin-guide/cgroup-v1).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{OnFailure, ResourceError, Write, devices, write};

pub fn plan(resources: &LinuxResources) -> Result<Vec<Write>, ResourceError> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(ResourceError::UnifiedOnV1);
    }
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        plan_cpu(cpu, &mut writes);
    }
    if let Some(memory) = resources.memory() {
        plan_memory(memory, &mut writes);
    }
    if let Some(pids) = resources.pids() {
        writes.push(write("pids", "pids.max", max_or(pids.limit())));
    }
    if let Some(io) = resources.block_io() {
        plan_blkio(io, &mut writes);
    }
    for page in resources.hugepage_limits().iter().flatten() {
        writes.push(write("hugetlb", format!("hugetlb.{}.limit_in_bytes", page.page_size()), page.limit()));
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            writes.push(write("net_cls", "net_cls.classid", class));
        }
        for one in network.priorities().iter().flatten() {
            writes.push(write("net_prio", "net_prio.ifpriomap", format!("{} {}", one.name(), one.priority())));
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        writes.push(write("rdma", "rdma.max", rdma(device, limits)));
    }
    if let Some(rules) = resources.devices() {
        for (file, line) in devices::v1_lines(rules) {
            writes.push(write("devices", file, line));
        }
    }
    Ok(writes)
}

pub fn rdma(device: &str, limits: &oci_spec::runtime::LinuxRdma) -> String {
    let mut line = device.to_owned();
    for (key, value) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

/// Negative means no limit; 0 is a limit.
pub fn max_or(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn plan_cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    let mut put = |controller, file: &str, value: Option<String>| {
        if let Some(value) = value {
            writes.push(write(controller, file, value));
        }
    };
    put("cpu", "cpu.shares", cpu.shares().filter(|s| *s != 0).map(|s| s.to_string()));
    put("cpu", "cpu.cfs_period_us", cpu.period().filter(|p| *p != 0).map(|p| p.to_string()));
    put("cpu", "cpu.cfs_quota_us", cpu.quota().filter(|q| *q != 0).map(|q| q.to_string()));
    // A burst above the quota is refused, so it follows the quota.
    put("cpu", "cpu.cfs_burst_us", cpu.burst().map(|b| b.to_string()));
    put("cpu", "cpu.rt_period_us", cpu.realtime_period().filter(|p| *p != 0).map(|p| p.to_string()));
    put("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime().filter(|r| *r != 0).map(|r| r.to_string()));
    put("cpu", "cpu.idle", cpu.idle().map(|i| i.to_string()));
    put("cpuset", "cpuset.cpus", cpu.cpus().clone().filter(|c| !c.is_empty()));
    put("cpuset", "cpuset.mems", cpu.mems().clone().filter(|m| !m.is_empty()));
}

fn plan_memory(memory: &LinuxMemory, writes: &mut Vec<Write>) {
    let limit = memory.limit().filter(|l| *l != 0);
    let swap = memory.swap().filter(|s| *s != 0);
    // The kernel keeps limit <= memsw.limit at every moment: an unlimited pair needs memsw first.
    if limit == Some(-1) || swap == Some(-1) {
        let value = swap.unwrap_or(-1);
        writes.push(Write {
            on_failure: OnFailure::IgnoreMissing,
            ..write("memory", "memory.memsw.limit_in_bytes", value)
        });
    }
    if let Some(limit) = limit {
        writes.push(write("memory", "memory.limit_in_bytes", limit));
    }
    if let Some(swap) = swap.filter(|s| *s != -1) {
        writes.push(Write {
            on_failure: OnFailure::IgnoreMissing,
            ..write("memory", "memory.memsw.limit_in_bytes", swap)
        });
    }
    if let Some(reservation) = memory.reservation().filter(|r| *r != 0) {
        writes.push(write("memory", "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(tcp) = memory.kernel_tcp().filter(|t| *t != 0) {
        writes.push(write("memory", "memory.kmem.tcp.limit_in_bytes", tcp));
    }
    if memory.disable_oom_killer() == Some(true) {
        writes.push(write("memory", "memory.oom_control", 1));
    }
    if let Some(swappiness) = memory.swappiness() {
        writes.push(write("memory", "memory.swappiness", swappiness));
    }
}

fn plan_blkio(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    // bfq names its weight differently and cfq is gone; whichever file exists takes it.
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        for file in ["blkio.weight", "blkio.bfq.weight"] {
            writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..write("blkio", file, weight) });
        }
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            for file in ["blkio.weight_device", "blkio.bfq.weight_device"] {
                writes.push(Write { on_failure: OnFailure::IgnoreMissing, ..write("blkio", file, &line) });
            }
        }
    }
    let mut throttle = |file: &str, list: &Option<Vec<LinuxThrottleDevice>>| {
        for device in list.iter().flatten() {
            writes.push(write("blkio", file, format!("{}:{} {}", device.major(), device.minor(), device.rate())));
        }
    };
    throttle("blkio.throttle.read_bps_device", io.throttle_read_bps_device());
    throttle("blkio.throttle.write_bps_device", io.throttle_write_bps_device());
    throttle("blkio.throttle.read_iops_device", io.throttle_read_iops_device());
    throttle("blkio.throttle.write_iops_device", io.throttle_write_iops_device());
}
