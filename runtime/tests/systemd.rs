//! containerd's option SystemdCgroup over our shim, under a real systemd: in a VM where this machine has none. The
//! command line's `--systemd-cgroup` is tested in tests/tests/systemd.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use common::{Bundle, Guest, until};
use pintle_ttrpc::events::ForwardRequest;
use pintle_ttrpc::options::{RUNC, RuncOptions};
use pintle_ttrpc::task::{CreateRequest, KillRequest, PidResponse, ProcessRequest, TaskRequest};
use pintle_ttrpc::{Any, Frame, REQUEST, RESPONSE, Request, Response};
use prost::Message;
use serde_json::json;

/// Says what containerd says, and hears what it hears.
struct Shim {
    socket: UnixStream,
    stream: u32,
    topics: Receiver<String>,
}

/// Takes events, and tells their topics.
fn hear(socket: UnixListener) -> Receiver<String> {
    let (heard, topics) = channel();
    std::thread::spawn(move || {
        let (mut from, _) = socket.accept().unwrap();
        let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            input.extend(&chunk[..length]);
            while let Some(frame) = Frame::take(&mut input).unwrap() {
                let request = Request::decode(frame.data.as_slice()).unwrap();
                let event = ForwardRequest::decode(request.payload.as_slice()).unwrap().envelope.unwrap();
                let _test_has_ended = heard.send(event.topic);
                let taken = Response { status: None, payload: Vec::new() }.encode_to_vec();
                from.write_all(&Frame { stream: frame.stream, kind: RESPONSE, data: taken }.encode()).unwrap();
            }
        }
    });
    topics
}

impl Shim {
    fn start(bundle: &Bundle) -> Shim {
        let program = bundle.path().join("containerd-shim-pintle-v1");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pintle-runc"), &program).unwrap();
        let mut start = Command::new(program);
        let events = bundle.path().join("events.sock");
        let topics = hear(UnixListener::bind(&events).unwrap());
        start.args(["-namespace", "pintle-test", "-id", "c", "start"]).current_dir(bundle.path());
        start.env("TTRPC_ADDRESS", events);
        let output = start.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let path = said.strip_prefix("unix://").unwrap_or_else(|| panic!("{said}"));
        Shim { socket: UnixStream::connect(path).unwrap(), stream: 1, topics }
    }

    /// Waits for an event, whatever comes before it.
    fn hears(&self, topic: &str) {
        let heard = || self.topics.recv_timeout(std::time::Duration::from_secs(30));
        while heard().unwrap_or_else(|_| panic!("{topic} was never heard of")) != topic {}
    }

    fn shut_down(&mut self) {
        self.call("Shutdown", &TaskRequest { id: "c".to_owned() }).unwrap();
        until("the shim has gone", || std::fs::read_dir("/run/containerd/s").unwrap().next().is_none());
    }

    fn call(&mut self, method: &str, message: &impl Message) -> Result<Vec<u8>, String> {
        let service = "containerd.task.v2.Task".to_owned();
        let request = Request { service, method: method.to_owned(), payload: message.encode_to_vec(), timeout_ns: 0 };
        let frame = Frame { stream: self.stream, kind: REQUEST, data: request.encode_to_vec() };
        self.stream += 2;
        self.socket.write_all(&frame.encode()).unwrap();
        let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(frame) = Frame::take(&mut input).unwrap() {
                let response = Response::decode(frame.data.as_slice()).unwrap();
                let failed = response.status.filter(|status| status.code != 0);
                return failed.map_or(Ok(response.payload), |status| Err(status.message));
            }
            let length = self.socket.read(&mut chunk).unwrap();
            assert_ne!(length, 0, "the shim hung up amid {method}");
            input.extend(&chunk[..length]);
        }
    }

    fn create(&mut self, bundle: &Bundle) -> Result<u32, String> {
        let value = RuncOptions { systemd_cgroup: true, ..RuncOptions::default() }.encode_to_vec();
        let request = CreateRequest {
            id: "c".to_owned(),
            bundle: bundle.path().to_string_lossy().into_owned(),
            options: Some(Any { type_url: RUNC.to_owned(), value }),
            ..CreateRequest::default()
        };
        self.call("Create", &request).map(|payload| PidResponse::decode(payload.as_slice()).unwrap().pid)
    }
}

fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "-P", name, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn containerds_option_makes_the_cgroup_a_unit() {
    if !Guest::Systemd.is_this_machine() {
        eprintln!("SKIPPED here: needs systemd and cgroup v2; runs in the VM of the test below");
        return;
    }
    let directory = Path::new("/sys/fs/cgroup/t.slice/t-shim.scope");
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.config["linux"]["cgroupsPath"] = json!("/not/for/systemd");
    bundle.write();
    let mut shim = Shim::start(&bundle);
    let error = shim.create(&bundle).unwrap_err();
    assert!(error.contains("expected to be of format \"slice:prefix:name\""), "{error}");
    bundle.config["linux"]["cgroupsPath"] = json!("t.slice:t:shim");
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 9}});
    bundle.write();
    let pid = shim.create(&bundle).unwrap();
    assert_eq!(std::fs::read_to_string(directory.join("cgroup.procs")).unwrap(), format!("{pid}\n"));
    assert_eq!(property("t-shim.scope", "TasksMax"), "9");
    let init = ProcessRequest { id: "c".to_owned(), exec_id: String::new() };
    shim.call("Start", &init).unwrap();
    let kill = KillRequest { id: "c".to_owned(), exec_id: String::new(), signal: 9, all: false };
    shim.call("Kill", &kill).unwrap();
    shim.call("Wait", &init).unwrap();
    shim.call("Delete", &init).unwrap();
    assert_eq!(property("t-shim.scope", "LoadState"), "not-found");
    assert!(!directory.exists());
    shim.shut_down();
}

#[test]
fn a_kill_for_memory_is_told_even_when_systemd_has_removed_the_cgroup_meanwhile() {
    if !Guest::Systemd.is_this_machine() {
        eprintln!("SKIPPED here: needs systemd and cgroup v2; runs in the VM of the test below");
        return;
    }
    let eats = "while [ ! -e /tmp/a ]; do sleep 0.05; done; head -c 200000000 /dev/zero | tail > /dev/null
        while [ ! -e /tmp/b ]; do sleep 0.05; done; exec tail /dev/zero";
    let mut bundle = Bundle::new(eats);
    bundle.config["linux"]["cgroupsPath"] = json!("t.slice:t:oom");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    bundle.write();
    let mut shim = Shim::start(&bundle);
    let pid = shim.create(&bundle).unwrap();
    let init = ProcessRequest { id: "c".to_owned(), exec_id: String::new() };
    shim.call("Start", &init).unwrap();
    shim.hears("/tasks/start");
    std::fs::write(bundle.rootfs().join("tmp/a"), "").unwrap();
    // A child was killed, the container goes on.
    shim.hears("/tasks/oom");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let parent = nix::unistd::Pid::from_raw(parent);
    nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGSTOP).unwrap();
    std::fs::write(bundle.rootfs().join("tmp/b"), "").unwrap();
    until("systemd has removed the cgroup", || !Path::new("/sys/fs/cgroup/t.slice/t-oom.scope").exists());
    nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGCONT).unwrap();
    shim.hears("/tasks/oom");
    shim.hears("/tasks/exit");
    shim.call("Delete", &init).unwrap();
    shim.shut_down();
}

#[test]
fn under_systemd_in_a_vm() {
    common::again_in_a_vm(Guest::Systemd, &[]);
}
