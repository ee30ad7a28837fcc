//! Limits, events, freezing and updates against the real kernel: v1 where this machine has it, and the same tests once
//! more on pure cgroup v2 in a VM.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Bundle, Guest, require_root, texts, until};
use serde_json::{Value, json};

/// A file of the container's cgroup: controller and name on v1, name on v2.
fn read(bundle: &Bundle, v1: (&str, &str), v2: &str) -> String {
    let below = format!("{}/c", bundle.cgroup.trim_start_matches('/'));
    let top = Path::new("/sys/fs/cgroup");
    let path =
        if Guest::PureV2.is_this_machine() { top.join(below).join(v2) } else { top.join(v1.0).join(below).join(v1.1) };
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn started(script: &str, resources: Value) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.config["linux"]["resources"] = resources;
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert_eq!(texts(&bundle.runc(&["start", "c"])).2, 0);
    bundle
}

fn update(bundle: &Bundle, flags: &[&str]) -> (String, i32) {
    let (_, err, code) = texts(&bundle.runc(&[&["update"], flags, &["c"]].concat()));
    (err, code)
}

#[test]
fn limits_are_what_the_kernel_says() {
    if !require_root("limits a container") {
        return;
    }
    let bundle = started(
        "exec sleep 1000",
        json!({
            "cpu": {"shares": 512, "quota": 20_000, "period": 50_000, "burst": 1000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 33_554_432, "swap": 50_331_648, "reservation": 16_777_216},
            "pids": {"limit": 20}
        }),
    );
    let v2 = Guest::PureV2.is_this_machine();
    let on = |v1: &str, unified: &str| if v2 { unified.to_owned() } else { v1.to_owned() };
    assert_eq!(read(&bundle, ("cpu", "cpu.shares"), "cpu.weight"), on("512", "59"));
    assert_eq!(read(&bundle, ("cpu", "cpu.cfs_quota_us"), "cpu.max"), on("20000", "20000 50000"));
    assert_eq!(read(&bundle, ("cpu", "cpu.cfs_burst_us"), "cpu.max.burst"), "1000");
    assert_eq!(read(&bundle, ("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    assert_eq!(read(&bundle, ("memory", "memory.limit_in_bytes"), "memory.max"), "33554432");
    assert_eq!(read(&bundle, ("memory", "memory.soft_limit_in_bytes"), "memory.low"), "16777216");
    assert_eq!(read(&bundle, ("pids", "pids.max"), "pids.max"), "20");
    assert_eq!(update(&bundle, &["--pids-limit", "0"]), (String::new(), 0));
    assert_eq!(read(&bundle, ("pids", "pids.max"), "pids.max"), "1", "0 is a limit of one");
    if v2 {
        assert_eq!(read(&bundle, ("", ""), "memory.swap.max"), "16777216", "memory plus swap, less the memory");
    }
}

#[test]
fn an_update_reaches_the_kernel_and_is_remembered() {
    if !require_root("updates a container") {
        return;
    }
    let bundle = started(
        "exec sleep 1000",
        json!({"cpu": {"quota": 20_000, "period": 50_000}, "memory": {"limit": 33_554_432, "swap": 33_554_432}}),
    );
    let both = ["--memory", "64m", "--memory-swap", "128m", "--cpu-quota", "30000", "--pids-limit", "70"];
    assert_eq!(update(&bundle, &both), (String::new(), 0), "both grow: memory+swap must be raised first on v1");
    assert_eq!(read(&bundle, ("memory", "memory.limit_in_bytes"), "memory.max"), "67108864");
    assert_eq!(read(&bundle, ("pids", "pids.max"), "pids.max"), "70");
    let max = read(&bundle, ("cpu", "cpu.cfs_period_us"), "cpu.max");
    assert!(max.ends_with("50000"), "the period stays: {max}");
    let shrink = ["--memory", "32m", "--memory-swap", "32m"];
    assert_eq!(update(&bundle, &shrink), (String::new(), 0), "both shrink: memory must be lowered first on v1");
    assert_eq!(update(&bundle, &["--memory", "-1"]), (String::new(), 0));
    if Guest::PureV2.is_this_machine() {
        assert_eq!(read(&bundle, ("", ""), "memory.max"), "max");
        assert_eq!(read(&bundle, ("", ""), "memory.swap.max"), "max");
    }
    let state = std::fs::read_to_string(bundle.root().join("c/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["config"]["linux"]["resources"]["pids"]["limit"], 70);
}

#[test]
fn a_failed_update_changes_nothing() {
    if !require_root("updates a container") {
        return;
    }
    let bundle = started("exec sleep 1000", json!({"pids": {"limit": 50}, "memory": {"limit": 67_108_864}}));
    let file = bundle.path().join("new.json");
    let new = json!({
        "cpu": {"shares": 2048}, "memory": {"limit": 134_217_728}, "pids": {"limit": 60},
        "hugepageLimits": [{"pageSize": "3MB", "limit": 0}]
    });
    std::fs::write(&file, new.to_string()).unwrap();
    let (err, code) = update(&bundle, &["-r", &file.to_string_lossy()]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("linux.resources.hugepageLimits[0]: cannot write"), "{err}");
    let state = std::fs::read_to_string(bundle.root().join("c/state.json")).unwrap();
    assert!(!state.contains("134217728"), "{state}");
    assert_eq!(read(&bundle, ("pids", "pids.max"), "pids.max"), "50");
    assert_eq!(read(&bundle, ("memory", "memory.limit_in_bytes"), "memory.max"), "67108864");
    assert_eq!(
        read(&bundle, ("cpu", "cpu.shares"), "cpu.weight"),
        if Guest::PureV2.is_this_machine() { "100" } else { "1024" }
    );
}

#[test]
fn what_this_kernel_cannot_limit_is_an_error_with_its_place() {
    if !require_root("limits a container") {
        return;
    }
    let (resources, place) = if Guest::PureV2.is_this_machine() {
        (json!({"network": {"classID": 1}}), "linux.resources.network: ")
    } else {
        (json!({"unified": {"memory.high": "1"}}), "linux.resources.unified: this host uses cgroup v1")
    };
    let both = [
        (resources, place),
        (json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}), "linux.resources.hugepageLimits[0]: "),
    ];
    for (resources, place) in both {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["resources"] = resources;
        assert_eq!(bundle.create(), 1);
        assert!(bundle.out().contains(place), "{}", bundle.out());
        assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()), "no cgroup is left");
    }
}

#[test]
fn statistics_are_one_line_of_runcs_json() {
    if !require_root("reads statistics") {
        return;
    }
    let bundle = started("exec sleep 1000", json!({"pids": {"limit": 9}, "memory": {"limit": 33_554_432}}));
    let (out, err, code) = texts(&bundle.runc(&["events", "--stats", "c"]));
    assert_eq!(code, 0, "{err}");
    let event: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("c")));
    assert_eq!(event["data"]["pids"], json!({"current": 1, "limit": 9}));
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 33_554_432);
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{event}");
    bundle.runc(&["kill", "c", "KILL"]);
    until("it has stopped", || bundle.status() == "stopped");
    let late = texts(&bundle.runc(&["events", "c"]));
    assert!(late.1.contains("container with id c is not running"), "{late:?}");
}

#[test]
fn a_kill_for_memory_is_told_before_the_events_end() {
    if !require_root("starves a container") {
        return;
    }
    // The child is the killer's choice; init lives to say so. /dev/zero into a variable is memory and nothing else.
    let script = "while [ ! -e /go ]; do sleep 0.05; done; head -c 200000000 /dev/zero | tail > /dev/null; exit 0";
    let mut bundle = Bundle::new(script);
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    bundle.runc(&["start", "c"]);
    let mut events = bundle.command(&["events", "--interval", "50ms", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    // The first statistics prove that it listens.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("\"type\":\"stats\""));
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert!(rest.iter().any(|line| line == r#"{"id":"c","type":"oom"}"#), "{rest:#?}");
    assert!(events.wait().unwrap().success());
}

#[test]
fn an_init_that_memory_kills_before_it_is_ready_is_told_so() {
    if !require_root("starves a container") {
        return;
    }
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 4096, "swap": 4096}});
    assert_eq!(bundle.create(), 1);
    assert!(bundle.out().contains("container init was OOM-killed (memory limit too low?)"), "{}", bundle.out());
}

#[test]
fn relative_and_odd_cgroup_paths_stay_within_the_hierarchy() {
    if !require_root("makes cgroups") {
        return;
    }
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/..{}/x/../c", bundle.cgroup));
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.cgroup_dirs().iter().any(|dir| dir.join("c").exists()), "{:?}", bundle.cgroup_dirs());
    assert_eq!(texts(&bundle.runc(&["delete", "--force", "c"])).2, 0);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("relative{}", bundle.cgroup.trim_start_matches('/')));
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    let state = std::fs::read_to_string(bundle.root().join("c/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let paths: Vec<PathBuf> =
        serde_json::from_value::<std::collections::BTreeMap<String, PathBuf>>(state["cgroup_paths"].clone())
            .unwrap()
            .into_values()
            .collect();
    assert!(paths.iter().all(|path| path.exists() && path.to_string_lossy().contains("/relative")), "{paths:?}");
    assert_eq!(texts(&bundle.runc(&["delete", "--force", "c"])).2, 0);
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
}

#[test]
fn the_same_holds_on_cgroup_v2_in_a_vm() {
    common::again_in_a_vm(Guest::PureV2, &[]);
}

#[test]
fn without_systemd_its_driver_says_what_is_missing_and_leaves_nothing() {
    if !require_root("makes a mount namespace") {
        return;
    }
    let bundle = Bundle::new("true");
    bundle.write();
    let create = bundle.command(&["--systemd-cgroup", "create", "--bundle", &bundle.path().to_string_lossy(), "c"]);
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\""]);
    let output = hidden.arg(create.get_program()).args(create.get_args()).output().unwrap();
    let (_, stderr, code) = texts(&output);
    assert_eq!(code, 1);
    assert!(stderr.contains("systemd does not run on this host (there is no /run/systemd/system)"), "{stderr}");
    assert_eq!(bundle.status(), "none");
}
