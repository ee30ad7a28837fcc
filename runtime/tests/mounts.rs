//! Mounts and devices against the real kernel, the awkward ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::{MetadataExt as _, symlink};

use common::{Bundle, require_root, texts, until};
use serde_json::{Value, json};

fn add_mount(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn a_dangling_symlink_in_the_image_is_followed_inside_the_root() {
    if !require_root("mounts") {
        return;
    }
    let mut bundle = Bundle::new("cat /link/f /var/deep/file; cat /made/here/f; readlink /link");
    symlink("/made/here", bundle.rootfs().join("link")).unwrap();
    std::fs::create_dir(bundle.rootfs().join("var")).unwrap();
    symlink("../../../../../elsewhere", bundle.rootfs().join("var/deep")).unwrap();
    let data = bundle.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("f"), "f\n").unwrap();
    add_mount(&mut bundle, json!({"destination": "/link", "source": data, "options": ["bind"]}));
    add_mount(&mut bundle, json!({"destination": "/var/deep/file", "source": data.join("f"), "options": ["bind"]}));
    let (out, err, code) = bundle.run();
    assert_eq!((out.as_str(), code), ("f\nf\nf\n/made/here\n", 0), "{err}");
    assert!(bundle.rootfs().join("elsewhere/file").exists(), "made inside");
    assert!(!bundle.path().join("elsewhere").exists() && !std::path::Path::new("/elsewhere").exists());
}

#[test]
fn nothing_but_a_few_files_beneath_proc_can_be_covered() {
    if !require_root("mounts") {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/uptime");
    let file = bundle.path().join("file");
    std::fs::write(&file, "covered\n").unwrap();
    let cover = |to: &str| json!({"destination": to, "source": file, "options": ["bind"]});
    add_mount(&mut bundle, cover("/proc/uptime"));
    assert_eq!(bundle.run().0, "covered\n");
    symlink("/proc/sys/kernel", bundle.rootfs().join("innocent")).unwrap();
    for to in
        ["/proc/self/attr/exec", "/proc/sys/kernel/core_pattern", "/innocent/core_pattern", "/proc/../proc/version"]
    {
        *bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap() = cover(to);
        let (_, err, code) = bundle.run();
        assert!(code == 1 && err.contains("it is inside /proc"), "{to}: {err}");
    }
    let dir = bundle.path().join("dir");
    std::fs::create_dir(&dir).unwrap();
    *bundle.config["mounts"].as_array_mut().unwrap().last_mut().unwrap() =
        json!({"destination": "/proc", "source": dir, "options": ["bind"]});
    let (_, err, code) = bundle.run();
    assert!(code == 1 && err.contains("it is inside /proc"), "/proc takes only a procfs: {err}");
}

#[test]
fn file_system_options_may_be_longer_than_fsconfig_takes() {
    if !require_root("mounts an overlay") {
        return;
    }
    let mut bundle = Bundle::new("cat /over/last; mount | grep -c ' /over type overlay (ro,nosuid'");
    symlink("busybox", bundle.rootfs().join("bin/grep")).unwrap();
    let layers: Vec<String> = (0..12)
        .map(|n| {
            let layer = bundle.path().join(format!("a-directory-with-a-name-of-some-length-for-layer-{n}"));
            std::fs::create_dir(&layer).unwrap();
            std::fs::write(layer.join("last"), format!("{n}\n")).unwrap();
            layer.to_string_lossy().into_owned()
        })
        .collect();
    let lower = format!("lowerdir={}", layers.join(":"));
    assert!(lower.len() > 512);
    add_mount(
        &mut bundle,
        json!({"destination": "/over", "type": "overlay", "source": "overlay", "options": ["ro", "nosuid", lower]}),
    );
    let (out, err, code) = bundle.run();
    assert_eq!((out.as_str(), code), ("0\n1\n", 0), "{err}");
}

#[test]
fn a_copied_up_tmpfs_has_modes_owners_links_and_extended_attributes() {
    if !require_root("mounts") {
        return;
    }
    let mut bundle = Bundle::new("stat -c '%a %u:%g' /up/sub /up/sub/f; readlink /up/l; exec sleep 1000");
    let sub = bundle.rootfs().join("up/sub");
    std::fs::create_dir_all(&sub).unwrap();
    std::fs::write(sub.join("f"), "old").unwrap();
    symlink("sub/f", bundle.rootfs().join("up/l")).unwrap();
    std::fs::set_permissions(&sub, std::os::unix::fs::PermissionsExt::from_mode(0o1750)).unwrap();
    std::os::unix::fs::chown(sub.join("f"), Some(3), Some(4)).unwrap();
    let tag = |path: &std::path::Path, value: &[u8]| {
        rustix::fs::setxattr(path, "trusted.tag", value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    tag(&sub, b"directory");
    tag(&sub.join("f"), b"file");
    add_mount(&mut bundle, json!({"destination": "/up", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}));
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    bundle.runc(&["start", "c"]);
    until("it has looked", || bundle.out().lines().count() == 3);
    assert_eq!(bundle.out(), "1750 0:0\n644 3:4\nsub/f\n");
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    for (path, expected) in [("sub", &b"directory"[..]), ("sub/f", b"file")] {
        let mut value = [0; 64];
        let inside = format!("/proc/{pid}/root/up/{path}");
        let n = rustix::fs::getxattr(inside, "trusted.tag", &mut value[..]).unwrap();
        assert_eq!(&value[..n], expected, "{path}");
    }
    assert_eq!(std::fs::read_to_string(sub.join("f")).unwrap(), "old", "the image is not written");
}

/// Linux 5.10 and 5.11 have no mount_setattr: a filter that answers ENOSYS makes this kernel one of them.
#[test]
fn without_mount_setattr_mounts_are_remounted_and_what_cannot_be_done_is_refused() {
    if !require_root("runs containers under a filter") {
        return;
    }
    let mut bundle = Bundle::new("mount; echo x > /ro/f; echo y > /proc/sys/kernel/hostname; echo done");
    let data = bundle.path().join("data");
    std::fs::create_dir(&data).unwrap();
    add_mount(
        &mut bundle,
        json!({"destination": "/ro", "source": data, "options": ["bind", "ro", "nosuid", "noatime"]}),
    );
    bundle.config["root"]["readonly"] = json!(true);
    bundle.write();
    std::fs::create_dir(bundle.rootfs().join("ro")).unwrap();
    let path = bundle.path().to_string_lossy().into_owned();
    without_mount_setattr();
    let run = || texts(&bundle.runc(&["run", "--bundle", &path, "c"]));
    let (out, err, code) = run();
    assert_eq!(code, 0, "{err}");
    let line = |to: &str| out.lines().find(|line| line.contains(&format!(" on {to} "))).unwrap_or_default().to_owned();
    for (to, flags) in [("/ro", &["ro,nosuid", "noatime"][..]), ("/", &["ro,"]), ("/proc/sys", &["ro,"])] {
        assert!(flags.iter().all(|flag| line(to).contains(flag)), "{to}: {}", line(to));
    }
    assert_eq!(err.matches("Read-only file system").count(), 2, "{err}");
    for option in ["rro", "idmap"] {
        let mut config = bundle.config.clone();
        let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        mount["options"] = json!(["bind", option]);
        if option == "idmap" {
            mount["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            mount["gidMappings"] = mount["uidMappings"].clone();
        }
        std::fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
        let (_, err, code) = run();
        assert!(code == 1 && err.contains("ENOSYS"), "{option}: {err}");
    }
}

fn without_mount_setattr() {
    let insn = |code, jt, jf, k| pintle_sys::seccomp::SockFilter { code, jt, jf, k };
    let filter =
        [insn(0x20, 0, 0, 0), insn(0x15, 0, 1, 442), insn(0x06, 0, 0, 0x0005_0000 | 38), insn(0x06, 0, 0, 0x7fff_0000)];
    pintle_sys::seccomp::install(&filter, 0).unwrap();
}

#[test]
fn masked_directories_share_one_read_only_tmpfs() {
    if !require_root("mounts") {
        return;
    }
    let mut bundle = Bundle::new("stat -c %d /m1 /m2 /m3; touch /m1/x; ls -a /m2");
    for dir in ["m1", "m2", "m3"] {
        std::fs::create_dir(bundle.rootfs().join(dir)).unwrap();
        std::fs::write(bundle.rootfs().join(dir).join("secret"), "").unwrap();
    }
    bundle.config["linux"]["maskedPaths"] = json!(["/m1", "/m2", "/m3"]);
    let (out, err, _) = bundle.run();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0] == lines[1] && lines[1] == lines[2], "{out}");
    assert_eq!(lines[3..], [".", ".."]);
    assert!(err.contains("Read-only file system"), "{err}");
}

#[test]
fn propagation_is_what_was_asked_for_and_reaches_only_where_it_may() {
    if !require_root("mounts") {
        return;
    }
    let script = "grep -E ' /(s|p|d) ' /proc/self/mountinfo | cut -d' ' -f5,7";
    let mut bundle = Bundle::new(script);
    for applet in ["grep", "cut"] {
        symlink("busybox", bundle.rootfs().join("bin").join(applet)).unwrap();
    }
    for (to, option) in [("/s", Some("shared")), ("/p", Some("private")), ("/d", None)] {
        let mut options = vec!["bind"];
        options.extend(option);
        add_mount(&mut bundle, json!({"destination": to, "source": "/tmp", "options": options}));
    }
    let (out, err, _) = bundle.run();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}{err}");
    assert!(lines[0].starts_with("/s shared:") && lines[1] == "/p -" && lines[2] == "/d -", "{out}");
}

#[test]
fn network_devices_move_into_the_container_with_their_addresses() {
    if !require_root("makes network devices") {
        return;
    }
    let netns = pintle_sys::netns::fresh().unwrap();
    let mut bundle = Bundle::new("ip -o addr show dev inner; ip -o link show dev inner");
    symlink("busybox", bundle.rootfs().join("bin/ip")).unwrap();
    bundle.config["linux"]["netDevices"] = json!({"outer0": {"name": "inner"}});
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let ip = |args: &str| {
        let status = std::process::Command::new("ip").args(args.split(' ')).status().unwrap();
        assert!(status.success(), "ip {args}");
    };
    let (first, second) = pintle_sys::netns::run_in(&netns, || {
        ip("link add outer0 type veth peer name other0");
        ip("addr add 10.9.8.7/24 dev outer0");
        ip("addr add fd00:9::7/64 dev outer0 nodad");
        ip("link set outer0 up");
        let first = texts(&bundle.runc(&["run", "--bundle", &path, "c"]));
        (first, texts(&bundle.runc(&["run", "--bundle", &path, "c"])))
    })
    .unwrap();
    let (out, err, code) = first;
    assert_eq!(code, 0, "{err}");
    for expected in ["inet 10.9.8.7/24", "inet6 fd00:9::7/64", "UP"] {
        assert!(out.contains(expected), "{expected} in {out}");
    }
    let expected =
        "move network device \\\"outer0\\\" into the container as \\\"inner\\\" (linux.netDevices): no such device";
    assert!(second.2 == 1 && second.1.contains(expected), "{second:?}");
}

#[test]
fn a_user_namespace_by_path_owns_the_new_pid_namespace() {
    if !require_root("makes user namespaces") {
        return;
    }
    let map = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
    let mut holder = Bundle::new("exec sleep 1000");
    holder.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    holder.config["linux"]["uidMappings"] = map.clone();
    holder.config["linux"]["gidMappings"] = map;
    assert_eq!(holder.create(), 0, "{}", holder.out());
    let pid = std::fs::read_to_string(holder.path().join("pid")).unwrap();
    let mut guest = Bundle::new("echo $$; cat /proc/self/uid_map; touch /tmp/mine; readlink /proc/self/ns/user");
    guest.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    for dir in ["", "tmp", "proc", "sys", "dev"] {
        std::os::unix::fs::chown(guest.rootfs().join(dir), Some(300_000), Some(300_000)).unwrap();
    }
    let (out, err, code) = guest.run();
    assert_eq!(code, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "1");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "300000", "65536"]);
    let user = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(lines[2], user.to_string_lossy());
    assert_eq!(std::fs::metadata(guest.rootfs().join("tmp/mine")).unwrap().uid(), 300_000);
}

#[test]
fn an_image_whose_dev_is_a_symlink_gets_its_devices_inside() {
    if !require_root("mounts") {
        return;
    }
    let bundle = Bundle::new("ls -l /tmp/devices/null > /dev/null && echo x > /dev/null && echo fine");
    std::fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink("../../../../../../tmp/devices", bundle.rootfs().join("dev")).unwrap();
    let (out, err, code) = bundle.run();
    assert_eq!((out.as_str(), code), ("fine\n", 0), "{err}");
    assert!(!std::path::Path::new("/tmp/devices").exists(), "CVE-2026-41579: nothing outside of the root");
}
