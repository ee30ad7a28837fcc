//! A pod under a supervisor, and a client of it.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use pintle_shim::{Call, ContainerState, Event, Exit, Message, Reply, Request};
use serde_json::json;

use super::Bundle;

/// A pod with one container's bundle.
pub struct Pod {
    pub bundle: Bundle,
}

pub struct Client {
    pub socket: UnixStream,
    pub next: u64,
    pub events: Vec<Event>,
    pub fds: Vec<OwnedFd>,
}

impl Pod {
    pub fn new(script: &str) -> Pod {
        let mut bundle = Bundle::new(script);
        bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}]);
        bundle.config.as_object_mut().unwrap().remove("hostname");
        bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/pod/c", bundle.cgroup));
        Pod { bundle }
    }

    pub fn dir(&self) -> PathBuf {
        self.bundle.path().join("pod")
    }

    pub fn log(&self) -> PathBuf {
        self.bundle.path().join("logs/0.log")
    }

    pub fn up(&self) -> Client {
        self.up_with(|_| {})
    }

    pub fn up_with(&self, change: impl Fn(&mut serde_json::Value)) -> Client {
        let output = self.start(change);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n", "{}", String::from_utf8_lossy(&output.stderr));
        self.connect()
    }

    /// Starts a supervisor, or tries to.
    pub fn start(&self, change: impl Fn(&mut serde_json::Value)) -> std::process::Output {
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
        self.bundle.runc(&["shim", "--config", &file.to_string_lossy()])
    }

    pub fn connect(&self) -> Client {
        let socket = UnixStream::connect(self.dir().join("shim.sock")).unwrap();
        Client { socket, next: 0, events: Vec::new(), fds: Vec::new() }
    }

    pub fn create(&self) -> Call {
        self.create_with(0, 1)
    }

    pub fn create_with(&self, log_max_bytes: u64, log_max_files: u32) -> Call {
        Call::Create {
            container: "c".to_owned(),
            bundle: self.bundle.path().to_owned(),
            log_path: Some(self.log()),
            stdin: true,
            stdin_once: true,
            log_max_bytes,
            log_max_files,
        }
    }

    pub fn logged(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub fn down(&self, client: &mut Client) {
        client.done(kill(9));
        client.exited();
        client.done(Call::Delete { container: "c".to_owned() });
        client.shut_down();
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
    pub fn message(&mut self) -> Message {
        let mut head = [0; 4];
        let n = pintle_sys::scm::receive(&self.socket, &mut head, &mut self.fds).unwrap();
        assert_ne!(n, 0, "the supervisor hung up");
        self.socket.read_exact(&mut head[n..]).unwrap();
        let mut body = vec![0; u32::from_le_bytes(head) as usize];
        self.socket.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    pub fn call_with(&mut self, call: Call, fds: &[OwnedFd]) -> Result<Reply, pintle_shim::Failure> {
        self.ask(call, fds);
        self.answer(self.next)
    }

    /// Asks without waiting for the answer; gives the request's id.
    pub fn ask(&mut self, call: Call, fds: &[OwnedFd]) -> u64 {
        self.next += 1;
        let body = serde_json::to_vec(&Request { id: self.next, call }).unwrap();
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend(body);
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let sent = pintle_sys::scm::send(&self.socket, &frame, &fds).unwrap();
        self.socket.write_all(&frame[sent..]).unwrap();
        self.next
    }

    pub fn answer(&mut self, id: u64) -> Result<Reply, pintle_shim::Failure> {
        loop {
            match self.message() {
                Message::Response(response) if response.id == id => return response.result,
                Message::Response(other) => panic!("an answer nobody asked for: {other:?}"),
                Message::Event(event) => self.events.push(event),
            }
        }
    }

    pub fn call(&mut self, call: Call) -> Reply {
        self.call_with(call, &[]).unwrap()
    }

    /// Ends the supervisor, as soon as it has finished what clients that are gone asked of it.
    pub fn shut_down(&mut self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match self.call_with(Call::Shutdown, &[]) {
                Ok(reply) => return assert_eq!(reply, Reply::Done),
                Err(refusal) => assert!(refusal.message.ends_with("is being worked on"), "{refusal:?}"),
            }
            assert!(std::time::Instant::now() < deadline, "the supervisor is never done");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    pub fn done(&mut self, call: Call) {
        assert_eq!(self.call(call), Reply::Done);
    }

    pub fn event(&mut self) -> Event {
        if self.events.is_empty() {
            match self.message() {
                Message::Event(event) => event,
                Message::Response(other) => panic!("an answer nobody asked for: {other:?}"),
            }
        } else {
            self.events.remove(0)
        }
    }

    pub fn exited(&mut self) -> ContainerState {
        match self.event() {
            Event::Exited { state } => state,
            Event::ExecExited { .. } => self.exited(),
        }
    }

    pub fn begin(&mut self, pod: &Pod) {
        self.call(Call::Subscribe);
        assert!(matches!(self.call(pod.create()), Reply::Created { pid } if pid > 0));
        self.done(Call::Start { container: "c".to_owned() });
    }

    /// Runs a script; its output and how it ended.
    pub fn exec(&mut self, script: &str, timeout_ms: Option<u64>) -> (String, Exit) {
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

pub fn kill(signal: i32) -> Call {
    Call::Kill { container: "c".to_owned(), signal, all: false }
}
