//! containerd's option SystemdCgroup over our shim, under a real systemd: in a VM where this machine has none. The
//! command line's `--systemd-cgroup` is tested in tests/tests/systemd.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use common::{Bundle, Guest, until};
use pintle_ttrpc::task::{
    CreateRequest, KillRequest, PidResponse, ProcessRequest, RUNC_OPTIONS, RuncOptions, TaskRequest,
};
use pintle_ttrpc::{Any, Frame, REQUEST, Request, Response};
use prost::Message;
use serde_json::json;

/// Says what containerd says.
struct Shim {
    socket: UnixStream,
    stream: u32,
}

impl Shim {
    fn start(bundle: &Bundle) -> Shim {
        let program = bundle.path().join("containerd-shim-pintle-v1");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pintle-runc"), &program).unwrap();
        let mut start = Command::new(program);
        start.args(["-namespace", "pintle-test", "-id", "c", "start"]).current_dir(bundle.path());
        let output = start.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let path = said.strip_prefix("unix://").unwrap_or_else(|| panic!("{said}"));
        Shim { socket: UnixStream::connect(path).unwrap(), stream: 1 }
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
            options: Some(Any { type_url: RUNC_OPTIONS.to_owned(), value }),
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
    shim.call("Shutdown", &TaskRequest { id: "c".to_owned() }).unwrap();
    until("the shim has gone", || std::fs::read_dir("/run/containerd/s").unwrap().next().is_none());
}

#[test]
fn under_systemd_in_a_vm() {
    common::again_in_a_vm(Guest::Systemd);
}
