//! What systemd knows of cgroup v1, under the names it had then; versions up to 257 do.

use oci_spec::runtime::LinuxResources;

use super::{add, add_bandwidth, add_cpuset, add_tasks, or_infinity};
use crate::cgroup::ResourceError;
use crate::systemd::Property;

/// What systemd takes for CPUShares, as the kernel does.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// BlockIOWeight.
const WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1000;

pub fn limits(resources: &LinuxResources) -> Result<Vec<Property>, ResourceError> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(ResourceError::UnifiedOnV1);
    }
    let mut properties = Vec::new();
    if let Some(memory) = resources.memory() {
        add(&mut properties, "MemoryLimit", memory.limit().filter(|limit| *limit != 0).map(or_infinity));
    }
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().filter(|shares| SHARES.contains(shares) && cpu.idle() != Some(1));
        add(&mut properties, "CPUShares", shares);
        add_bandwidth(&mut properties, cpu);
        add_cpuset(&mut properties, cpu);
    }
    if let Some(io) = resources.block_io() {
        let weight = io.weight().map(u64::from).filter(|weight| WEIGHTS.contains(weight));
        add(&mut properties, "BlockIOWeight", weight);
    }
    add_tasks(&mut properties, resources);
    Ok(properties)
}
