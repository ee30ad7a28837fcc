//! Paths that an image or another container controls: symlinks, swaps in the middle of a mount, masks undone.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::{Bundle, require_root};

/// CVE-2021-30465, CVE-2024-45310: a directory in a shared volume becomes a symlink to the host, and back, while the
/// runtime looks where to mount. It must fail, or mount inside: the container then sees the mount where it was asked.
#[test]
fn a_mount_target_that_is_swapped_for_a_symlink_is_never_followed_outside() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle =
        Bundle::new("cat /volume/target/made/secret /other/made/secret 2>/dev/null; cat /proc/self/mountinfo");
    let (volume, source, victim) =
        (bundle.path().join("volume"), bundle.path().join("source"), bundle.path().join("victim"));
    for dir in [&volume, &source, &victim, &volume.join("target"), &bundle.rootfs().join("other")] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(source.join("secret"), "mounted inside\n").unwrap();
    // Outside it leads to the victim; inside, the same words lead to /other or nowhere.
    symlink("/../../../../other", volume.join("link")).unwrap();
    symlink(&victim, volume.join("absolute")).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"]}));
    for _ in 0..4 {
        let to = "/volume/target/made";
        mounts.push(json!({"destination": to, "type": "bind", "source": source, "options": ["rbind"]}));
    }
    bundle.write();
    let (stop, mut inside) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&volume, &stop));
        for _ in 0..25 {
            let (out, err, code) = bundle.run();
            let places = out.lines().filter(|line| line.contains("/made ")).count();
            assert!(code != 0 || places == 4, "every mount is inside: {out}{err}");
            inside += usize::from(code == 0);
            assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "nothing is made outside");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(inside > 0, "the attack must not keep every container from running, or it shows nothing");
    assert!(!Path::new("/other").exists());
}

fn swap(volume: &Path, stop: &AtomicBool) {
    let target = volume.join("target");
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let other = volume.join(if turn % 4 < 2 { "link" } else { "absolute" });
        rustix::fs::renameat_with(rustix::fs::CWD, &target, rustix::fs::CWD, &other, rustix::fs::RenameFlags::EXCHANGE)
            .unwrap();
    }
}

/// CVE-2025-31133: /dev/null is what masks files; a container that takes it away must not thereby lift the masks.
#[test]
fn without_a_dev_null_there_is_no_container_rather_than_no_mask() {
    if !require_root("runs containers") {
        return;
    }
    let sysrq = "/proc/sysrq-trigger";
    for (what, make) in [
        ("missing", (|_| {}) as fn(&Path)),
        ("a link to what is masked", |null| symlink("/proc/sysrq-trigger", null).unwrap()),
        ("a link to itself", |null| symlink("null", null).unwrap()),
        ("a file", |null| std::fs::write(null, "").unwrap()),
        ("a directory", |null| std::fs::create_dir(null).unwrap()),
        ("another device", |null| {
            let kind = nix::sys::stat::SFlag::S_IFCHR;
            nix::sys::stat::mknod(null, kind, nix::sys::stat::Mode::all(), nix::sys::stat::makedev(1, 5)).unwrap();
        }),
    ] {
        let mut bundle = Bundle::new("cat /proc/keys");
        let dev = bundle.path().join("dev");
        std::fs::create_dir(&dev).unwrap();
        make(&dev.join("null"));
        bundle.config["mounts"][1] =
            json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
        bundle.config["mounts"].as_array_mut().unwrap().remove(2);
        bundle.config["linux"]["maskedPaths"] = json!(["/proc/keys", sysrq]);
        let (out, err, code) = bundle.run();
        assert!(code == 1 && out.is_empty() && err.contains("cannot mask"), "{what}: {out}{err}");
    }
}

/// CVE-2025-52881: writes of the runtime's below /proc end in the kernel, or nowhere.
#[test]
fn sysctls_are_written_to_the_kernel_whatever_lies_over_proc_in_the_container() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/sys/kernel/shmmax; cat /proc/sys/net/ipv4/ip_default_ttl");
    bundle.config["linux"]["sysctl"] = json!({"kernel.shmmax": "123456", "net.ipv4.ip_default_ttl": "77"});
    assert_eq!(bundle.run().0, "123456\n77\n");
    // The volume of another container, which has a fake /proc/sys with a link where the sysctl is.
    let fake = bundle.path().join("fake");
    std::fs::create_dir_all(fake.join("sys/kernel")).unwrap();
    std::fs::write(bundle.path().join("victim"), "untouched").unwrap();
    symlink(bundle.path().join("victim"), fake.join("sys/kernel/shmmax")).unwrap();
    for (kind, destination) in [("bind", "/proc"), ("tmpfs", "/proc"), ("bind", "/proc/sys"), ("tmpfs", "/proc/self")] {
        let mount = json!({"destination": destination, "type": kind, "source": fake,
            "options": if kind == "bind" { json!(["rbind"]) } else { json!([]) }});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        let (_, err, code) = bundle.run();
        assert!(code == 1 && err.contains("it is inside /proc"), "{kind} on {destination}: {err}");
        bundle.config["mounts"].as_array_mut().unwrap().pop();
    }
    assert_eq!(std::fs::read_to_string(bundle.path().join("victim")).unwrap(), "untouched");
}

#[test]
fn sysctls_of_the_whole_host_and_paths_that_climb_out_of_them_are_refused() {
    if !require_root("runs containers") {
        return;
    }
    let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let names = [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "net/../../sysrq-trigger",
        "net/./ipv4",
        "vm.overcommit_memory",
        "fs.file-max",
    ];
    for name in names {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["sysctl"] = json!({name: "|/bin/evil"});
        let (_, err, code) = bundle.run();
        assert!(code == 1 && err.contains("linux.sysctl"), "{name}: {err}");
    }
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: /proc and /sys as links would leave masks and labels elsewhere.
#[test]
fn proc_and_sys_must_be_real_directories() {
    if !require_root("runs containers") {
        return;
    }
    for (name, to) in [("proc", "tmp"), ("proc", "/tmp/a"), ("sys", "tmp"), ("sys", "../../../../tmp/nowhere")] {
        let bundle = Bundle::new("true");
        std::fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        symlink(to, bundle.rootfs().join(name)).unwrap();
        let (_, err, code) = bundle.run();
        assert!(code == 1 && err.contains("must be a real directory"), "{name} -> {to}: {err}");
    }
    assert!(!Path::new("/tmp/nowhere").exists());
}

/// CVE-2019-18837 and its like: what the runtime makes itself, it makes inside.
#[test]
fn devices_directories_and_the_working_directory_are_made_inside() {
    if !require_root("runs containers") {
        return;
    }
    let victim = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new("pwd");
    bundle.config["mounts"].as_array_mut().unwrap().truncate(1);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    for (link, below) in [("dev", "devices"), ("work", "work")] {
        let link = bundle.rootfs().join(link);
        let _only_dev_is_there = std::fs::remove_dir(&link);
        symlink(victim.path().join(below), link).unwrap();
    }
    bundle.config["process"]["cwd"] = json!("/work/deep/er");
    let (out, err, code) = bundle.run();
    assert_eq!(code, 0, "{out}{err}");
    let inside = format!("{}/work/deep/er\n", victim.path().display());
    assert_eq!(out, inside, "the link leads there, inside");
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 0, "nothing outside");
}
