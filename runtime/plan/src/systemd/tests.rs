#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use oci_spec::runtime::LinuxResources;
use serde_json::json;

use super::*;
use Version::{V1, V2};

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
                    Value::Struct(fields) => match &fields[..] {
                        [Value::Str(node), Value::Str(access)] => format!("{node}:{access}"),
                        other => panic!("{other:?}"),
                    },
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
        shown(&creation(&scope, 7, V2)),
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
        shown(&creation(&slice, 7, V2)),
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
        (json!({"pids": {"limit": 0}}), &["TasksMax=1"]),
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
        assert_eq!(shown(&limits(&resources(value.clone()), V2).unwrap()), expected, "{value}");
    }
    assert!(limits(&resources(json!({"memory": {"limit": 9, "swap": 5}})), V2).is_err());
}

#[test]
fn on_v1_limits_have_the_names_of_v1() {
    let table: [(serde_json::Value, &[&str]); 9] = [
        (json!({"memory": {"limit": 1024, "swap": 2048, "reservation": 512}}), &["MemoryLimit=1024"]),
        (json!({"memory": {"limit": -1}}), &["MemoryLimit=infinity"]),
        (json!({"cpu": {"shares": 512}}), &["CPUShares=512"]),
        // The files say what is wrong with it.
        (json!({"cpu": {"shares": 1}}), &[]),
        (json!({"cpu": {"shares": 512, "idle": 1}}), &[]),
        (
            json!({"cpu": {"quota": 20000, "period": 50000, "cpus": "0"}}),
            &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=400000", "AllowedCPUs=1"],
        ),
        (json!({"blockIO": {"weight": 200}}), &["BlockIOWeight=200"]),
        (json!({"blockIO": {"weight": 5}}), &[]),
        (json!({"pids": {"limit": 9}}), &["TasksMax=9"]),
    ];
    for (value, expected) in table {
        assert_eq!(shown(&limits(&resources(value.clone()), V1).unwrap()), expected, "{value}");
    }
    assert!(limits(&resources(json!({"unified": {"memory.high": "5"}})), V1).is_err());
    let scope = Unit::locate(None, "id", Manager::System).unwrap();
    assert!(shown(&creation(&scope, 7, V1)).contains(&"BlockIOAccounting=true".to_owned()));
    let old = limits(&resources(json!({"pids": {"limit": 5}})), V1).unwrap();
    let new =
        limits(&resources(json!({"memory": {"limit": 50}, "cpu": {"shares": 2}, "pids": {"limit": 6}})), V1).unwrap();
    assert_eq!(shown(&undo(&old, &new)), ["MemoryLimit=infinity", "CPUShares=infinity", "TasksMax=5"]);
}

#[test]
fn devices_are_told_as_a_list_of_the_allowed_ones() {
    let devices = |rules| devices(&serde_json::from_value::<Vec<_>>(rules).unwrap()).unwrap();
    let told = devices(json!([{"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "minor": 5, "access": "rw"},
        {"allow": true, "type": "c", "minor": 5, "access": "r"}]));
    assert_eq!(
        shown(&told.properties),
        [
            "DevicePolicy=strict",
            "DeviceAllow=block-*:m /dev/block/8:5:rw char-*:m /dev/char/1:3:rwm /dev/char/1:5:rwm /dev/char/1:7:rwm \
             /dev/char/1:8:rwm /dev/char/1:9:rwm /dev/char/5:0:rwm /dev/char/5:1:rwm /dev/char/5:2:rwm \
             /dev/char/10:200:rwm char-136:rwm",
        ]
    );
    assert_eq!(told.untold, ["allow c *:5 r"]);
    let all = devices(json!([{"allow": true, "access": "rwm"}]));
    assert_eq!((shown(&all.properties), all.untold), (vec!["DevicePolicy=auto".into(), "DeviceAllow=".into()], vec![]));
    let but = devices(json!([{"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rw"}]));
    assert_eq!(shown(&but.properties), ["DevicePolicy=strict", "DeviceAllow="]);
    assert_eq!(but.untold, ["deny c 1:1 rw"]);
}

#[test]
fn a_version_of_systemd_is_told_what_it_knows() {
    let properties = limits(&resources(json!({"cpu": {"quota": 5000, "period": 100_000, "cpus": "0"}})), V2).unwrap();
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
    let limits = |value| limits(&resources(value), V2).unwrap();
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
