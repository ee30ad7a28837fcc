//! Execs of a supervised container, and clients that vanish at any moment.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use common::pod::{Client, Pod};
use common::{require_root, until};
use pintle_shim::{Call, ContainerStatus, Event, FailureKind, Reply, Request};
use serde_json::json;

fn process(script: &str, terminal: bool) -> Box<oci_spec::runtime::Process> {
    let process = json!({
        "user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
        "terminal": terminal,
    });
    Box::new(serde_json::from_value(process).unwrap())
}

/// Starts an exec whose output is read with patience: small bites, and none before the writer has stopped for it.
fn read_slowly(client: &mut Client, megabytes: usize) -> usize {
    let call = Call::Exec {
        container: "c".to_owned(),
        process: process(&format!("/bin/busybox head -c {megabytes}000000 /dev/zero; exit 6"), false),
        timeout_ms: None,
    };
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let writer: OwnedFd = writer.into();
    let fds = [null, writer.try_clone().unwrap(), writer];
    client.call_with(call, &fds).unwrap();
    drop(fds);
    let (mut bite, mut taken) = ([0; 1500], 0);
    loop {
        match reader.read(&mut bite).unwrap() {
            0 => break,
            n => taken += n,
        }
        std::thread::yield_now();
    }
    match client.event() {
        Event::ExecExited { exit, .. } => assert_eq!(exit.code, 6),
        other => panic!("{other:?}"),
    }
    taken
}

#[test]
fn many_execs_at_once_lose_no_byte_of_long_outputs() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    client.begin(&pod);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut own = pod.connect();
                scope.spawn(move || (0..3).map(|_| read_slowly(&mut own, 3)).sum::<usize>())
            })
            .collect();
        // Meanwhile the supervisor forks for others, whose copies of its descriptors must hold nobody's pipe open.
        for _ in 0..20 {
            assert_eq!(client.exec("exit 2", None).1.code, 2);
        }
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 9_000_000);
        }
    });
    pod.down(&mut client);
}

#[test]
fn an_execs_terminal_is_resized_and_read() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    client.begin(&pod);
    let process = process("read x; stty size; exit 5", true);
    let call = Call::Exec { container: "c".to_owned(), process, timeout_ms: None };
    let Reply::ExecStarted { exec, .. } = client.call(call) else { panic!("started") };
    let mut console = std::fs::File::from(client.fds.pop().unwrap());
    let resize = |exec| Call::Resize { container: "c".to_owned(), exec: Some(exec), width: 132, height: 43 };
    client.done(resize(exec));
    console.write_all(b"go\n").unwrap();
    let mut said = Vec::new();
    // A terminal whose last user has gone reads as an error.
    let _eio = console.read_to_end(&mut said);
    assert_eq!(String::from_utf8(said).unwrap(), "go\r\n43 132\r\n");
    match client.event() {
        Event::ExecExited { exit, .. } => assert_eq!(exit.code, 5),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.call_with(resize(exec), &[]).unwrap_err().kind, FailureKind::NotFound);
    pod.down(&mut client);
}

/// What a client killed with SIGKILL leaves behind is a closed connection, after any number of bytes.
#[test]
fn a_client_that_dies_at_any_byte_of_any_call_does_no_harm() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut watcher = pod.up();
    watcher.call(Call::Subscribe);
    let named = || "c".to_owned();
    let create = frame(pod.create());
    for cut in (0..create.len()).step_by(41) {
        pod.connect().socket.write_all(&create[..cut]).unwrap();
    }
    assert_eq!(watcher.call(Call::List), Reply::Containers { containers: Vec::new() }, "nobody asked for anything");
    // The whole call counts, whether or not anybody waits for the answer.
    pod.connect().socket.write_all(&create).unwrap();
    until("it is created", || status(&pod) == Some(ContainerStatus::Created));
    let start = frame(Call::Start { container: named() });
    for cut in 0..start.len() {
        pod.connect().socket.write_all(&start[..cut]).unwrap();
    }
    assert_eq!(status(&pod), Some(ContainerStatus::Created));
    pod.connect().socket.write_all(&start).unwrap();
    until("it runs", || status(&pod) == Some(ContainerStatus::Running));
    // An exec whose client is gone before it started, and one whose descriptors never come.
    let exec = frame(Call::Exec { container: named(), process: process("sleep 0", true), timeout_ms: Some(1000) });
    pod.connect().socket.write_all(&exec).unwrap();
    let bare = frame(Call::Exec { container: named(), process: process("sleep 0", false), timeout_ms: None });
    pod.connect().socket.write_all(&bare).unwrap();
    assert_eq!(watcher.exec("exit 3", None).1.code, 3);
    until("no process of theirs is left", || processes_of(&pod) == 1);
    let delete = frame(Call::Delete { container: named() });
    pod.connect().socket.write_all(&delete).unwrap();
    assert_eq!(status(&pod), Some(ContainerStatus::Running), "a running container is not deleted");
    pod.down(&mut watcher);
}

fn frame(call: Call) -> Vec<u8> {
    let body = serde_json::to_vec(&Request { id: 1, call }).unwrap();
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

fn status(pod: &Pod) -> Option<ContainerStatus> {
    let Reply::Containers { containers } = pod.connect().call(Call::List) else { panic!("containers") };
    containers.first().map(|container| container.status)
}

/// Processes in the container's cgroup.
fn processes_of(pod: &Pod) -> usize {
    let dirs = pod.bundle.cgroup_dirs();
    let of = |dir: &std::path::PathBuf| std::fs::read_to_string(dir.join("pod/c/cgroup.procs")).unwrap_or_default();
    dirs.iter().map(|dir| of(dir).lines().count()).max().unwrap_or_default()
}
