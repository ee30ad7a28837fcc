//! A bundle, a runtime root and a cgroup of their own for one test, all gone at its end.
#![allow(dead_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod pod;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

pub fn require_root(what_for: &str) -> bool {
    let root = nix::unistd::geteuid().is_root() && Path::new("/bin/busybox").exists();
    assert!(root || std::env::var_os("CI").is_none(), "CI needs root and /bin/busybox (busybox-static): {what_for}");
    if !root {
        eprintln!("SKIPPED: needs root and /bin/busybox (busybox-static): {what_for}");
    }
    root
}

/// Machines that this one may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// Cgroup v2 without v1 beside it.
    PureV2,
    /// The same, with systemd as the first process.
    Systemd,
}

impl Guest {
    pub fn is_this_machine(self) -> bool {
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        v2 && (self == Guest::PureV2 || Path::new("/run/systemd/system").is_dir())
    }
}

/// Runs the calling test binary once more on such a machine, those of its tests that have one of these words in their names
/// or all: in a VM, unless this one is so itself.
pub fn again_in_a_vm(guest: Guest, filters: &[&str]) {
    if guest.is_this_machine() || !require_root("QEMU and a kernel from Debian's packages") {
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let own = std::env::current_exe().unwrap();
    let runc = PathBuf::from(env!("CARGO_BIN_EXE_pintle-runc"));
    let run = || {
        Command::new(repository.join("vagrant/vm/run.sh"))
            .args(if guest == Guest::Systemd { &["-S"][..] } else { &[] })
            .args(["-m", "1024", "-t", "240", "-s"])
            .arg(repository)
            .arg("-s")
            .arg(runc.parent().unwrap())
            .args(["--", "bash", "runtime/tests/guest.sh"])
            .arg(&own)
            .args(filters)
            .current_dir(repository)
            .output()
            .unwrap()
    };
    let mut output = run();
    // Software emulation dies now and then (124, 125); the product's own failures have other codes.
    if matches!(output.status.code(), Some(124 | 125)) {
        output = run();
    }
    let (out, err, code) = texts(&output);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("test result: ok."), "{out}{err}");
}

pub struct Bundle {
    dir: tempfile::TempDir,
    pub cgroup: String,
    pub config: Value,
    /// Instead of the build under test.
    pub program: Option<PathBuf>,
}

/// `bin/pintle-runc`, which `make build` makes; CI builds before it tests.
pub fn static_binary() -> Option<PathBuf> {
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../bin/pintle-runc"));
    let named = std::env::var_os("PINTLE_BIN").map(|dir| PathBuf::from(dir).join("pintle-runc"));
    let found = named.into_iter().chain([built]).find(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "CI needs bin/pintle-runc (make build)");
    if found.is_none() {
        eprintln!("SKIPPED: needs bin/pintle-runc (make build)");
    }
    found
}

const APPLETS: [&str; 19] = [
    "sh", "ls", "cat", "sleep", "echo", "mount", "id", "ps", "hostname", "touch", "true", "tail", "dd", "stat",
    "mkdir", "readlink", "stty", "tr", "head",
];

impl Bundle {
    pub fn new(script: &str) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
        let root = dir.path().join("rootfs");
        for sub in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let name = dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let cgroup = format!("/pintle-test{name}");
        let config = config(script, &format!("{cgroup}/c"));
        Bundle { dir, cgroup, config, program: None }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("state")
    }

    pub fn write(&self) {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_pintle-runc"))));
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null());
        command
    }

    pub fn runc(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs to the end; stdout, stderr, exit code.
    pub fn run(&self) -> (String, String, i32) {
        self.write();
        let output = self.runc(&["run", "--bundle", &self.path().to_string_lossy(), "c"]);
        texts(&output)
    }

    /// Creates with output going to a file, which a waiting init would otherwise keep open.
    pub fn create(&self) -> i32 {
        self.write();
        let log = std::fs::File::create(self.path().join("out")).unwrap();
        let bundle = self.path().to_string_lossy().into_owned();
        let mut command = self.command(&["create", "--bundle", &bundle, "--pid-file", &format!("{bundle}/pid"), "c"]);
        command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().code().unwrap()
    }

    pub fn out(&self) -> String {
        std::fs::read_to_string(self.path().join("out")).unwrap()
    }

    pub fn status(&self) -> String {
        let output = self.runc(&["state", "c"]);
        let state: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or("none").to_owned()
    }

    pub fn cgroup_dirs(&self) -> Vec<PathBuf> {
        // v1 has its hierarchies below, v2 is one by itself.
        let top = PathBuf::from("/sys/fs/cgroup");
        let mounts = std::fs::read_dir(&top).unwrap().map(|m| m.unwrap().path()).chain([top]);
        mounts.map(|m| m.join(self.cgroup.trim_start_matches('/'))).filter(|p| p.exists()).collect()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _may_never_have_been = self.runc(&["delete", "--force", "c"]);
        for dir in self.cgroup_dirs() {
            let _a_failing_test_leaves_them =
                std::fs::remove_dir(dir.join("pod")).and_then(|()| std::fs::remove_dir(&dir));
            let _ = std::fs::remove_dir(dir);
        }
    }
}

pub fn texts(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

pub fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn config(script: &str, cgroup: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_CHOWN"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}, "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/no/such/path"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}
