#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use oci_spec::runtime::LinuxResources;
use serde_json::json;

use super::*;

fn resources(value: serde_json::Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

/// `Name=value`, as systemctl would show it.
fn shown(properties: &[Property]) -> Vec<String> {
    let show = |property: &Property| {
        let value = match &property.value {
            Value::U64(u64::MAX) => "infinity".to_owned(),
            Value::U64(number) => number.to_string(),
            Value::Str(text) => text.clone(),
            Value::Bool(yes) => yes.to_string(),
            Value::Array(_, elements) => elements
                .iter()
                .map(|element| match element {
                    Value::Byte(number) => number.to_string(),
                    Value::U32(number) => number.to_string(),
                    Value::Str(text) => text.clone(),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
                .join(" "),
            other => panic!("{other:?}"),
        };
        format!("{}={value}", property.name)
    };
    properties.iter().map(show).collect()
}

#[test]
fn a_scope_is_made_around_its_holder_and_a_slice_without_one() {
    let scope = Unit::locate(Some("a-b.slice:p:n"), "id", Manager::System).unwrap();
    assert_eq!(
        shown(&creation(&scope, 7)),
        [
            "Description=pintle container n",
            "Slice=a-b.slice",
            "Delegate=true",
            "PIDs=7",
            "MemoryAccounting=true",
            "CPUAccounting=true",
            "IOAccounting=true",
            "TasksAccounting=true",
            "CollectMode=inactive-or-failed",
            "DefaultDependencies=false",
        ]
    );
    let slice = Unit::locate(Some("a.slice::a-b.slice"), "id", Manager::System).unwrap();
    assert_eq!(
        shown(&creation(&slice, 7)),
        [
            "Description=pintle container a-b.slice",
            "Wants=a.slice",
            "MemoryAccounting=true",
            "CPUAccounting=true",
            "IOAccounting=true",
            "TasksAccounting=true",
            "CollectMode=inactive-or-failed",
            "DefaultDependencies=false",
        ]
    );
}

#[test]
fn limits_become_properties() {
    let table: [(serde_json::Value, &[&str]); 20] = [
        (json!({}), &[]),
        (json!({"memory": {"limit": 1024}}), &["MemoryMax=1024"]),
        (json!({"memory": {"limit": -1}}), &["MemoryMax=infinity", "MemorySwapMax=infinity"]),
        (json!({"memory": {"limit": 1024, "swap": 3072}}), &["MemoryMax=1024", "MemorySwapMax=2048"]),
        (json!({"memory": {"limit": 1024, "swap": 1024}}), &["MemoryMax=1024", "MemorySwapMax=0"]),
        (json!({"memory": {"reservation": 512}}), &["MemoryLow=512"]),
        (json!({"cpu": {"shares": 1024}}), &["CPUWeight=100"]),
        (json!({"cpu": {"shares": 1024, "idle": 1}}), &["CPUWeight=0"]),
        (
            json!({"cpu": {"quota": 20000, "period": 100000}}),
            &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=200000"],
        ),
        (json!({"cpu": {"quota": 5000}}), &["CPUQuotaPerSecUSec=50000"]),
        // An odd fraction is rounded up to a hundredth of a processor.
        (json!({"cpu": {"quota": 1001, "period": 50000}}), &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=30000"]),
        (json!({"cpu": {"quota": -1}}), &["CPUQuotaPerSecUSec=infinity"]),
        (json!({"cpu": {"period": 50000}}), &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=infinity"]),
        (json!({"cpu": {"cpus": "0-2,9", "mems": "0"}}), &["AllowedCPUs=7 2", "AllowedMemoryNodes=1"]),
        (json!({"pids": {"limit": 9}}), &["TasksMax=9"]),
        (json!({"pids": {"limit": -1}}), &["TasksMax=infinity"]),
        (json!({"pids": {"limit": 0}}), &[]),
        (
            json!({"unified": {"memory.high": "5", "memory.max": " max ", "memory.min": "0", "memory.swap.max": "7"}}),
            &["MemoryHigh=5", "MemoryMax=infinity", "MemoryMin=0", "MemorySwapMax=7"],
        ),
        (
            json!({"unified": {"cpu.max": "5000 50000", "cpu.weight": "7", "cpuset.cpus": "1", "pids.max": "3"}}),
            &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=100000", "CPUWeight=7", "AllowedCPUs=2", "TasksMax=3"],
        ),
        // Left to the files, and to their errors.
        (json!({"unified": {"memory.oom.group": "1", "cpu.max": "a b", "pids.max": "x", "cpu.idle": "0"}}), &[]),
    ];
    for (value, expected) in table {
        assert_eq!(shown(&limits(&resources(value.clone())).unwrap()), expected, "{value}");
    }
    assert!(limits(&resources(json!({"memory": {"limit": 9, "swap": 5}}))).is_err());
}

#[test]
fn a_version_of_systemd_is_told_what_it_knows() {
    let properties = limits(&resources(json!({"cpu": {"quota": 5000, "period": 100_000, "cpus": "0"}}))).unwrap();
    assert_eq!(version_needed(&properties), Some(244));
    assert_eq!(version_needed(&properties[1..2]), None);
    let told = |version: u32| match encode(&properties, version) {
        Value::Array(_, pairs) => pairs.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((told(0), told(242), told(244)), (1, 2, 3));
    for (text, number) in
        [("252.39-1~deb12u1", Some(252)), ("v245", Some(245)), ("257~rc1", Some(257)), ("", None), ("x", None)]
    {
        assert_eq!(version(text), number, "{text}");
    }
}

#[test]
fn a_change_is_taken_back_to_the_old_values_or_to_none() {
    let limits = |value| limits(&resources(value)).unwrap();
    let old = limits(json!({"memory": {"limit": 100}, "pids": {"limit": 5}}));
    let new = limits(json!({"memory": {"limit": 50, "reservation": 7}, "cpu": {"shares": 2, "cpus": "0"}}));
    let expected = ["MemoryMax=100", "MemoryLow=0", "CPUWeight=infinity", "AllowedCPUs="];
    assert_eq!(shown(&undo(&old, &new)), expected);
}

#[test]
fn annotations_are_properties_in_gvariants_text() {
    let read = |pairs: &[(&str, &str)]| {
        let key =
            |name: &str| if name.contains('.') { name.to_owned() } else { format!("org.systemd.property.{name}") };
        from_annotations(&pairs.iter().map(|(name, text)| (key(name), (*text).to_owned())).collect::<HashMap<_, _>>())
    };
    let good = [
        ("CollectMode", "'inactive-or-failed'"),
        ("TimeoutStopSec", "double 1.5"),
        ("TimeoutStopUSec", "uint64 1234567"),
        ("After", "['a.service']"),
        ("io.kubernetes.pod", "not ours"),
    ];
    let expected =
        ["After=a.service", "CollectMode=inactive-or-failed", "TimeoutStopUSec=1500000", "TimeoutStopUSec=1234567"];
    assert_eq!(shown(&read(&good).unwrap()), expected);
    assert_eq!(shown(&read(&[("RuntimeMaxSec", "3")]).unwrap()), ["RuntimeMaxUSec=3000000"]);
    for bad in
        [("ab", "1"), ("A-b-c", "1"), ("Some", "mean"), ("StopSec", "'x'"), ("StopSec", "-1"), ("StopSec", "nan")]
    {
        let error = read(&[bad]).unwrap_err().to_string();
        assert!(error.starts_with("annotations[\"org.systemd.property."), "{error}");
    }
}
