//! containerd and its `ctr` over our runtime: once with our own shim, once with containerd's runc shim that is given our
//! binary. The same story is told to both, and containerd must hear the same events.
//!
//! `make conformance-runtime` fetches containerd into `.cache/peers` and says so by PINTLE_PEERS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::{require_root, until};

const PINTLE: &[&str] = &["--runtime", "io.containerd.pintle.v1"];
const RUNC: &[&str] = &["--runtime", "io.containerd.runc.v2", "--runc-binary", env!("CARGO_BIN_EXE_pintle-runc")];

const CONFIG: &str = r#"
version = 2
root = "/run/ctd/root"
state = "/run/ctd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/ctd/containerd.sock"
"#;

/// The directory with containerd's programs.
fn peers() -> Option<PathBuf> {
    let named = std::env::var_os("PINTLE_PEERS").map(PathBuf::from);
    let cached = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/peers"));
    let must = named.is_some();
    let bin = named.unwrap_or(cached).join("usr/bin");
    let found = ["containerd", "ctr", "containerd-shim-runc-v2"].iter().all(|program| bin.join(program).exists());
    assert!(found || !must, "no containerd in {}", bin.display());
    if !found {
        eprintln!("SKIPPED: needs containerd in {} (cargo xtask peers; make conformance-runtime)", bin.display());
    }
    found.then_some(bin)
}

/// A containerd with a /run of its own.
struct World {
    dir: tempfile::TempDir,
    bin: PathBuf,
    namespace: String,
    /// Holds the mount and the network namespace open.
    holder: Child,
    containerd: Option<Child>,
}

impl World {
    fn new(bin: PathBuf) -> World {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        for sub in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in ["sh", "echo", "cat", "sleep", "tty"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let shims = dir.path().join("shims");
        std::fs::create_dir(&shims).unwrap();
        let ours = env!("CARGO_BIN_EXE_pintle-runc");
        std::os::unix::fs::symlink(ours, shims.join("containerd-shim-pintle-v1")).unwrap();
        std::fs::write(dir.path().join("config.toml"), CONFIG).unwrap();
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/ctd && echo ready && exec sleep 100000";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut word).unwrap();
        assert_eq!(word, "ready\n");
        let namespace = format!("pintle-{}", dir.path().file_name().unwrap().to_string_lossy().replace('.', ""));
        let mut world = World { dir, bin, namespace, holder, containerd: None };
        world.start_containerd();
        world
    }

    /// A command in this world.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let path = format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("shims").display(), self.bin.display());
        command.args(["-t", &self.holder.id().to_string(), "-m", "-n", program]).env("PATH", path);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start_containerd(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("containerd.log")).unwrap();
        let config = self.path("config.toml");
        let mut command = self.command("containerd");
        self.containerd = Some(command.arg("-c").arg(config).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("containerd answers", || self.ctr(&["version"]).status.success());
    }

    fn kill_containerd(&mut self) {
        let mut containerd = self.containerd.take().unwrap();
        containerd.kill().unwrap();
        containerd.wait().unwrap();
    }

    fn ctr_command(&self, args: &[&str]) -> Command {
        let mut command = self.command("ctr");
        command.args(["-a", "/run/ctd/containerd.sock", "-n", &self.namespace]).args(args);
        command
    }

    fn ctr(&self, args: &[&str]) -> Output {
        self.ctr_command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// What a successful call prints.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.ctr(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = || std::fs::read_to_string(self.path("containerd.log")).unwrap_or_default();
        assert!(output.status.success(), "ctr {args:?}: {said}\n{}", log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a call prints, and its exit code.
    fn result(&self, args: &[&str]) -> (String, Option<i32>) {
        let output = self.ctr(args);
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }

    fn run(&self, how: &[&str], flags: &[&str], id: &str, process: &[&str]) -> Output {
        let rootfs = self.path("rootfs");
        let args = [&["run"], flags, how, &["--rootfs", rootfs.to_str().unwrap(), id], process].concat();
        self.ctr(&args)
    }

    /// Pid and status of a task.
    fn task(&self, id: &str) -> Option<(i32, String)> {
        let table = self.ok(&["task", "ls"]);
        let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row[0] == id)?;
        Some((row[1].parse().unwrap(), row[2].to_owned()))
    }

    fn is(&self, id: &str, status: &str) -> bool {
        self.task(id).is_some_and(|(_, now)| now == status)
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let layout = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        layout.chain([PathBuf::from("/sys/fs/cgroup")]).map(|dir| dir.join(&self.namespace)).collect()
    }
}

/// A failing test must leave nothing behind either.
impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut containerd) = self.containerd.take() {
            let _may_be_gone = containerd.kill();
            let _reaped = containerd.wait();
        }
        let ours = std::fs::read_link(format!("/proc/{}/ns/mnt", self.holder.id())).ok();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let shim = std::fs::read_link(entry.path().join("ns/mnt")).ok() == ours;
            if let (true, Ok(pid)) = (shim, entry.file_name().to_string_lossy().parse::<i32>()) {
                let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let _reaped = self.holder.wait();
        for dir in self.cgroups() {
            let _only_if_empty = std::fs::remove_dir(dir);
        }
    }
}

/// Topics of the events containerd was sent, in order.
struct Events {
    child: Child,
    lines: Receiver<String>,
}

impl Events {
    fn listen(world: &World) -> Events {
        let mut child = world.ctr_command(&["events"]).stdout(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        // Whether it listens already shows only by something to hear.
        world.ok(&["container", "create", "--rootfs", world.path("rootfs").to_str().unwrap(), "probe"]);
        let heard = || lines.recv_timeout(std::time::Duration::from_millis(100)).is_ok();
        until("a listener hears something", || {
            world.ok(&["container", "label", "probe", "listening=yes"]);
            heard()
        });
        world.ok(&["container", "rm", "probe"]);
        Events { child, lines }
    }

    fn until(&mut self, last: &str) -> Vec<String> {
        let mut topics = Vec::new();
        while topics.last().is_none_or(|topic| topic != last) {
            let line = self.lines.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
            topics.extend(line.split_whitespace().find(|word| word.starts_with("/tasks/")).map(str::to_owned));
        }
        topics
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _may_be_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A life of containers; gives the events of its first part.
fn story(world: &mut World, how: &[&str]) -> Vec<String> {
    let mut events = Events::listen(world);
    let short = world.run(how, &["--rm"], "short", &["/bin/sh", "-c", "echo hello; echo err >&2; exit 7"]);
    assert_eq!(String::from_utf8_lossy(&short.stdout), "hello\n");
    assert_eq!((String::from_utf8_lossy(&short.stderr).contains("err"), short.status.code()), (true, Some(7)));
    let missing = world.run(how, &["--rm"], "missing", &["/bin/nope"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("no such file or directory"), "{said}");
    assert_eq!(world.task("missing"), None);
    world.ctr(&["container", "rm", "missing"]);

    let script = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    assert!(world.run(how, &["-d"], "long", &["/bin/sh", "-c", script]).status.success());
    assert!(world.is("long", "RUNNING"));
    let exec = |id, args: &[&str]| world.result(&[&["task", "exec", "--exec-id", id, "long"], args].concat());
    assert_eq!(exec("e1", &["/bin/sh", "-c", "echo out; exit 3"]), ("out\n".to_owned(), Some(3)));
    assert_eq!(typed(world), "through stdin\n");
    let (pid, _) = world.task("long").unwrap();
    assert!(world.ok(&["task", "ps", "long"]).contains(&pid.to_string()));
    assert!(world.ok(&["task", "metrics", "long"]).contains("pids.current"));
    world.ok(&["task", "pause", "long"]);
    assert!(world.is("long", "PAUSED"));
    world.ok(&["task", "resume", "long"]);
    assert!(world.is("long", "RUNNING"));
    let heard = events.until("/tasks/resumed");

    world.kill_containerd();
    world.start_containerd();
    assert!(world.is("long", "RUNNING"), "a task outlives containerd");
    assert_eq!(world.task("long").unwrap().0, pid);
    let exec = |id, args: &[&str]| world.result(&[&["task", "exec", "--exec-id", id, "long"], args].concat());
    assert_eq!(exec("e3", &["/bin/echo", "again"]), ("again\n".to_owned(), Some(0)));
    world.ok(&["task", "kill", "-s", "TERM", "long"]);
    until("it has ended", || world.is("long", "STOPPED"));
    let said = world.ctr(&["task", "rm", "long"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("non-zero exit code 4"));
    world.ok(&["container", "rm", "long"]);
    heard
}

fn typed(world: &World) -> String {
    let mut command = world.ctr_command(&["task", "exec", "--exec-id", "e2", "long", "/bin/cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through stdin\n").unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn terminal(world: &World, how: &[&str]) {
    let rootfs = world.path("rootfs");
    let args = [&["run", "--rm", "-t"], how, &["--rootfs", rootfs.to_str().unwrap(), "term", "/bin/tty"]].concat();
    let ctr = world.ctr_command(&args);
    let words = std::iter::once(ctr.get_program()).chain(ctr.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    script.envs(ctr.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let said = script.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("/dev/pts/0"), "{text}");
}

/// kill -9 of a shim: containerd has its remains removed by the shim's `delete`.
fn killed_shim(world: &World, how: &[&str]) {
    assert!(world.run(how, &["-d"], "orphan", &["/bin/sleep", "1000"]).status.success());
    let (pid, _) = world.task("orphan").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    assert!(shim > 1, "the shim is the parent");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("its container is ended", || !Path::new(&format!("/proc/{pid}")).exists());
    let cgroups: Vec<_> = world.cgroups().iter().map(|dir| dir.join("orphan")).collect();
    until("its cgroups are removed", || cgroups.iter().all(|dir| !dir.exists()));
    until("containerd has seen it", || world.task("orphan").is_none_or(|(_, status)| status != "RUNNING"));
    world.ctr(&["task", "rm", "-f", "orphan"]);
    world.ok(&["container", "rm", "orphan"]);
}

#[test]
fn containerd_hears_the_same_from_our_shim_as_from_its_own() {
    if !require_root("runs containerd") {
        return;
    }
    let Some(bin) = peers() else { return };
    let mut world = World::new(bin);
    let theirs = story(&mut world, RUNC);
    let ours = story(&mut world, PINTLE);
    assert_eq!(ours, theirs);
    let kinds: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
    insta::assert_snapshot!(Vec::from_iter(kinds).join("\n"), @"
    /tasks/create
    /tasks/delete
    /tasks/exec-added
    /tasks/exec-started
    /tasks/exit
    /tasks/paused
    /tasks/resumed
    /tasks/start
    ");
    for how in [RUNC, PINTLE] {
        terminal(&world, how);
    }
    killed_shim(&world, PINTLE);
    let list = |dir: &str| world.command("ls").arg(dir).output().unwrap().stdout;
    assert_eq!(String::from_utf8(list("/run/containerd/s")).unwrap(), "", "no shim's socket is left");
}

/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];

/// In a VM, for this needs a kernel that CRIU knows.
#[test]
fn a_task_is_checkpointed_and_another_goes_on_where_it_was() {
    if !require_root("QEMU, a kernel with 9p, containerd, and CRIU from Debian's packages") {
        return;
    }
    let Some(bin) = peers() else { return };
    let peers = bin.ancestors().nth(2).unwrap().canonicalize().unwrap();
    let shim = Path::new(env!("CARGO_BIN_EXE_pintle-runc"));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let boot = || {
        Command::new(repository.join("vagrant/vm/run.sh"))
            .args(["-d", "1G", "-m", "1500", "-t", "890", "-s"])
            .arg(repository)
            .arg("-s")
            .arg(shim.parent().unwrap())
            .arg("-s")
            .arg(&peers)
            .args(["--", "bash", "runtime/tests/checkpoint.sh"])
            .current_dir(repository)
            .env("GUEST_ENV", format!("SHIM={} PEERS={}", shim.display(), peers.display()))
            .output()
            .unwrap()
    };
    let mut output = boot();
    // Software emulation dies now and then; the product's own failures have other codes and are not tried again.
    if output.status.code().is_some_and(|code| VM_FAILED.contains(&code)) {
        output = boot();
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("all is well"), "{}\n{said}", output.status);
}
