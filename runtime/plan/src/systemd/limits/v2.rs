//! What systemd knows of cgroup v2.

use oci_spec::runtime::LinuxResources;
use pintle_dbus::Value;

use super::{INFINITY, PERIOD_DEFAULT, add, add_bandwidth, add_cpuset, add_list, add_quota, add_tasks, or_infinity};
use crate::cgroup::{ResourceError, swap_of_v2, weight_from_shares};
use crate::systemd::{Property, property};

/// A CPUWeight of 0 makes the group idle.
const KNOWS_IDLE: u32 = 252;

pub fn limits(resources: &LinuxResources) -> Result<Vec<Property>, ResourceError> {
    let mut properties = Vec::new();
    if let Some(memory) = resources.memory() {
        let set = |value: Option<i64>| value.filter(|value| *value != 0).map(or_infinity);
        add(&mut properties, "MemoryMax", set(memory.limit()));
        add(&mut properties, "MemoryLow", set(memory.reservation()));
        add(&mut properties, "MemorySwapMax", swap_of_v2(memory)?.map(or_infinity));
    }
    if let Some(cpu) = resources.cpu() {
        if cpu.idle() == Some(1) {
            properties.push(Property { since: KNOWS_IDLE, ..property("CPUWeight", Value::U64(0)) });
        } else {
            add(&mut properties, "CPUWeight", cpu.shares().filter(|shares| *shares != 0).map(weight_from_shares));
        }
        add_bandwidth(&mut properties, cpu);
        add_cpuset(&mut properties, cpu);
    }
    add_tasks(&mut properties, resources);
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    unified.into_iter().for_each(|(file, text)| add_unified(&mut properties, file, text.trim()));
    Ok(properties)
}

/// The files that have a property. `memory.oom.group` has not: OOMPolicy is about the whole unit.
fn add_unified(properties: &mut Vec<Property>, file: &str, text: &str) {
    let number = || if text == "max" { Some(INFINITY) } else { text.parse().ok() };
    match file {
        "cpu.idle" if text == "1" => {
            properties.push(Property { since: KNOWS_IDLE, ..property("CPUWeight", Value::U64(0)) });
        }
        "cpu.max" => {
            let mut words = text.split_whitespace();
            let quota = words.next().and_then(|word| if word == "max" { Some(-1) } else { word.parse().ok() });
            let period = words.next().map_or(Some(PERIOD_DEFAULT), |word| word.parse().ok());
            if let (Some(quota), Some(period)) = (quota, period) {
                add_quota(properties, quota, period);
            }
        }
        "cpu.weight" => add(properties, "CPUWeight", number().filter(|weight| (1..=10_000).contains(weight))),
        "cpuset.cpus" => add_list(properties, "AllowedCPUs", Some(text)),
        "cpuset.mems" => add_list(properties, "AllowedMemoryNodes", Some(text)),
        "memory.high" => add(properties, "MemoryHigh", number().filter(|limit| *limit != 0)),
        "memory.low" => add(properties, "MemoryLow", number()),
        "memory.max" => add(properties, "MemoryMax", number().filter(|limit| *limit != 0)),
        "memory.min" => add(properties, "MemoryMin", number()),
        "memory.swap.max" => add(properties, "MemorySwapMax", number()),
        "pids.max" => add(properties, "TasksMax", number().filter(|limit| *limit != 0)),
        _ => {}
    }
}
