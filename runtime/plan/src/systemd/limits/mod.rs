//! `linux.resources` as properties of a unit (systemd.resource-control(5)).
//!
//! Systemd is told so that it shows the limits and does not undo them when it changes something of the unit. It knows
//! a part and rounds: the files, written afterwards, have the last word. What a limit may be is the files' matter too
//! (`cgroup`), so a value that systemd would refuse is simply not told.

mod v1;
mod v2;

use oci_spec::runtime::{LinuxCpu, LinuxResources};
use pintle_dbus::Value;

use super::{Property, property};
use crate::cgroup::{ResourceError, Version};
use crate::lists;

const INFINITY: u64 = u64::MAX;
/// The kernel's (sched-bwc.rst), in microseconds.
const PERIOD_DEFAULT: u64 = 100_000;
/// The version of systemd that knows CPUQuotaPeriodUSec.
const KNOWS_PERIOD: u32 = 242;
/// AllowedCPUs and AllowedMemoryNodes.
const KNOWS_CPUSET: u32 = 244;

/// The properties for these limits.
pub fn limits(resources: &LinuxResources, version: Version) -> Result<Vec<Property>, ResourceError> {
    match version {
        Version::V1 => v1::limits(resources),
        Version::V2 => v2::limits(resources),
    }
}

fn or_infinity(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

fn add(properties: &mut Vec<Property>, name: &str, value: Option<u64>) {
    properties.extend(value.map(|value| property(name, Value::U64(value))));
}

/// systemd takes no limit of 0: it is 1, as in the cgroup.
fn add_tasks(properties: &mut Vec<Property>, resources: &LinuxResources) {
    let limit = resources.pids().as_ref().map(|pids| pids.limit()).map(|limit| if limit == 0 { 1 } else { limit });
    add(properties, "TasksMax", limit.map(or_infinity));
}

fn add_bandwidth(properties: &mut Vec<Property>, cpu: &LinuxCpu) {
    add_quota(properties, cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
}

/// Quota and period in microseconds; 0 is unset, a negative quota none. systemd writes quotas down in hundredths of a
/// processor and would lose what is finer: rounded up, so that no cgroup below is allowed more than its parent.
fn add_quota(properties: &mut Vec<Property>, quota: i64, period: u64) {
    if quota == 0 && period == 0 {
        return;
    }
    if period != 0 {
        properties.push(Property { since: KNOWS_PERIOD, ..property("CPUQuotaPeriodUSec", Value::U64(period)) });
    }
    let per_second = match u64::try_from(quota) {
        Ok(quota @ 1..) => {
            let period = if period == 0 { PERIOD_DEFAULT } else { period };
            let exact = u128::from(quota) * 1_000_000 / u128::from(period);
            u64::try_from(exact).unwrap_or(INFINITY).checked_next_multiple_of(10_000).unwrap_or(INFINITY).max(10_000)
        }
        _ => INFINITY,
    };
    add(properties, "CPUQuotaPerSecUSec", Some(per_second));
}

/// On v1 systemd only remembers them: it has no cpusets there.
fn add_cpuset(properties: &mut Vec<Property>, cpu: &LinuxCpu) {
    add_list(properties, "AllowedCPUs", cpu.cpus().as_deref());
    add_list(properties, "AllowedMemoryNodes", cpu.mems().as_deref());
}

/// Bit n of byte n / 8 is cpu n. A list that cannot be read is the kernel's to refuse.
fn add_list(properties: &mut Vec<Property>, name: &str, list: Option<&str>) {
    let Some(Ok(words)) = list.filter(|list| !list.is_empty()).map(lists::mask) else { return };
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    properties.push(Property { since: KNOWS_CPUSET, ..property(name, Value::bytes(&bytes)) });
}
