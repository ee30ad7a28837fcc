//! What the runtime takes from where it is called: an older kernel, sockets of an activation, a user's directory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use common::{Bundle, require_root, texts};

/// Answers as Linux 5.10 does: system calls from 5.11 on are unknown, and so is close_range's CLOSE_RANGE_CLOEXEC.
fn as_on_linux_5_10() {
    const FIRST_NEW: u32 = 441;
    const CLOSE_RANGE: u32 = 436;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let insn = |code, jt, jf, k| pintle_sys::seccomp::SockFilter { code, jt, jf, k };
    let filter = [
        insn(0x20, 0, 0, 0),
        insn(0x35, 4, 0, FIRST_NEW),
        insn(0x15, 0, 2, CLOSE_RANGE),
        insn(0x20, 0, 0, 32),
        insn(0x15, 2, 0, 4),
        insn(0x06, 0, 0, ALLOW),
        insn(0x06, 0, 0, ERRNO | 38),
        insn(0x06, 0, 0, ERRNO | 22),
    ];
    pintle_sys::seccomp::install(&filter, 0).unwrap();
}

#[test]
fn a_container_lives_its_life_with_the_system_calls_of_linux_5_10() {
    if !require_root("runs containers under a filter") {
        return;
    }
    let bundle = Bundle::new("ls /proc/self/fd; exec sleep 1000");
    bundle.write();
    as_on_linux_5_10();
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.runc(&["start", "c"]).status.success());
    let (out, err, code) = texts(&bundle.runc(&["exec", "c", "ls", "/proc/self/fd"]));
    assert_eq!((out.split_whitespace().collect::<Vec<_>>(), code), (vec!["0", "1", "2", "3"], 0), "{err}");
    for command in
        [&["pause", "c"][..], &["resume", "c"], &["update", "--pids-limit", "40", "c"], &["kill", "c", "KILL"]]
    {
        let (_, err, code) = texts(&bundle.runc(command));
        assert_eq!(code, 0, "{command:?}: {err}");
    }
    common::until("it has stopped", || bundle.status() == "stopped");
    let (_, err, code) = texts(&bundle.runc(&["delete", "c"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(bundle.out().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

/// A container in a container has a /proc of which parts are read-only.
#[test]
fn sysctls_are_set_past_a_proc_that_is_read_only_in_parts() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/sys/net/ipv4/ip_forward");
    bundle.config["linux"]["sysctl"] = serde_json::json!({"net.ipv4.ip_forward": "1"});
    bundle.write();
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_pintle-runc")).arg("--root").arg(bundle.root());
    command.args(["run", "--bundle", &bundle.path().to_string_lossy(), "c"]);
    assert_eq!(texts(&command.output().unwrap()), ("1\n".to_owned(), String::new(), 0));
}

#[test]
fn sockets_of_an_activation_reach_init_with_their_announcement() {
    if !require_root("runs containers") {
        return;
    }
    let bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID; cat <&3; exec ls /proc/self/fd");
    bundle.write();
    std::fs::write(bundle.path().join("socket"), "from outside\n").unwrap();
    let runc = env!("CARGO_BIN_EXE_pintle-runc");
    let run = |pid: &str| {
        let script = format!(
            "exec 3<\"$1/socket\"; export LISTEN_FDS=1 LISTEN_PID={pid}; exec \"$0\" --root \"$1/state\" run -b \"$1\" c"
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, runc]).arg(bundle.path());
        texts(&command.stdin(Stdio::null()).output().unwrap())
    };
    let (out, err, code) = run("$$");
    assert_eq!(
        (out.split_whitespace().collect::<Vec<_>>(), code),
        (vec!["1", "1", "from", "outside", "0", "1", "2", "3", "4"], 0),
        "{err}"
    );
    let (out, err, code) = run("1");
    assert!(!out.contains("outside") && err.contains("Bad file descriptor"), "for somebody else: {code}: {out}{err}");
}

#[test]
fn sockets_are_announced_with_the_pid_that_the_process_has() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID $$; exec sleep 1000");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    bundle.write();
    let script = "exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; program=$0; exec \"$program\" \"$@\"";
    let run = |args: &[&str]| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_pintle-runc"), "--root"]).arg(bundle.root()).args(args);
        let out = std::fs::File::create(bundle.path().join("out")).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
        common::until("it has told", || bundle.out().ends_with('\n'));
        bundle.out().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let bundle_dir = bundle.path().to_string_lossy().into_owned();
    let init = run(&["run", "--detach", "--bundle", &bundle_dir, "c"]);
    let exec = run(&["exec", "c", "sh", "-c", "echo $LISTEN_FDS $LISTEN_PID $$"]);
    for told in [init, exec] {
        assert!(told.len() == 3 && told[0] == "1" && told[1] == told[2] && told[1] != "1", "{told:?}");
    }
}

#[test]
fn a_user_has_his_containers_in_his_own_runtime_directory() {
    if !require_root("becomes another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (program, own) = (dir.path().join("runc-copy"), dir.path().join("own"));
    std::fs::copy(env!("CARGO_BIN_EXE_pintle-runc"), &program).unwrap();
    std::fs::create_dir_all(own.join("runc/half-made")).unwrap();
    for path in [&own, &own.join("runc"), &own.join("runc/half-made")] {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    let call = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).env("XDG_RUNTIME_DIR", &own).uid(65_534).gid(65_534);
        texts(&command.output().unwrap())
    };
    let (out, err, code) = call(&["delete", "--force", "half-made"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(!own.join("runc/half-made").exists());
    let (_, err, code) = call(&["--rootless", "perhaps", "list"]);
    assert!(code == 1 && err.contains("--rootless"), "{err}");
}
