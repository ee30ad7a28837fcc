//! The pod supervisor over its socket: what the kubelet relies on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use common::{Bundle, require_root, until};
use pintle_shim::{Call, ContainerState, ContainerStatus, Event, Exit, FailureKind, Message, Reply, Request};
use serde_json::json;

/// A pod with one container's bundle.
struct Pod {
    bundle: Bundle,
}

struct Client {
    socket: UnixStream,
    next: u64,
    events: Vec<Event>,
    fds: Vec<OwnedFd>,
}

impl Pod {
    fn new(script: &str) -> Pod {
        let mut bundle = Bundle::new(script);
        bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}]);
        bundle.config.as_object_mut().unwrap().remove("hostname");
        bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/pod/c", bundle.cgroup));
        Pod { bundle }
    }

    fn dir(&self) -> PathBuf {
        self.bundle.path().join("pod")
    }

    fn log(&self) -> PathBuf {
        self.bundle.path().join("logs/0.log")
    }

    fn up(&self) -> Client {
        self.up_with(|_| {})
    }

    fn up_with(&self, change: impl Fn(&mut serde_json::Value)) -> Client {
        self.bundle.write();
        std::fs::create_dir_all(self.dir()).unwrap();
        let mut config = json!({
            "podUid": "uid", "dir": self.dir(), "runtimeRoot": self.bundle.root(), "netns": null, "hostname": "mypod",
            "hostIpc": false, "sharePid": false, "sysctls": [], "podCgroup": format!("{}/pod", self.bundle.cgroup),
            "podResources": {"pids": {"limit": 200}}
        });
        change(&mut config);
        let file = self.bundle.path().join("shim.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let output = self.bundle.runc(&["shim", "--config", &file.to_string_lossy()]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n", "{}", String::from_utf8_lossy(&output.stderr));
        self.connect()
    }

    fn connect(&self) -> Client {
        let socket = UnixStream::connect(self.dir().join("shim.sock")).unwrap();
        Client { socket, next: 0, events: Vec::new(), fds: Vec::new() }
    }

    fn create(&self) -> Call {
        Call::Create {
            container: "c".to_owned(),
            bundle: self.bundle.path().to_owned(),
            log_path: Some(self.log()),
            stdin: true,
            stdin_once: true,
            log_max_bytes: 0,
            log_max_files: 1,
        }
    }

    fn logged(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn down(&self, client: &mut Client) {
        client.done(kill(9));
        client.exited();
        client.done(Call::Delete { container: "c".to_owned() });
        client.done(Call::Shutdown);
        assert!(!self.dir().exists(), "the supervisor removes its directory");
        assert!(self.bundle.cgroup_dirs().iter().all(|dir| !dir.join("pod").exists()), "and the pod's cgroup");
    }
}

/// A failing test must leave no supervisor behind.
impl Drop for Pod {
    fn drop(&mut self) {
        if let Ok(socket) = UnixStream::connect(self.dir().join("shim.sock")) {
            let pid = pintle_sys::scm::peer(&socket).unwrap().pid();
            let _may_be_gone =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Client {
    fn message(&mut self) -> Message {
        let mut head = [0; 4];
        let n = pintle_sys::scm::receive(&self.socket, &mut head, &mut self.fds).unwrap();
        assert_ne!(n, 0, "the supervisor hung up");
        self.socket.read_exact(&mut head[n..]).unwrap();
        let mut body = vec![0; u32::from_le_bytes(head) as usize];
        self.socket.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn call_with(&mut self, call: Call, fds: &[OwnedFd]) -> Result<Reply, pintle_shim::Failure> {
        self.next += 1;
        let body = serde_json::to_vec(&Request { id: self.next, call }).unwrap();
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend(body);
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let sent = pintle_sys::scm::send(&self.socket, &frame, &fds).unwrap();
        self.socket.write_all(&frame[sent..]).unwrap();
        loop {
            match self.message() {
                Message::Response(response) if response.id == self.next => return response.result,
                Message::Response(other) => panic!("an answer nobody asked for: {other:?}"),
                Message::Event(event) => self.events.push(event),
            }
        }
    }

    fn call(&mut self, call: Call) -> Reply {
        self.call_with(call, &[]).unwrap()
    }

    fn done(&mut self, call: Call) {
        assert_eq!(self.call(call), Reply::Done);
    }

    fn event(&mut self) -> Event {
        if self.events.is_empty() {
            match self.message() {
                Message::Event(event) => event,
                Message::Response(other) => panic!("an answer nobody asked for: {other:?}"),
            }
        } else {
            self.events.remove(0)
        }
    }

    fn exited(&mut self) -> ContainerState {
        match self.event() {
            Event::Exited { state } => state,
            Event::ExecExited { .. } => self.exited(),
        }
    }

    fn begin(&mut self, pod: &Pod) {
        self.call(Call::Subscribe);
        assert!(matches!(self.call(pod.create()), Reply::Created { pid } if pid > 0));
        self.done(Call::Start { container: "c".to_owned() });
    }

    /// Runs a script; its output and how it ended.
    fn exec(&mut self, script: &str, timeout_ms: Option<u64>) -> (String, Exit) {
        let process =
            json!({"user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]});
        let process = Box::new(serde_json::from_value(process).unwrap());
        let (mut reader, writer) = std::io::pipe().unwrap();
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let writer: OwnedFd = writer.into();
        let fds = [null, writer.try_clone().unwrap(), writer];
        let started = self.call_with(Call::Exec { container: "c".to_owned(), process, timeout_ms }, &fds).unwrap();
        drop(fds);
        assert!(matches!(started, Reply::ExecStarted { .. }));
        let mut out = String::new();
        reader.read_to_string(&mut out).unwrap();
        match self.event() {
            Event::ExecExited { exit, .. } => (out, exit),
            other => panic!("{other:?}"),
        }
    }
}

fn kill(signal: i32) -> Call {
    Call::Kill { container: "c".to_owned(), signal, all: false }
}

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
