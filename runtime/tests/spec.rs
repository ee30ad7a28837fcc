//! Sections of config.json against the real kernel: what was asked for is what the process finds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Bundle, require_root, texts, until};
use serde_json::{Value, json};

fn add_mount(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn maps(inside: u32, outside: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": 10}])
}

#[test]
fn the_ids_of_a_mount_are_mapped_by_its_own_maps() {
    if !require_root("maps the ids of a mount") {
        return;
    }
    let mut bundle = Bundle::new("stat -c %u:%g /plain/f /mapped/f /mapped/sub/f /deep/sub/f; touch /mapped/new");
    let data = bundle.path().join("data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    for file in ["f", "sub/f"] {
        std::fs::write(data.join(file), "").unwrap();
        std::os::unix::fs::chown(data.join(file), Some(1003), Some(1004)).unwrap();
    }
    add_mount(&mut bundle, json!({"destination": "/plain", "type": "bind", "source": data, "options": ["bind"]}));
    for (destination, option) in [("/mapped", "idmap"), ("/deep", "ridmap")] {
        let options = ["rbind", option];
        // The mount shows the file system's ids (the map's inner side) as the outer ones.
        add_mount(
            &mut bundle,
            json!({"destination": destination, "type": "bind", "source": data, "options": options,
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 1000, "hostID": 50, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 1000, "hostID": 70, "size": 10}]}),
        );
    }
    let (out, err, code) = bundle.run();
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "1003:1004\n53:74\n53:74\n53:74\n");
    let new = std::fs::metadata(data.join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new), 0);
}

#[test]
fn an_idmap_without_maps_takes_those_of_the_user_namespace() {
    if !require_root("maps the ids of a mount") {
        return;
    }
    let mut bundle = Bundle::new("stat -c %u:%g /mapped/f; echo x > /mapped/new");
    let data = bundle.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("f"), "").unwrap();
    std::os::unix::fs::chown(data.join("f"), Some(5), Some(6)).unwrap();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    std::fs::create_dir(bundle.rootfs().join("mapped")).unwrap();
    add_mount(&mut bundle, json!({"destination": "/mapped", "source": data, "options": ["bind", "idmap"]}));
    let (out, err, code) = bundle.run();
    assert_eq!((out.as_str(), code), ("5:6\n", 0), "{err}");
    let new = std::fs::metadata(data.join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&new), 0, "the container's root is the file system's root");
}

#[test]
fn a_file_system_that_cannot_map_ids_is_an_error_and_not_silence() {
    if !require_root("maps the ids of a mount") {
        return;
    }
    let mut bundle = Bundle::new("true");
    add_mount(
        &mut bundle,
        json!({"destination": "/mapped", "source": "/proc", "options": ["bind", "idmap"],
            "uidMappings": maps(0, 1000), "gidMappings": maps(0, 1000)}),
    );
    let (_, err, code) = bundle.run();
    assert_eq!(code, 1);
    assert!(err.contains("map the ids of the mount for \\\"/mapped\\\""), "{err}");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_path() {
    if !require_root("reads bundles") {
        return;
    }
    type Change = fn(&mut Value);
    let table: &[(Change, &str)] = &[
        (
            |c| c["mounts"][1]["options"] = json!(["idmap"]),
            "mounts[1]: id-mapped mounts are only supported for bind-mounts",
        ),
        (
            |c| c["mounts"][1] = json!({"destination": "/x", "source": "/tmp", "options": ["bind", "idmap"]}),
            "mounts[1].options: idmap needs uidMappings",
        ),
        (
            |c| c["mounts"][1] = json!({"destination": "/x", "source": "/tmp", "options": ["bind", "size=5"]}),
            "mounts[1].options: bind mounts cannot have any filesystem-specific options applied: size=5",
        ),
        (|c| c["mounts"][1]["uidMappings"] = maps(0, 1), "mounts[1].uidMappings: needs gidMappings as well"),
        (|c| c["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags"),
        (|c| c["linux"]["timeOffsets"] = json!({"wall": {"secs": 1}}), "linux.timeOffsets.wall"),
        (|c| c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "x"}), "linux.memoryPolicy.nodes"),
        (|c| c["process"]["execCPUAffinity"] = json!({"initial": "7-2"}), "process.execCPUAffinity.initial"),
        (|c| c["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 77}), "process.scheduler.nice"),
        (|c| c["linux"]["netDevices"] = json!({"a/b": {}}), "linux.netDevices[\\\"a/b\\\"]"),
        (
            |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet",
        ),
        (
            |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata",
        ),
    ];
    for (change, expected) in table {
        let mut bundle = Bundle::new("true");
        change(&mut bundle.config);
        let (_, err, code) = bundle.run();
        assert_eq!(code, 1, "{expected}");
        assert!(err.contains(expected), "{expected} in {err}");
        assert_eq!(err.lines().count(), 1, "one line: {err}");
    }
}

#[test]
fn labels_of_a_security_module_that_is_off_are_refused() {
    if !require_root("reads bundles") {
        return;
    }
    let apparmor = std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["apparmorProfile"] = json!("no-such-profile");
    let (_, err, code) = bundle.run();
    assert_eq!(code, 1, "a profile that does not exist must not be skipped: {err}");
    if !apparmor {
        assert!(err.contains("apparmor: config provided but apparmor not supported"), "{err}");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let mut bundle = Bundle::new("exec sleep 1000");
        for (section, field) in [("process", "selinuxLabel"), ("linux", "mountLabel")] {
            let mut bundle = Bundle::new("true");
            bundle.config[section][field] = json!("system_u:system_r:t:s0");
            let (_, err, code) = bundle.run();
            let expected = format!("{section}.{field}: selinux label is specified in config, but selinux is disabled");
            assert!(code == 1 && err.contains(&expected), "{err}");
        }
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        assert_eq!(bundle.create(), 0);
        let (_, err, code) = texts(&bundle.runc(&["exec", "--process-label", "a:b:c:s0", "c", "true"]));
        assert!(code == 255 && err.contains("process.selinuxLabel: selinux label is specified"), "{err}");
    }
}

#[test]
fn an_unknown_capability_is_left_out_with_a_warning_and_nothing_else_says_so() {
    if !require_root("runs a container") {
        return;
    }
    let mut bundle = Bundle::new("exec sleep 1000");
    let caps = json!(["CAP_KILL", "CAP_OF_THE_FUTURE", "cap_chown"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert_eq!(bundle.out(), "", "callers read stdout and stderr as one");
    let (out, err, _) = texts(&bundle.runc(&["state", "c"]));
    assert!(serde_json::from_str::<Value>(&out).is_ok() && err.is_empty(), "{out}{err}");
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    until("init has the known ones", || {
        std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("CapBnd:\t0000000000000021")
    });
    bundle.runc(&["delete", "--force", "c"]);
    bundle.config["process"]["args"] = json!(["true"]);
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_pintle-runc"));
    run.arg("--debug").arg("--root").arg(bundle.root()).args(["run", "--bundle", &path, "c"]);
    let (_, err, code) = texts(&run.output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("unknown capability \\\"CAP_OF_THE_FUTURE\\\""), "{err}");
}

#[test]
fn cpus_memory_nodes_scheduling_and_personality_reach_the_process() {
    if !require_root("runs a container") {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/self/personality; cat /proc/self/numa_maps | head -1; exec sleep 1000");
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    bundle.config["process"]["scheduler"] =
        json!({"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert_eq!(bundle.runc(&["start", "c"]).status.code(), Some(0));
    until("the program says so", || bundle.out().lines().count() == 2);
    assert!(bundle.out().starts_with("00000008\n"), "{}", bundle.out());
    assert!(bundle.out().contains("bind:0"), "{}", bundle.out());
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let field = |n: usize| stat.rsplit(')').next().unwrap().split_whitespace().nth(n - 3).unwrap().to_owned();
    assert_eq!((field(19), field(41)), ("5".to_owned(), "3".to_owned()), "nice and policy: {stat}");
    let allowed = |status: &str| status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t").map(str::to_owned));
    let everywhere = allowed(&std::fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(
        allowed(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap()),
        everywhere,
        "init is not bound"
    );
    let (out, err, _) = texts(&bundle.runc(&["exec", "c", "cat", "/proc/self/status"]));
    assert_eq!(allowed(&out).as_deref(), Some("0"), "{err}");
    let (out, err, _) = texts(&bundle.runc(&["exec", "c", "cat", "/proc/self/personality"]));
    assert_eq!(out, "00000008\n", "{err}");
}
