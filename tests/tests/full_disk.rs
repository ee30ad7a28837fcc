//! What the API server makes of a disk that fills under it, a damaged store, and a state directory that is in use.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{Machine, eventually, feed, kubectl, require_root, target_binary};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A machine whose state directory is a small file system of its own.
struct Host {
    machine: Machine,
    scratch: tempfile::TempDir,
    server: Option<Child>,
}

impl Host {
    fn new() -> Self {
        let scratch = tempfile::Builder::new().prefix("pintle-bad-").tempdir().unwrap();
        let machine = Machine::new("host", &[&scratch.path().join("state")]);
        Self { machine, scratch, server: None }
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    fn apiserver(&self, more: &[&str]) -> Command {
        let mut command = self.machine.command(target_binary("pintle"));
        command.args(["apiserver", "--bind-address=127.0.0.1"]).args(more).stdin(Stdio::null());
        command.env("PINTLE_STATE_DIR", self.state());
        command
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.scratch.path().join("log")).unwrap();
        let mut command = self.apiserver(&[]);
        self.server = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        eventually("the API server", LIMIT, || {
            let output = self.kubectl(&["get", "--raw=/readyz"]).output().unwrap();
            output.status.success().then_some(())
        });
    }

    fn stop(&mut self) {
        let mut server = self.server.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(server.wait().unwrap().success());
    }

    /// Starts a server that cannot; what it says, with the changing parts of paths and times left out.
    fn fails(&self, more: &[&str]) -> String {
        let output = self.apiserver(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).replace(self.scratch.path().to_str().unwrap(), "DIR");
        said.lines().skip_while(|l| !l.starts_with("error:")).collect::<Vec<_>>().join("\n")
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(kubectl("v1.37"));
        command.args(args).env("KUBECONFIG", self.state().join("kubeconfig")).env("HOME", self.scratch.path());
        command
    }

    fn room(&self, mebibytes: u32) {
        self.machine.sh(&format!("mount -o remount,size={mebibytes}m '{}'", self.state().display()));
    }

    /// Creates a ConfigMap of 200 KiB.
    fn put(&self, name: &str) -> Output {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default"}, "data": {"x": "y".repeat(200 << 10)}});
        feed(self.kubectl(&["create", "-f", "-"]), &object.to_string())
    }

    fn names(&self) -> Vec<String> {
        let args =
            ["get", "configmaps", "-n", "default", "-o", "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}"];
        let output = self.kubectl(&args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|name| name.starts_with("big-")).map(str::to_owned).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default());
        }
        if self.server.is_some() {
            self.stop();
        }
    }
}

#[test]
fn on_a_full_disk_reads_go_on_and_writes_again_once_there_is_room() {
    if !require_root("a file system of its own") {
        return;
    }
    let mut host = Host::new();
    host.room(64);
    host.start();
    let seen = host.scratch.path().join("seen");
    let mut watch = host.kubectl(&["get", "configmaps", "-n", "default", "-w", "-o", "name"]);
    let mut watch = watch.stdout(std::fs::File::create(&seen).unwrap()).spawn().unwrap();
    let used = host.machine.sh(&format!("du -sm '{}' | cut -f1", host.state().display()));
    host.room(used.trim().parse::<u32>().unwrap() + 2);
    let mut written = Vec::new();
    let refused = loop {
        let name = format!("big-{:02}", written.len());
        let output = host.put(&name);
        if !output.status.success() {
            break String::from_utf8_lossy(&output.stderr).into_owned();
        }
        written.push(name);
        assert!(written.len() < 100, "2 MiB hold no 20 MiB");
    };
    assert!(refused.contains("(InsufficientStorage)"), "{refused}");
    assert!(refused.contains("No space left on device"), "{refused}");
    assert!(refused.contains("reads are answered, writes once there is room"), "{refused}");
    assert_eq!(host.names(), written, "what was acknowledged, and nothing else");
    assert!(!host.put("big-still-full").status.success());
    host.room(64);
    let more = host.put("big-more");
    assert!(more.status.success(), "{}", String::from_utf8_lossy(&more.stderr));
    written.push("big-more".to_owned());
    assert_eq!(host.names(), written);
    eventually("the watch that began before shows what was written after", LIMIT, || {
        std::fs::read_to_string(&seen).unwrap().contains("configmap/big-more").then_some(())
    });
    watch.kill().unwrap();
    watch.wait().unwrap();
    host.stop();
    host.start();
    assert_eq!(host.names(), written, "after a start from the disk");
    host.stop();
}

#[test]
fn a_store_that_is_in_use_or_damaged_is_named_with_what_to_do() {
    if !require_root("a machine of its own") {
        return;
    }
    let mut host = Host::new();
    host.start();
    insta::assert_snapshot!(host.fails(&["--https-listen-port=6444"]), @r"
    error: the API server does not start
      cause: cannot open the store
      cause: the database DIR/state/server/db/objects.redb is in use by another process
      hint: another pintle server uses this state directory; stop it or choose another --state-dir
    ");
    host.stop();
    let file = host.state().join("server/db/objects.redb");
    host.machine.sh(&format!("head -c 100000 /dev/urandom > '{}'", file.display()));
    insta::assert_snapshot!(host.fails(&[]), @r"
    error: the API server does not start
      cause: cannot open the store
      cause: cannot open the database DIR/state/server/db/objects.redb
      cause: I/O error: Not a redb database: magic number mismatch
      hint: put back a copy of the file from a backup, or move it away: the server then starts with an empty cluster, whose nodes have to join again
    ");
}
