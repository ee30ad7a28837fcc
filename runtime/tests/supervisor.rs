//! The pod supervisor over its socket: what the kubelet relies on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use common::pod::Pod;
use common::{Guest, require_root, until};
use pintle_shim::{Call, ContainerState, ContainerStatus, Exit, FailureKind, Reply};
use serde_json::json;

#[test]
fn a_container_lives_and_its_output_is_logged() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("echo out; echo err >&2; hostname; printf rest; exit 3");
    let mut client = pod.up();
    client.begin(&pod);
    let state = client.exited();
    let exit = Exit { code: 3, signal: 0, oom_killed: false, timed_out: false };
    assert_eq!((state.exit, state.status, state.pid), (Some(exit), ContainerStatus::Stopped, 0));
    let record = std::fs::read(pod.dir().join("exits/c.json")).unwrap();
    assert_eq!(
        serde_json::from_slice::<ContainerState>(&record).unwrap(),
        state,
        "the record was there before the news"
    );
    let mut logged = pod.logged();
    logged.sort();
    assert_eq!(logged, ["stderr F err", "stdout F mypod", "stdout F out", "stdout P rest"]);
    client.done(Call::Delete { container: "c".to_owned() });
    client.done(Call::Shutdown);
    assert!(!pod.dir().exists());
}

#[test]
fn a_client_may_die_and_another_finds_everything() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut first = pod.up();
    first.begin(&pod);
    drop(first);
    let mut second = pod.connect();
    let Reply::Containers { containers } = second.call(Call::Subscribe) else { panic!("containers") };
    assert_eq!((containers.len(), containers[0].status), (1, ContainerStatus::Running));
    assert_eq!(second.call_with(Call::Shutdown, &[]).unwrap_err().kind, FailureKind::Conflict);
    pod.down(&mut second);
}

#[test]
fn execs_have_codes_and_end_with_their_time() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    client.begin(&pod);
    let (out, exit) = client.exec("hostname; exit 4", None);
    assert_eq!((out.as_str(), exit.code, exit.timed_out), ("mypod\n", 4, false));
    // A descendant that left its session must die with the rest, or the pipe would stay open for 500 s.
    let (_, exit) = client.exec("setsid sleep 500 & sleep 600", Some(100));
    assert_eq!((exit.code, exit.timed_out), (137, true));
    let (out, _) = client.exec("ps | grep -c '[s]leep 500'", None);
    assert_eq!(out, "0\n");
    let missing = json!({"user": {"uid": 0, "gid": 0}, "args": ["nope"], "cwd": "/"});
    let call = Call::Exec {
        container: "c".to_owned(),
        process: Box::new(serde_json::from_value(missing).unwrap()),
        timeout_ms: None,
    };
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let fds = [null.try_clone().unwrap(), null.try_clone().unwrap(), null];
    assert_eq!(client.call_with(call, &fds).unwrap_err().kind, FailureKind::CannotRun);
    pod.down(&mut client);
}

#[test]
fn attached_clients_type_and_read() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("while read line; do echo got $line; done; echo end");
    let mut client = pod.up();
    client.begin(&pod);
    let (stdin, mut typing) = std::io::pipe().unwrap();
    let (mut reading, stdout) = std::io::pipe().unwrap();
    let (_errors, stderr) = std::io::pipe().unwrap();
    let fds: [OwnedFd; 3] = [stdin.into(), stdout.into(), stderr.into()];
    client.call_with(Call::Attach { container: "c".to_owned(), stdin: true }, &fds).unwrap();
    drop(fds);
    typing.write_all(b"one\ntwo\n").unwrap();
    drop(typing);
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "got one\ngot two\nend\n", "stdin ended with the client's, and output with the container");
    assert_eq!(client.exited().exit.unwrap().code, 0);
    assert_eq!(pod.logged().len(), 3);
    client.done(Call::Delete { container: "c".to_owned() });
    client.done(Call::Shutdown);
}

#[test]
fn a_terminal_is_resized_and_its_output_logged() {
    if !require_root("supervises a pod") {
        return;
    }
    let mut pod = Pod::new("read x; stty size; test -t 0 && echo tty; exec sleep 1000");
    pod.bundle.config["process"]["terminal"] = json!(true);
    std::os::unix::fs::symlink("busybox", pod.bundle.rootfs().join("bin/test")).unwrap();
    let mut client = pod.up();
    client.begin(&pod);
    client.done(Call::Resize { container: "c".to_owned(), exec: None, width: 120, height: 40 });
    let (stdin, mut typing) = std::io::pipe().unwrap();
    let null: OwnedFd = std::fs::File::options().write(true).open("/dev/null").unwrap().into();
    let fds: [OwnedFd; 3] = [stdin.into(), null.try_clone().unwrap(), null];
    client.call_with(Call::Attach { container: "c".to_owned(), stdin: true }, &fds).unwrap();
    typing.write_all(b"go\n").unwrap();
    until("the terminal's size is logged", || pod.logged().iter().any(|line| line.contains("40 120")));
    until("it is a terminal", || pod.logged().iter().any(|line| line.contains("F tty")));
    pod.down(&mut client);
}

#[test]
fn the_memory_killer_is_told_apart() {
    if !require_root("supervises a pod") {
        return;
    }
    let mut pod = Pod::new("head -c 200000000 /dev/zero | tail > /dev/null; exit 9");
    pod.bundle.config["process"]["args"] = json!(["/bin/tail", "/dev/zero"]);
    pod.bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    let mut client = pod.up();
    client.begin(&pod);
    let exit = client.exited().exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, 9, true));
    client.done(Call::Delete { container: "c".to_owned() });
    client.done(Call::Shutdown);
}

#[test]
fn one_pid_namespace_can_be_shared() {
    if !require_root("supervises a pod") {
        return;
    }
    let mut pod = Pod::new("exec sleep 1000");
    pod.bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
    let mut client = pod.up_with(|config| config["sharePid"] = json!(true));
    client.begin(&pod);
    let (out, exit) = client.exec("ps", None);
    assert_eq!(exit.code, 0);
    assert!(
        out.lines().any(|line| line.trim_start().starts_with("1 ") && !line.contains("sleep")),
        "init is not the container's: {out}"
    );
    assert!(out.contains("sleep 1000"), "{out}");
    pod.down(&mut client);
}

#[test]
fn what_a_dead_supervisor_left_can_be_cleaned() {
    if !require_root("kills a supervisor") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    client.begin(&pod);
    let Reply::Hello { pid, .. } = client.call(Call::Hello) else { panic!("hello") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("it is gone", || UnixStream::connect(pod.dir().join("shim.sock")).is_err());
    assert_eq!(pod.bundle.status(), "running", "the container runs on");
    assert_eq!(pod.bundle.runc(&["delete", "--force", "c"]).status.code(), Some(0));
    assert!(pod.bundle.cgroup_dirs().iter().all(|dir| !dir.join("pod/c").exists()));
}

#[test]
fn a_broken_client_is_cut_off_and_others_are_served() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    for junk in [&b"\xff\xff\xff\xff"[..], b"\x02\x00\x00\x00{]", b"\x05\x00\x00\x00{}"] {
        let mut broken = pod.connect();
        broken.socket.write_all(junk).unwrap();
        broken.socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        broken.socket.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
    client.begin(&pod);
    pod.down(&mut client);
}

#[test]
fn the_same_holds_on_cgroup_v2_in_a_vm() {
    common::again_in_a_vm(Guest::PureV2, &[]);
}
