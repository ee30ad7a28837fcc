//! The pod supervisor under load and bad luck: no byte is lost, and nobody holds up anybody else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use common::pod::{Client, Pod, kill};
use common::{require_root, until};
use pintle_shim::{Call, ContainerStatus, FailureKind, Reply};
use serde_json::json;

fn attach(client: &mut Client) -> std::io::PipeReader {
    let (reading, stdout) = std::io::pipe().unwrap();
    let stdout: OwnedFd = stdout.into();
    let fds = [stdout.try_clone().unwrap(), stdout];
    client.call_with(Call::Attach { container: "c".to_owned(), stdin: false }, &fds).unwrap();
    reading
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The lines of all files, pieces joined. A line's pieces may lie in two files: those are read in order of writing,
/// which their first entries' times tell.
fn lines(files: Vec<PathBuf>) -> Vec<String> {
    let mut texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    texts.sort();
    let (mut lines, mut pending) = (Vec::new(), String::new());
    for text in texts {
        for entry in text.lines() {
            let mut fields = entry.splitn(4, ' ');
            let (tag, text) = (fields.nth(2).unwrap(), fields.next().unwrap());
            assert!(text.len() <= 16 << 10);
            pending.push_str(text);
            if tag == "F" {
                lines.push(std::mem::take(&mut pending));
            }
        }
    }
    assert_eq!(pending, "");
    lines
}

#[test]
fn a_fast_writers_lines_survive_rotation_and_a_renamed_log() {
    if !require_root("supervises a pod") {
        return;
    }
    let long = "/bin/busybox head -c 100000 /dev/zero | tr '\\0' x; echo";
    let pod = Pod::new(&format!("read go; /bin/busybox seq 1 60000; {long}; /bin/busybox seq 60001 120000"));
    let mut client = pod.up();
    client.call(Call::Subscribe);
    client.call(pod.create_with(100_000, 1000));
    client.done(Call::Start { container: "c".to_owned() });
    let (stdin, mut typing) = std::io::pipe().unwrap();
    let null: OwnedFd = std::fs::File::options().write(true).open("/dev/null").unwrap().into();
    let fds: [OwnedFd; 3] = [stdin.into(), null.try_clone().unwrap(), null];
    client.call_with(Call::Attach { container: "c".to_owned(), stdin: true }, &fds).unwrap();
    typing.write_all(b"go\n").unwrap();
    let stamp =
        || format!("{:?}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
    for _ in 0..20 {
        // As a log agent does; the supervisor may be rotating at the same moment.
        let _may_be_between_two = std::fs::rename(pod.log(), format!("{}.{}", pod.log().display(), stamp()));
        client.done(Call::ReopenLog { container: "c".to_owned() });
    }
    assert_eq!(client.exited().exit.unwrap().code, 0);
    let found = files(pod.log().parent().unwrap());
    assert!(found.len() > 10, "it was rotated: {}", found.len());
    let mut numbers: Vec<String> = Vec::new();
    let mut longest = Vec::new();
    for line in lines(found) {
        if line.starts_with('x') { longest.push(line.len()) } else { numbers.push(line) }
    }
    assert_eq!(longest, [100_000]);
    numbers.sort_by_key(|line| line.parse::<u32>().unwrap());
    let expected: Vec<String> = (1..=120_000).map(|n: u32| n.to_string()).collect();
    assert_eq!(numbers.len(), expected.len());
    assert!(numbers == expected, "every line, once");
    client.done(Call::Delete { container: "c".to_owned() });
    client.done(Call::Shutdown);
}

#[test]
fn a_slow_reader_gets_every_byte_and_a_stuck_one_that_leaves_holds_nobody() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("read go; /bin/busybox head -c 4000000 /dev/zero; echo end");
    let mut client = pod.up();
    client.begin(&pod);
    let stuck = attach(&mut client);
    let mut slow = attach(&mut client);
    let (stdin, mut typing) = std::io::pipe().unwrap();
    let null: OwnedFd = std::fs::File::options().write(true).open("/dev/null").unwrap().into();
    let fds: [OwnedFd; 3] = [stdin.into(), null.try_clone().unwrap(), null];
    client.call_with(Call::Attach { container: "c".to_owned(), stdin: true }, &fds).unwrap();
    typing.write_all(b"go\n").unwrap();
    // Both have a full pipe and a full queue now, and the container waits for them.
    let written = || pod.log().metadata().unwrap().len();
    let last = std::cell::Cell::new(u64::MAX);
    until("output stands still", || {
        let now = written();
        std::thread::sleep(std::time::Duration::from_millis(50));
        now > 0 && last.replace(now) == now
    });
    assert!(last.get() < 1_000_000, "the container is held back: {}", last.get());
    assert_eq!(pod.bundle.status(), "running");
    // Others are served meanwhile.
    assert_eq!(client.exec("exit 5", None).1.code, 5);
    drop(stuck);
    let mut bytes = Vec::new();
    slow.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 4_000_004);
    assert!(bytes.ends_with(b"\0end\n"));
    assert_eq!(client.exited().exit.unwrap().code, 0);
    client.done(Call::Delete { container: "c".to_owned() });
    client.done(Call::Shutdown);
}

#[test]
fn what_is_queued_when_the_container_ends_is_still_delivered() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("/bin/busybox head -c 120000 /dev/zero");
    let mut client = pod.up();
    client.call(Call::Subscribe);
    client.call(pod.create());
    let mut reading = attach(&mut client);
    client.done(Call::Start { container: "c".to_owned() });
    client.exited();
    client.done(Call::Delete { container: "c".to_owned() });
    let mut bytes = Vec::new();
    reading.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 120_000);
    client.done(Call::Shutdown);
}

#[test]
fn a_hanging_hook_holds_up_nothing_but_its_container() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    client.begin(&pod);
    let other = pod.bundle.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let mut config = pod.bundle.config.clone();
    config["root"]["path"] = json!(pod.bundle.rootfs());
    config["linux"]["cgroupsPath"] = json!(format!("{}/pod/d", pod.bundle.cgroup));
    let mark = pod.bundle.path().join("hook-runs");
    let script = format!("touch {}; exec sleep 1000", mark.display());
    config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    std::fs::write(other.join("config.json"), config.to_string()).unwrap();
    let mut second = pod.connect();
    let create = Call::Create {
        container: "d".to_owned(),
        bundle: other,
        log_path: None,
        stdin: false,
        stdin_once: false,
        log_max_bytes: 0,
        log_max_files: 1,
    };
    let creating = second.ask(create.clone(), &[]);
    until("the hook runs", || mark.exists());
    assert_eq!(client.exec("exit 7", None).1.code, 7, "the other container is served");
    assert_eq!(client.call_with(create, &[]).unwrap_err().kind, FailureKind::Conflict, "it is being created");
    let starting = second.ask(Call::Start { container: "d".to_owned() }, &[]);
    client.done(Call::Kill { container: "d".to_owned(), signal: 9, all: false });
    assert_eq!(second.answer(creating).unwrap_err().kind, FailureKind::System);
    assert_eq!(second.answer(starting).unwrap_err().kind, FailureKind::NotFound, "it waited and found nothing");
    assert!(pod.bundle.cgroup_dirs().iter().all(|dir| !dir.join("pod/d").exists()), "nothing is left of it");
    assert!(!pod.bundle.root().join("d").exists());
    pod.down(&mut client);
}

#[test]
fn a_program_that_cannot_be_executed_fails_start_and_leaves_an_exit_record() {
    if !require_root("supervises a pod") {
        return;
    }
    let mut pod = Pod::new("");
    let program = pod.bundle.rootfs().join("bin/broken");
    std::fs::write(&program, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    pod.bundle.config["process"]["args"] = json!(["/bin/broken"]);
    let mut client = pod.up();
    client.call(Call::Subscribe);
    client.call(pod.create());
    let failure = client.call_with(Call::Start { container: "c".to_owned() }, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::CannotRun);
    assert!(failure.message.contains("interpreter"), "{failure}");
    let state = client.exited();
    assert_eq!((state.status, state.exit.unwrap().code), (ContainerStatus::Stopped, 128));
    client.done(Call::Delete { container: "c".to_owned() });
    client.done(Call::Shutdown);
}

#[test]
fn a_pod_has_one_supervisor() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    client.begin(&pod);
    let second = pod.start(|_| {});
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("has a supervisor already"), "{said}");
    let Reply::Hello { pid, .. } = client.call(Call::Hello) else { panic!("hello") };
    client.done(Call::Kill { container: "c".to_owned(), signal: 9, all: false });
    client.exited();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("it is gone", || std::os::unix::net::UnixStream::connect(pod.dir().join("shim.sock")).is_err());
    assert_eq!(pod.bundle.runc(&["delete", "--force", "c"]).status.code(), Some(0));
    let mut next = pod.up();
    next.begin(&pod);
    pod.down(&mut next);
}

#[test]
fn a_call_of_the_future_is_refused_and_the_connection_lives() {
    if !require_root("supervises a pod") {
        return;
    }
    let pod = Pod::new("exec sleep 1000");
    let mut client = pod.up();
    let body = br#"{"id":77,"call":{"op":"teleport","container":"c"}}"#;
    client.socket.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
    client.socket.write_all(body).unwrap();
    assert_eq!(client.answer(77).unwrap_err().kind, FailureKind::Invalid);
    client.begin(&pod);
    client.done(kill(0));
    pod.down(&mut client);
}
