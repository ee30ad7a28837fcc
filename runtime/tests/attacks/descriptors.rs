//! Descriptors of the runtime as doors to the host: CVE-2024-21626 and what followed from it.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::json;

use crate::common::{Bundle, require_root, texts, until};

/// More than the runtime ever has open.
const DESCRIPTORS: std::ops::Range<i32> = 3..24;

/// A program that only the host has.
fn outside(bundle: &Bundle) -> std::path::PathBuf {
    let dir = bundle.path().join("outside");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy("/bin/busybox", dir.join("sh")).unwrap();
    dir.join("sh")
}

fn through(number: i32, path: &Path) -> String {
    format!("/proc/self/fd/{number}/../../../../../..{}", path.display())
}

#[test]
fn no_program_of_the_host_is_reached_through_a_descriptor() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle = Bundle::new("");
    let program = outside(&bundle);
    for number in DESCRIPTORS {
        let path = through(number, &program);
        bundle.config["process"]["args"] = json!([path, "-c", "echo OUTSIDE"]);
        let (out, err, code) = bundle.run();
        assert!(code != 0 && !out.contains("OUTSIDE"), "descriptor {number}: {out}{err}");
        let script = bundle.rootfs().join("script");
        std::fs::write(&script, format!("#!{path}\necho OUTSIDE\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        bundle.config["process"]["args"] = json!(["/script"]);
        let (out, err, code) = bundle.run();
        assert!(code != 0 && !out.contains("OUTSIDE"), "an interpreter beneath descriptor {number}: {out}{err}");
    }
}

#[test]
fn an_exec_reaches_nothing_of_the_host_through_a_descriptor() {
    if !require_root("runs containers") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    let program = outside(&bundle);
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.runc(&["start", "c"]).status.success());
    for number in DESCRIPTORS {
        let (out, err, code) = texts(&bundle.runc(&["exec", "c", &through(number, &program), "-c", "echo OUTSIDE"]));
        assert!(code != 0 && !out.contains("OUTSIDE"), "descriptor {number}: {out}{err}");
        let cwd = format!("/proc/self/fd/{number}");
        let (out, err, code) = texts(&bundle.runc(&["exec", "--cwd", &cwd, "c", "ls", ".."]));
        assert!(code != 0 && out.is_empty(), "descriptor {number} as the working directory: {out}{err}");
    }
    let (out, err, _) = texts(&bundle.runc(&["exec", "c", "ls", "/proc/self/fd"]));
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{err}");
}

#[test]
fn a_link_in_the_image_makes_no_descriptor_the_working_directory() {
    if !require_root("runs containers") {
        return;
    }
    for number in DESCRIPTORS {
        let mut bundle = Bundle::new("ls ..");
        symlink(format!("/proc/self/fd/{number}"), bundle.rootfs().join("work")).unwrap();
        bundle.config["process"]["cwd"] = json!("/work");
        let (out, err, code) = bundle.run();
        assert!(code != 0 && out.is_empty(), "descriptor {number}: {out}{err}");
    }
}

#[test]
fn while_init_waits_it_holds_no_directory_and_nobody_inside_looks_into_it() {
    if !require_root("runs containers") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let path = entry.unwrap().path();
        // A socket or pipe cannot be followed by its name, which is all we want to know.
        let leads = std::fs::metadata(&path).is_ok_and(|meta| meta.is_dir());
        assert!(!leads, "{} leads to {}", path.display(), std::fs::read_link(&path).unwrap().display());
    }
    // The same user with the same capabilities: only that init cannot be dumped keeps it out.
    let look =
        "for door in /proc/1/fd/* /proc/1/root /proc/1/cwd /proc/1/exe; do readlink $door; done; cat /proc/1/environ";
    let (out, err, _) = texts(&bundle.runc(&["exec", "c", "sh", "-c", look]));
    assert!(out.is_empty() && err.contains("Permission denied"), "{out}{err}");
    // Once it has become the program it is like any other.
    assert!(bundle.runc(&["start", "c"]).status.success());
    until("init has become the program", || {
        texts(&bundle.runc(&["exec", "c", "cat", "/proc/1/environ"])).0.contains("PATH=/bin")
    });
}

#[test]
fn hooks_get_no_descriptor_but_stdio() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle = Bundle::new("cat /seen");
    let host = bundle.path().join("seen");
    let list = |to: &str| format!("ls /proc/self/fd | tr '\\n' ' ' > {to}");
    bundle.config["hooks"] = json!({
        "createRuntime": [{"path": "/bin/busybox", "args": ["sh", "-c", list(&host.to_string_lossy())]}],
        "createContainer": [{"path": "/bin/busybox",
            "args": ["sh", "-c", list(&bundle.path().join("container").to_string_lossy())]}],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", list("/seen")], "env": ["PATH=/bin"]}]
    });
    bundle.write();
    // A descriptor that the container is to have is none of the hooks' business either.
    let mut command = bundle.command(&["run", "--bundle", &bundle.path().to_string_lossy(), "c"]);
    let (out, err, code) = texts(&command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    // ls itself opens the directory that it lists.
    for seen in [out, std::fs::read_to_string(host).unwrap()] {
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
    let container = std::fs::read_to_string(bundle.path().join("container")).unwrap();
    assert_eq!(container.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}
