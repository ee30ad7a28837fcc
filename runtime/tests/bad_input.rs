//! Bad input and a host that has run out of something: an error that says so, and nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Bundle, require_root, texts};
use serde_json::json;

/// Creates; what was said, and the exit code.
fn create(bundle: &Bundle, id: &str) -> (String, i32) {
    let (out, err, code) = texts(&bundle.runc(&["create", "--bundle", &bundle.path().to_string_lossy(), id]));
    (out + &err, code)
}

fn nothing_is_left(bundle: &Bundle, what: &str) {
    let left: Vec<_> = std::fs::read_dir(bundle.root()).into_iter().flatten().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
    assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()), "{what}: {:?}", bundle.cgroup_dirs());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*bundle.path().to_string_lossy()), "{what}: {mounts}");
}

/// One line, the error, and nothing besides.
fn refused(bundle: &Bundle, id: &str, what: &str, words: &str) {
    let (said, code) = create(bundle, id);
    assert!(code == 1 && said.contains(words) && said.lines().count() == 1, "{what}: {said}");
    nothing_is_left(bundle, what);
}

#[test]
fn a_config_that_is_no_configuration_is_refused_with_its_place() {
    if !require_root("reads configurations") {
        return;
    }
    let bundle = Bundle::new("true");
    let whole = bundle.config.to_string();
    let file = bundle.path().join("config.json");
    let cut = (0..20).map(|n| (format!("cut at {n}/20"), whole[..whole.len() * n / 20].to_owned(), ""));
    let others = [
        ("deep arrays".to_owned(), "[".repeat(1_000_000), ""),
        ("deep objects".to_owned(), "{\"a\":".repeat(500_000), ""),
        ("deep where anything may stand".to_owned(), format!("{{\"annotations\":{}", "{\"a\":".repeat(100_000)), ""),
        ("a number".to_owned(), "1e999".to_owned(), ""),
        ("null".to_owned(), "null".to_owned(), ""),
        ("two".to_owned(), format!("{whole}{whole}"), ""),
        ("huge".to_owned(), " ".repeat(100_000_000) + &whole, "file too large"),
    ];
    for (what, text, words) in cut.chain(others) {
        std::fs::write(&file, text).unwrap();
        refused(&bundle, "c", &what, words);
    }
    std::fs::write(&file, b"\xff\xfe{}").unwrap();
    refused(&bundle, "c", "no UTF-8", "");
    std::fs::remove_file(&file).unwrap();
    refused(&bundle, "c", "no file", "config.json not found");
    std::fs::create_dir(&file).unwrap();
    refused(&bundle, "c", "a directory", "config.json");
}

#[test]
fn an_id_is_a_name_and_no_path() {
    if !require_root("creates containers") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let long = "x".repeat(2000);
    for id in ["a/b", "/", "..", ".", "", "../c", "a b", "a\nb", "a\\b", "é", "*", &long] {
        let (said, code) = create(&bundle, id);
        assert!(code == 1 && said.contains("invalid container ID format"), "{id:?}: {said}");
        for command in [&["state", id][..], &["delete", "--force", id], &["kill", id, "KILL"]] {
            let (_, err, code) = texts(&bundle.runc(command));
            assert!(code == 1 && err.contains("invalid container ID format"), "{command:?}: {err}");
        }
        nothing_is_left(&bundle, id);
    }
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    let (said, code) = create(&bundle, "c");
    assert!(code == 1 && said.contains("container with given ID already exists"), "{said}");
    assert_eq!(bundle.status(), "created", "the first is as it was");
    assert!(bundle.runc(&["start", "c"]).status.success());
}

#[test]
fn a_root_that_is_missing_or_read_only() {
    if !require_root("creates containers") {
        return;
    }
    let mut bundle = Bundle::new("true");
    for (path, words) in [
        ("nowhere", "is not a directory"),
        ("config.json", "is not a directory"),
        ("rootfs/bin/busybox", "is not a directory"),
    ] {
        bundle.config["root"]["path"] = json!(path);
        bundle.write();
        refused(&bundle, "c", path, words);
    }
    bundle.config["root"]["path"] = json!("rootfs");
    bundle.write();
    let run = |script: &str| {
        let before = "set -e; mount --make-rprivate /; mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; ";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &format!("{before}{script}"), "sh"]).arg(bundle.rootfs());
        command.arg(env!("CARGO_BIN_EXE_pintle-runc")).arg(bundle.root()).arg(bundle.path());
        texts(&command.stdin(Stdio::null()).output().unwrap())
    };
    let runc = "\"$2\" --root \"$3\" run --bundle \"$4\" c";
    let (out, err, code) = run(runc);
    assert_eq!(code, 0, "everything that is needed exists: {out}{err}");
    std::fs::remove_dir(bundle.rootfs().join("sys")).unwrap();
    let (out, err, code) = run(runc);
    assert!(code == 1 && err.contains("/sys") && err.contains("ead-only file system"), "{out}{err}");
    nothing_is_left(&bundle, "a read-only root without /sys");
}

#[test]
fn a_full_disk_under_the_state_is_told_and_leaves_nothing() {
    if !require_root("fills a file system") {
        return;
    }
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["annotations"] = json!({"long": "x".repeat(8192)});
    bundle.write();
    std::fs::create_dir(bundle.root()).unwrap();
    for options in ["nr_inodes=1", "nr_inodes=2", "nr_inodes=3", "size=4k", "size=8k"] {
        let script = "set -e; mount --make-rprivate /; mount -t tmpfs -o \"$4\" none \"$2\"; \
            code=0; \"$1\" --root \"$2\" create --bundle \"$3\" c || code=$?; ls \"$2\"; exit $code";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_pintle-runc")]);
        command.arg(bundle.root()).arg(bundle.path()).arg(options);
        let (out, err, code) = texts(&command.stdin(Stdio::null()).output().unwrap());
        assert!(code == 1 && err.contains("o space left on device"), "{options}: {out}{err}");
        assert_eq!(out, "", "{options}: the state directory is empty");
        nothing_is_left(&bundle, options);
    }
}

#[test]
fn too_few_descriptors_are_told_and_leave_nothing() {
    if !require_root("creates containers") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let mut refusals = 0;
    for most in 4..48 {
        let script = "ulimit -n \"$0\"; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, &most.to_string(), env!("CARGO_BIN_EXE_pintle-runc"), "--root"]).arg(bundle.root());
        command.arg("create").arg("--bundle").arg(bundle.path()).arg("c");
        let output = std::fs::File::create(bundle.path().join("out")).unwrap();
        let status = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
        let said = bundle.out();
        match status.code() {
            Some(0) => assert_eq!(texts(&bundle.runc(&["delete", "--force", "c"])).2, 0),
            Some(1) => {
                refusals += 1;
                assert!(said.to_lowercase().contains("too many open files"), "{most}: {said}");
            }
            other => panic!("{most} descriptors: {other:?}: {said}"),
        }
        nothing_is_left(&bundle, &format!("{most} descriptors"));
    }
    assert!((3..44).contains(&refusals), "{refusals} of 44 were refused");
}

/// A process of somebody else's in a cgroup, gone at the end of the test.
struct Foreign {
    process: Child,
    dirs: Vec<std::path::PathBuf>,
}

impl Foreign {
    fn in_cgroup(path: &str, v1: &str) -> Foreign {
        let top = Path::new("/sys/fs/cgroup");
        let hierarchy = if top.join("cgroup.controllers").exists() { top.to_owned() } else { top.join(v1) };
        let dir = hierarchy.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&dir).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(dir.join("cgroup.procs"), process.id().to_string()).unwrap();
        let dirs = vec![dir.clone(), dir.parent().unwrap().to_owned()];
        Foreign { process, dirs }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for dir in &self.dirs {
            let _may_be_gone = std::fs::remove_dir(dir);
        }
    }
}

#[test]
fn a_cgroup_that_has_somebody_else_in_it_is_left_alone() {
    if !require_root("makes cgroups") {
        return;
    }
    let bundle = Bundle::new("true");
    bundle.write();
    let mut foreign = Foreign::in_cgroup(&format!("{}/c", bundle.cgroup), "pids");
    let (said, code) = create(&bundle, "c");
    assert!(code == 1 && said.contains("container's cgroup is not empty: 1 process(es) found"), "{said}");
    assert!(foreign.process.try_wait().unwrap().is_none(), "it is not ours to kill");
    assert_eq!(std::fs::read_dir(bundle.root()).into_iter().flatten().count(), 0);
}

#[test]
fn no_process_can_be_made_where_the_pids_limit_is_reached() {
    if !require_root("makes cgroups") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let limited = Foreign::in_cgroup(&format!("{}/pod", bundle.cgroup), "pids");
    std::fs::write(limited.dirs[0].join("pids.max"), "2").unwrap();
    let script = "echo $$ > \"$0/cgroup.procs\"; exec \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(&limited.dirs[0]).arg(env!("CARGO_BIN_EXE_pintle-runc"));
    command.arg("--root").arg(bundle.root()).arg("create").arg("--bundle").arg(bundle.path()).arg("c");
    let (out, err, code) = texts(&command.stdin(Stdio::null()).output().unwrap());
    assert!(code == 1 && err.contains("a limit on processes is reached"), "{out}{err}");
    nothing_is_left(&bundle, "no process");
}
