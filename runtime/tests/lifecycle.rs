//! The command line against the real kernel: lives of containers, as callers of runc lead them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Bundle, require_root, texts, until};
use serde_json::json;

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    if !require_root("creates a container") {
        return;
    }
    let bundle = Bundle::new("echo started; exec sleep 1000");
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.out(), "", "nothing of the program runs before start");
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    assert!(pid.bytes().all(|byte| byte.is_ascii_digit()), "pid file {pid:?} holds digits only");
    let again = texts(&bundle.runc(&["create", "--bundle", &bundle.path().to_string_lossy(), "c"]));
    assert!(again.1.contains("container with given ID already exists"), "{again:?}");
    assert_eq!(bundle.runc(&["start", "c"]).status.code(), Some(0));
    until("the program says so", || bundle.out() == "started\n");
    assert_eq!(bundle.status(), "running");
    let twice = texts(&bundle.runc(&["start", "c"]));
    assert!(twice.1.contains("cannot start an already running container"), "{twice:?}");
    let early = texts(&bundle.runc(&["delete", "c"]));
    assert!(early.1.contains("cannot delete container c that is not stopped: running"), "{early:?}");
    assert_eq!(texts(&bundle.runc(&["ps", "--format", "json", "c"])).0, format!("[{pid}]\n"));
    assert_eq!(bundle.runc(&["kill", "c", "KILL"]).status.code(), Some(0));
    until("init is gone", || bundle.status() == "stopped");
    let dead = texts(&bundle.runc(&["kill", "c", "TERM"]));
    assert_eq!((dead.1.contains("container not running"), dead.2), (true, 1), "{dead:?}");
    assert_eq!(bundle.runc(&["delete", "c"]).status.code(), Some(0));
    let gone = texts(&bundle.runc(&["state", "c"]));
    assert!(gone.1.contains("container does not exist"), "{gone:?}");
    assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()), "its cgroups are gone");
}

#[test]
fn run_gives_the_exit_code_and_leaves_nothing() {
    if !require_root("runs a container") {
        return;
    }
    let bundle = Bundle::new("echo out; echo err >&2; exit 7");
    assert_eq!(bundle.run(), ("out\n".to_owned(), "err\n".to_owned(), 7));
    assert_eq!(texts(&bundle.runc(&["list", "-q"])).0, "");
    assert_eq!(Bundle::new("kill -9 $$; sleep 9").run().2, 0, "init of a pid namespace is immune to itself");
}

#[test]
fn exec_joins_everything_and_gives_its_exit_code() {
    if !require_root("runs a container") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    assert_eq!(bundle.create(), 0);
    bundle.runc(&["start", "c"]);
    // start is over when init goes on, which may be before it has become the program that others may look at.
    let ready = "until readlink /proc/1/ns/net >/dev/null 2>&1; do sleep 0.01; done";
    assert_eq!(texts(&bundle.runc(&["exec", "c", "sh", "-c", ready])).2, 0);
    let script = "hostname; echo $A; ps | grep -c sleep; readlink /proc/1/ns/net; readlink /proc/self/ns/net; cat /proc/self/cgroup; exit 5";
    let (out, err, code) = texts(&bundle.runc(&["exec", "-e", "A=33", "c", "sh", "-c", script]));
    assert_eq!(code, 5, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["inside", "33"], "{out}");
    assert_eq!(lines[3], lines[4], "the same network namespace");
    assert!(
        lines[5..].iter().all(|line| line.ends_with(":/") || line.starts_with("0:")),
        "the container's cgroups: {out}"
    );
    assert_eq!(texts(&bundle.runc(&["exec", "-u", "33:44", "c", "id", "-u"])).0, "33\n");
    let (_, err, code) = texts(&bundle.runc(&["exec", "c", "nope"]));
    assert_eq!(code, 255);
    assert!(
        err.contains(
            r#"exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH"#
        ),
        "{err}"
    );
    let (_, err, code) = texts(&bundle.runc(&["exec", "c", "/bin/nope"]));
    assert_eq!(code, 255);
    assert!(err.contains("stat /bin/nope: no such file or directory"), "{err}");
    bundle.runc(&["kill", "c", "KILL"]);
    until("init is gone", || bundle.status() == "stopped");
    assert!(texts(&bundle.runc(&["exec", "c", "true"])).1.contains("cannot exec in a stopped container"));
}

#[test]
fn a_missing_program_fails_create_and_leaves_nothing() {
    if !require_root("creates a container") {
        return;
    }
    let mut bundle = Bundle::new("");
    bundle.config["process"]["args"] = json!(["missing"]);
    assert_eq!(bundle.create(), 1);
    let out = bundle.out();
    let expected = r#"runc create failed: unable to start container process: exec: \"missing\": executable file not found in $PATH"#;
    assert!(out.contains(expected), "{out}");
    assert_eq!(out.lines().count(), 1, "exactly one line: {out}");
    assert_eq!(bundle.status(), "none");
    assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()));
    assert!(!bundle.root().join("c").exists());
}

#[test]
fn a_bad_configuration_names_the_place() {
    if !require_root("reads a bundle") {
        return;
    }
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["cwd"] = json!("relative");
    bundle.config["mounts"][1]["destination"] = json!("/");
    let (_, err, code) = bundle.run();
    assert_eq!(code, 1);
    assert!(err.contains("process.cwd: Cwd must be an absolute path"), "{err}");
    assert!(err.contains("mounts[1].destination: the root file system itself cannot be mounted over"), "{err}");
    bundle.config["process"]["args"] = json!(["true", 5]);
    let (_, err, _) = bundle.run();
    assert!(err.contains("at process.args[1]"), "{err}");
}

#[test]
fn hooks_run_in_order_with_the_state_on_stdin() {
    if !require_root("runs a container") {
        return;
    }
    let mut bundle = Bundle::new("echo program >> /tmp/order");
    let host = bundle.rootfs().join("tmp/order");
    let hook = |name: &str, path: &str, shell: &str| {
        let script = format!("grep -o '\"status\":\"[a-z]*\"' > /tmp/.s; echo {name} $(cat /tmp/.s) >> {path}");
        json!([{"path": shell, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let outside = host.to_string_lossy().into_owned();
    std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin/grep")).unwrap();
    let mut hooks = serde_json::Map::new();
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks.insert(name.to_owned(), hook(name, &outside, "/bin/sh"));
    }
    hooks.insert("startContainer".to_owned(), hook("startContainer", "/tmp/order", "/bin/sh"));
    bundle.config["hooks"] = json!(hooks);
    let (_, err, code) = bundle.run();
    assert_eq!(code, 0, "{err}");
    let mut order: Vec<String> = std::fs::read_to_string(host).unwrap().lines().map(str::to_owned).collect();
    // From the fifo on, the container (startContainer, then the program) and poststart run at the same time.
    let inside = |line: &String| line.starts_with("startContainer") || line == "program";
    assert!(order.iter().filter(|line| inside(line)).is_sorted_by(|a, _| a.starts_with("startContainer")));
    order[3..6].sort();
    assert_eq!(
        order,
        [
            r#"prestart "status":"creating""#,
            r#"createRuntime "status":"creating""#,
            r#"createContainer "status":"creating""#,
            r#"poststart "status":"running""#,
            "program",
            r#"startContainer "status":"created""#,
            r#"poststop "status":"stopped""#,
        ]
    );
}

#[test]
fn a_failing_hook_destroys_the_container() {
    if !require_root("creates a container") {
        return;
    }
    let mut bundle = Bundle::new("true");
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]});
    assert_eq!(bundle.create(), 1);
    assert!(bundle.out().contains("error running hook hooks.createRuntime[0]: exit status 3"), "{}", bundle.out());
    assert_eq!(bundle.status(), "none");
    bundle.config["hooks"] = json!({"prestart": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
    assert_eq!(bundle.create(), 1);
    assert!(bundle.out().contains("timed out after 1 s and was killed"), "{}", bundle.out());
}

#[test]
fn limits_reach_the_cgroup_and_can_be_updated() {
    if !require_root("sets limits") {
        return;
    }
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 50}, "cpu": {"shares": 512}});
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    let read = |controller: &str, v1: &str, v2: &str| {
        let below = format!("{}/c", bundle.cgroup.trim_start_matches('/'));
        let first = std::path::Path::new("/sys/fs/cgroup").join(controller).join(&below).join(v1);
        let second = std::path::Path::new("/sys/fs/cgroup").join(&below).join(v2);
        std::fs::read_to_string(first).or_else(|_| std::fs::read_to_string(second)).unwrap().trim().to_owned()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    assert_eq!(read("pids", "pids.max", "pids.max"), "50");
    let (_, err, code) = texts(&bundle.runc(&["update", "--pids-limit", "70", "--memory", "64m", "c"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(read("pids", "pids.max", "pids.max"), "70");
}

#[test]
fn pause_stops_and_resume_goes_on() {
    if !require_root("freezes a container") {
        return;
    }
    let bundle = Bundle::new("while true; do echo x; sleep 0.01; done");
    assert_eq!(bundle.create(), 0);
    bundle.runc(&["start", "c"]);
    until("it runs", || !bundle.out().is_empty());
    assert_eq!(bundle.runc(&["pause", "c"]).status.code(), Some(0));
    assert_eq!(bundle.status(), "paused");
    let before = bundle.out().len();
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(bundle.out().len(), before, "nothing runs while paused");
    assert!(texts(&bundle.runc(&["exec", "c", "true"])).1.contains("cannot exec in a paused container"));
    assert_eq!(bundle.runc(&["resume", "c"]).status.code(), Some(0));
    assert!(texts(&bundle.runc(&["resume", "c"])).1.contains("container not paused"));
    until("it goes on", || bundle.out().len() > before);
    bundle.runc(&["pause", "c"]);
    assert_eq!(bundle.runc(&["delete", "--force", "c"]).status.code(), Some(0), "a paused container can be deleted");
}

#[test]
fn killing_the_runtime_at_any_moment_leaves_what_delete_cleans() {
    if !require_root("kills the runtime") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    for delay_us in (0..12_000).step_by(400) {
        let mut create = bundle.command(&["create", "--bundle", &path, "c"]);
        let mut child = create.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay_us));
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, err, code) = texts(&bundle.runc(&["list"]));
        assert!(code == 0 || !bundle.root().exists(), "state stays readable after {delay_us} us: {err}");
        let (_, err, code) = texts(&bundle.runc(&["delete", "--force", "c"]));
        assert_eq!(code, 0, "killed after {delay_us} us: {err}");
        assert!(!bundle.root().join("c").exists());
        assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()), "cgroups after {delay_us} us");
    }
    until("no process is left", || !anyone_in(&path));
}

/// Whether some process still has the bundle as its working directory or waits in its root.
fn anyone_in(path: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let link = |name: &str| {
            std::fs::read_link(entry.path().join(name)).is_ok_and(|to| to.to_string_lossy().starts_with(path))
        };
        link("cwd") || link("root")
    })
}

/// The kernel keeps init until who came by exec was reaped outside; here he belongs to this test, which never does.
#[test]
fn delete_force_does_not_wait_for_others_to_reap() {
    if !require_root("runs a container") {
        return;
    }
    pintle_sys::process::become_subreaper().unwrap();
    let bundle = Bundle::new("exec sleep 1000");
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.runc(&["start", "c"]).status.success());
    let log = std::fs::File::create(bundle.path().join("out")).unwrap();
    let mut exec = bundle.command(&["exec", "--detach", "c", "sleep", "1000"]);
    assert!(exec.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().success(), "{}", bundle.out());
    let began = std::time::Instant::now();
    let (_, err, code) = texts(&bundle.runc(&["delete", "--force", "c"]));
    assert_eq!(code, 0, "{err}");
    assert!(began.elapsed() < std::time::Duration::from_secs(9), "ten seconds are its patience: {:?}", began.elapsed());
    assert_eq!(bundle.status(), "none");
    assert!(bundle.cgroup_dirs().iter().all(|dir| !dir.join("c").exists()), "its cgroups are gone");
}
