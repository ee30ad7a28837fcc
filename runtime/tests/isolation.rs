//! What a container must not see or do, tried from the inside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Bundle, require_root, texts, until};
use serde_json::json;

#[test]
fn identity_and_capabilities_are_those_of_the_configuration() {
    if !require_root("runs a container") {
        return;
    }
    let mut bundle = Bundle::new("id; grep -E 'Cap|NoNewPrivs|Groups' /proc/self/status; echo $HOME");
    std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin/grep")).unwrap();
    std::fs::write(bundle.rootfs().join("etc/passwd"), "web:x:33:44::/srv/web:/bin/sh\n").unwrap();
    bundle.config["process"]["user"] = json!({"uid": 33, "gid": 44, "additionalGids": [5, 6]});
    let (out, err, code) = bundle.run();
    assert_eq!(code, 0, "{err}");
    let text = out.replace('\t', " ");
    for expected in [
        "uid=33",
        "gid=44",
        "Groups: 5 6",
        "NoNewPrivs: 1",
        "CapInh: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000020000421",
        "CapAmb: 0000000000000000",
        "/srv/web",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn exec_inherits_no_capabilities() {
    if !require_root("runs a container") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    bundle.create();
    bundle.runc(&["start", "c"]);
    let (out, _, _) = texts(&bundle.runc(&["exec", "--cap", "CAP_SYS_CHROOT", "c", "cat", "/proc/self/status"]));
    let text = out.replace('\t', " ");
    assert!(text.contains("CapInh: 0000000000000000"), "CVE-2022-29162: {text}");
    assert!(text.contains("CapEff: 0000000020040421"), "{text}");
}

#[test]
fn masked_and_read_only_paths_hold() {
    if !require_root("runs a container") {
        return;
    }
    let script = "cat /proc/keys | head -c 10; ls /sys/firmware; echo 1 > /proc/sys/kernel/hostname; echo rc=$?; echo x > /sys/firmware/x; echo rc=$?";
    let (out, err, _) = Bundle::new(script).run();
    assert_eq!(out, "rc=1\nrc=1\n", "{err}");
    assert!(err.contains("Read-only file system"), "{err}");
}

#[test]
fn an_image_whose_null_is_not_null_cannot_unmask() {
    if !require_root("runs a container") {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/keys");
    // /dev from the image, where null is a link to something the attacker wants mounted (CVE-2025-31133).
    let dev = bundle.path().join("evil-dev");
    std::fs::create_dir(&dev).unwrap();
    std::os::unix::fs::symlink("/proc/sysrq-trigger", dev.join("null")).unwrap();
    bundle.config["mounts"][1] =
        json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
    bundle.config["mounts"].as_array_mut().unwrap().remove(2);
    let (out, err, code) = bundle.run();
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
    assert!(err.contains("mask \\\"/proc/keys\\\"") || err.contains("cannot mask"), "{err}");
}

#[test]
fn no_descriptor_of_the_runtime_leaks_and_no_cwd_leads_out() {
    if !require_root("runs a container") {
        return;
    }
    let (out, err, _) = Bundle::new("ls /proc/self/fd").run();
    // ls itself opens the directory it lists.
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{err}");
    for number in 3..12 {
        let mut bundle = Bundle::new("ls ..");
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let (out, err, code) = bundle.run();
        assert_ne!(code, 0, "CVE-2024-21626 through descriptor {number}: {out} {err}");
    }
}

#[test]
fn the_runtime_cannot_be_overwritten_from_inside() {
    if !require_root("runs a container") {
        return;
    }
    let before = std::fs::read(env!("CARGO_BIN_EXE_pintle-runc")).unwrap();
    // The classic of CVE-2019-5736: the entrypoint is the runtime itself, which then is open for writing.
    let mut bundle = Bundle::new("");
    bundle.config["process"]["capabilities"] = json!({});
    std::fs::write(bundle.rootfs().join("evil"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(bundle.rootfs().join("evil"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    bundle.config["process"]["args"] = json!(["/evil"]);
    bundle.run();
    // And from a process that waits for an exec to come by.
    let watch = "while true; do for p in /proc/[0-9]*; do if [ $p != /proc/1 ]; then (echo evil > $p/exe) 2>/dev/null && echo WROTE; fi; done; done";
    let bundle = Bundle::new(watch);
    bundle.create();
    bundle.runc(&["start", "c"]);
    for _ in 0..20 {
        bundle.runc(&["exec", "c", "true"]);
    }
    assert!(!bundle.out().contains("WROTE"), "{}", bundle.out());
    assert_eq!(std::fs::read(env!("CARGO_BIN_EXE_pintle-runc")).unwrap(), before);
}

#[test]
fn links_in_the_image_cannot_send_mounts_outside() {
    if !require_root("runs a container") {
        return;
    }
    let victim = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("secret"), "x").unwrap();
    let mut bundle = Bundle::new("ls /inside /data");
    std::os::unix::fs::symlink(victim.path(), bundle.rootfs().join("data")).unwrap();
    // The same path exists inside the image: that is where the link must lead.
    std::fs::create_dir_all(bundle.rootfs().join(victim.path().strip_prefix("/").unwrap())).unwrap();
    std::fs::create_dir(bundle.rootfs().join("inside")).unwrap();
    std::os::unix::fs::symlink("../../../../../../inside", bundle.rootfs().join("tmp/up")).unwrap();
    for destination in ["/data/made", "/tmp/up/made"] {
        let mount =
            json!({"destination": destination, "type": "bind", "source": source.path(), "options": ["rbind", "ro"]});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    }
    let (out, err, code) = bundle.run();
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 0, "nothing was made outside the root");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("made"), "{out}");
}

#[test]
fn a_symlinked_proc_is_refused() {
    if !require_root("runs a container") {
        return;
    }
    let bundle = Bundle::new("true");
    std::fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    std::os::unix::fs::symlink("tmp", bundle.rootfs().join("proc")).unwrap();
    let (_, err, code) = bundle.run();
    assert_eq!(code, 1);
    assert!(err.contains("must be a real directory"), "CVE-2019-19921: {err}");
}

#[test]
fn seccomp_answers_as_the_profile_says() {
    if !require_root("runs a container") {
        return;
    }
    let mut bundle = Bundle::new("mkdir /tmp/a; hostname other; true");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
    });
    let (_, err, code) = bundle.run();
    assert_eq!(code, 0);
    assert!(err.contains("No space left on device"), "errno 28: {err}");
}

#[test]
fn a_user_namespace_maps_root_to_somebody_else() {
    if !require_root("makes a user namespace") {
        return;
    }
    let mut bundle = Bundle::new("id -u; cat /proc/self/uid_map; touch /tmp/mine; echo done");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let tmp = bundle.rootfs().join("tmp");
    std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for dir in ["", "bin", "dev", "proc", "sys"] {
        std::os::unix::fs::chown(bundle.rootfs().join(dir), Some(200_000), Some(200_000)).unwrap();
    }
    let (out, err, code) = bundle.run();
    assert_eq!(code, 0, "{err}");
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "65536", "done"]);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(tmp.join("mine")).unwrap());
    assert_eq!(owner, 200_000);
}

#[test]
fn namespaces_can_be_joined_by_path() {
    if !require_root("joins namespaces") {
        return;
    }
    let holder = Bundle::new("exec sleep 1000");
    holder.create();
    holder.runc(&["start", "c"]);
    let pid = std::fs::read_to_string(holder.path().join("pid")).unwrap();
    let mut guest = Bundle::new("readlink /proc/self/ns/net; hostname; ps | grep -c 'sleep 1000'");
    std::os::unix::fs::symlink("busybox", guest.rootfs().join("bin/grep")).unwrap();
    let join = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
    guest.config["linux"]["namespaces"] =
        json!([{"type": "mount"}, join("network", "net"), join("uts", "uts"), join("pid", "pid")]);
    guest.config["hostname"] = json!("");
    let (out, err, code) = guest.run();
    assert_eq!(code, 0, "{err}");
    let net = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], net.to_string_lossy());
    assert_eq!(lines[1], "inside");
    until("guest is gone", || guest.status() == "none");
}
