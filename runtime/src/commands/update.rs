//! `update`.

use oci_spec::runtime::LinuxResources;
use pintle_runtime_plan::rdt::Change;
use serde_json::{Map, Value, json};

use super::args::{Flag, Order, Parsed, value};
use super::{Command, Invocation};
use crate::container;
use crate::error::{Doing as _, Error, Result};

const FLAGS: &[Flag] = &[
    value("resources", "path to the file containing the resources to update or '-' to read from the standard input")
        .or("r"),
    value("blkio-weight", "block IO weight, 10 to 1000"),
    value("cpu-period", "CPU CFS period, in microseconds"),
    value("cpu-quota", "CPU CFS hardcap limit, in microseconds"),
    value("cpu-burst", "CPU CFS hardcap burst limit, in microseconds"),
    value("cpu-share", "CPU shares (relative weight vs. other containers)"),
    value("cpu-rt-period", "CPU realtime period, in microseconds"),
    value("cpu-rt-runtime", "CPU realtime hardcap limit, in microseconds"),
    value("cpu-idle", "set cgroup SCHED_IDLE or not: 0 or 1"),
    value("cpuset-cpus", "CPU(s) to use"),
    value("cpuset-mems", "memory node(s) to use"),
    value("kernel-memory", "(obsolete; ignored)"),
    value("kernel-memory-tcp", "(obsolete; ignored)"),
    value("memory", "memory limit, in bytes"),
    value("memory-reservation", "memory reservation or soft limit, in bytes"),
    value("memory-swap", "total memory usage (memory + swap), in bytes; -1 for unlimited"),
    value("pids-limit", "maximum number of pids allowed in the container"),
    value("l3-cache-schema", "the schema of Intel RDT/CAT L3 cache: L3:<id>=<mask>;…"),
    value("mem-bw-schema", "the schema of Intel RDT/MBA memory bandwidth: MB:<id>=<share>;…"),
];

/// `update`.
pub const COMMAND: Command = Command {
    name: "update",
    arguments: "<container-id>",
    about: "update container resource constraints",
    flags: FLAGS,
    order: Order::Mixed,
    exposed: false,
    run,
};

fn run(invocation: &Invocation) -> Result<i32> {
    let id = invocation.id("update")?;
    let mut resources = match invocation.own.get("resources") {
        Some(path) => read(path)?,
        None => from_flags(&invocation.own)?,
    };
    // Rules of devices are decided at creation; updating limits must not reset them.
    resources.set_devices(None);
    let schema = |flag: &str| invocation.own.get(flag).filter(|schema| !schema.is_empty());
    let schemata = Change { l3: schema("l3-cache-schema"), mb: schema("mem-bw-schema") };
    container::update(&invocation.env()?, id, &resources, schemata).map(|()| 0)
}

fn read(path: &str) -> Result<LinuxResources> {
    let text = if path == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.doing(|| format!("read resources from {path}"))?;
    serde_json::from_str(&text).map_err(|error| Error::Usage(format!("resources: {error}")))
}

fn from_flags(own: &Parsed) -> Result<LinuxResources> {
    let (mut cpu, mut memory) = (Map::new(), Map::new());
    let cpu_numbers = [
        ("cpu-period", "period"),
        ("cpu-quota", "quota"),
        ("cpu-burst", "burst"),
        ("cpu-share", "shares"),
        ("cpu-rt-period", "realtimePeriod"),
        ("cpu-rt-runtime", "realtimeRuntime"),
        ("cpu-idle", "idle"),
    ];
    for (flag, field) in cpu_numbers {
        put(&mut cpu, field, own.number::<i64>(flag)?.map(|n| json!(n)));
    }
    put(&mut cpu, "cpus", own.get("cpuset-cpus").map(|cpus| json!(cpus)));
    put(&mut cpu, "mems", own.get("cpuset-mems").map(|mems| json!(mems)));
    for (flag, field) in [("memory", "limit"), ("memory-reservation", "reservation"), ("memory-swap", "swap")] {
        put(&mut memory, field, own.get(flag).map(bytes).transpose()?.map(|n| json!(n)));
    }
    let mut all = Map::new();
    put(&mut all, "cpu", (!cpu.is_empty()).then_some(Value::Object(cpu)));
    put(&mut all, "memory", (!memory.is_empty()).then_some(Value::Object(memory)));
    put(&mut all, "pids", own.number::<i64>("pids-limit")?.map(|limit| json!({"limit": limit})));
    put(&mut all, "blockIO", own.number::<u16>("blkio-weight")?.map(|weight| json!({"weight": weight})));
    serde_json::from_value(Value::Object(all)).map_err(|error| Error::Usage(error.to_string()))
}

fn put(map: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(field.to_owned(), value);
    }
}

/// `-1`, `512m`, `1g`, plain bytes.
fn bytes(text: &str) -> Result<i64> {
    let refused = || Error::Usage(format!("invalid size: {text:?}"));
    let lower = text.trim().to_ascii_lowercase();
    let bare = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match bare.chars().last() {
        Some('k') => (&bare[..bare.len() - 1], 10),
        Some('m') => (&bare[..bare.len() - 1], 20),
        Some('g') => (&bare[..bare.len() - 1], 30),
        Some('t') => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    let number: i64 = digits.parse().map_err(|_not_a_number| refused())?;
    if number < 0 { Ok(-1) } else { number.checked_mul(1 << shift).ok_or_else(refused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        for (text, expected) in
            [("-1", Some(-1)), ("512m", Some(512 << 20)), ("1G", Some(1 << 30)), ("7", Some(7)), ("x", None)]
        {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
