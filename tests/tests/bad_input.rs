//! What `pintle` answers on a machine that cannot do what it is asked: one clear message, the right exit code, and
//! nothing left behind. Each machine is made of namespaces, and lacks one thing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{BUSYBOX_IMAGE, Cluster, Machine, Scope, eventually, require_root, target_binary};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A machine with the programs at `/run/bin`, where everybody may read them.
struct Bench {
    machine: Machine,
    scratch: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        if !require_root("a machine of namespaces") {
            return None;
        }
        let machine = Machine::new("host", &[]);
        let bin = target_binary("pintle");
        machine.sh(&format!("mkdir /run/bin && mount --bind '{}' /run/bin", bin.parent().unwrap().display()));
        Some(Self { machine, scratch: tempfile::Builder::new().prefix("pintle-bad-").tempdir().unwrap() })
    }

    fn state_dir(&self) -> PathBuf {
        self.scratch.path().join("not/there/yet")
    }

    fn command(&self, prefix: &[&str], args: &[&str]) -> Command {
        let words: Vec<&str> = prefix.iter().chain(&["/run/bin/pintle"]).chain(args).copied().collect();
        let mut command = self.machine.command(words[0]);
        command.args(&words[1..]).env("PINTLE_STATE_DIR", self.state_dir()).stdin(Stdio::null());
        command
    }

    /// Fails with `code`, says all of `says` on standard error and nothing on standard output, and leaves nothing.
    fn refuses(&self, prefix: &[&str], args: &[&str], code: i32, says: &[&str]) {
        let output = self.command(prefix, args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "pintle {args:?}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
        for words in says {
            assert!(said.contains(words), "pintle {args:?} does not say {words:?}: {said}");
        }
        assert_eq!(said.matches("error: ").count(), 1, "one message: {said}");
        self.assert_nothing_left(args);
    }

    fn assert_nothing_left(&self, args: &[&str]) {
        let scope = Scope { paths: vec![self.scratch.path().to_owned()], cgroup: "pintle".to_owned() };
        let mut left = scope.leftovers(&self.machine, &[]);
        left.extend(self.machine.sh("ls -d /run/pintle 2>/dev/null || true").lines().map(str::to_owned));
        left.extend(std::fs::read_dir(self.scratch.path()).unwrap().map(|e| e.unwrap().path().display().to_string()));
        assert!(left.is_empty(), "pintle {args:?} left {left:#?}");
    }
}

/// A listener on a TCP port of the machine, and its process.
struct Occupied(Child);

impl Occupied {
    fn new(machine: &Machine, port: u16) -> Self {
        let script = format!(
            "import socket,sys; s=socket.socket(); s.bind(('0.0.0.0',{port})); s.listen(); print('up',flush=True); \
             sys.stdin.read()"
        );
        let mut python = machine.command("python3");
        let mut child = python.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0_u8; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        Self(child)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(e) = self.0.wait() {
            eprintln!("the listener did not end: {e}");
        }
    }
}

#[test]
fn who_is_not_root_is_told_what_is_needed() {
    let Some(bench) = Bench::new() else { return };
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    bench.refuses(&nobody, &["up"], 3, &["pintle up needs root", "sudo pintle up"]);
    let check = bench.command(&nobody, &["check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(3));
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    for words in ["FAIL  root", "sudo pintle", "CAP_SYS_ADMIN", "ok    kernel version"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_port_in_use_is_named_before_anything_is_made() {
    let Some(bench) = Bench::new() else { return };
    let _taken = Occupied::new(&bench.machine, 6443);
    bench.refuses(&[], &["up", "--host-network"], 3, &["ports: in use: 6443", "ss -ltnp"]);
    bench.refuses(&[], &["server"], 1, &["cannot listen on 0.0.0.0:6443", "Address already in use", "choose another"]);
}

#[test]
fn a_full_disk_is_named_before_anything_is_made() {
    let Some(bench) = Bench::new() else { return };
    bench.machine.sh("mkdir /run/small && mount -t tmpfs -o size=1m tmpfs /run/small");
    let says = ["disk: 1 MiB free", "choose another --state-dir"];
    bench.refuses(&[], &["up", "--state-dir=/run/small/state"], 3, &says);
    assert_eq!(bench.machine.sh("ls -A /run/small"), "");
}

#[test]
fn a_kernel_without_overlayfs_is_named_and_check_lists_it_among_the_rest() {
    let Some(bench) = Bench::new() else { return };
    bench.machine.sh("grep -v overlay /proc/filesystems > /run/fs && mount --bind /run/fs /proc/filesystems && \
         { [ ! -d /lib/modules ] || mount -t tmpfs tmpfs /lib/modules; }");
    bench.refuses(&[], &["up"], 3, &["overlayfs: the kernel does not know it", "CONFIG_OVERLAY_FS", "pintle check"]);
    let check = bench.command(&[], &["check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(3));
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("FAIL  overlayfs") && said.contains("ok    nf_tables"), "{said}");
}

#[test]
fn wrong_words_are_named_with_their_flag() {
    let Some(bench) = Bench::new() else { return };
    bench.refuses(&[], &["up", "--nonsense"], 2, &["unexpected argument '--nonsense'"]);
    bench.refuses(&[], &["up", "--link-cidr=x"], 1, &["--link-cidr", "is not an address range like"]);
    bench.refuses(&[], &["up", "--service-cidr=10.0.0.0/40"], 1, &["--service-cidr", "is not an address range like"]);
    bench.refuses(&[], &["agent", "--server=https://127.0.0.1:1", "--token=K10bad"], 1, &["join token is malformed"]);
    bench.refuses(&[], &["up", "--state-dir=/proc/x"], 1, &["cannot make /proc/x"]);
}

/// The pod `one` and whether its container is still the first one.
fn one(cluster: &Cluster) -> String {
    let jsonpath = "jsonpath={.status.phase} {.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].containerID}";
    let output = cluster.kubectl("v1.37").args(["get", "pod", "one", "-o", jsonpath]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_second_cluster_is_refused_what_the_first_has_and_the_first_goes_on() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::start();
    let run = format!("run one --image={BUSYBOX_IMAGE} --image-pull-policy=Never -- sh -c");
    let script = "trap exit TERM; echo hello; sleep 3600 & wait";
    let made = cluster.kubectl("v1.37").args(run.split(' ')).arg(script).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let running = eventually("the pod runs", Duration::from_secs(60), || {
        Some(one(&cluster)).filter(|text| text.starts_with("Running true 0 "))
    });
    let second = cluster.scratch().join("second");
    let state = format!("--state-dir={}", second.display());
    let own_run = format!("--run-dir={}", cluster.scratch().join("r2").display());
    let [cgroup, logs] = cluster.node_flags();
    let with = |flags: &[&str]| [&["up", &state, &logs], flags].concat().join(" ");
    let refusals = [
        // The first thing that is missing is named; each attempt has one more thing of its own.
        (with(&[&cgroup, &own_run]), "--link-name pintle0 is in use by another cluster"),
        (with(&[&cgroup, "--link-name=p1"]), "--run-dir "),
        (with(&[&cgroup, "--link-name=p1", &own_run]), "--cgroup-root "),
        (with(&["--link-name=p1", &own_run, "--cgroup-root=/pintle-second"]), "--pod-logs-dir "),
    ];
    for (words, says) in refusals {
        let output = cluster.pintle(&words.split(' ').collect::<Vec<_>>()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "pintle {words}: {said}");
        assert!(said.contains(says) && said.contains("another cluster on this machine"), "{words}: {said}");
        assert!(!cluster.scratch().join("r2").exists() && !second.exists(), "{words} left something: {said}");
    }
    std::fs::create_dir(&second).unwrap();
    let down = cluster.pintle(&["down", &state, &own_run, &cgroup, &logs]).output().unwrap();
    let said = String::from_utf8_lossy(&down.stderr).into_owned();
    assert!(down.status.code() == Some(1) && said.contains("--cgroup-root"), "{said}");
    assert_eq!(one(&cluster), running, "the first cluster's pod is as it was");
    let logs = cluster.kubectl("v1.37").args(["logs", "one"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&logs.stdout), "hello\n");
    cluster.down();
}

#[test]
fn without_cap_sys_resource_it_says_so_once_and_goes_on() {
    if !require_root("a cluster") {
        return;
    }
    let mut cluster = Cluster::prepare();
    let said = cluster.up_by(&["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]);
    assert_eq!(said.matches("CAP_SYS_RESOURCE").count(), 1, "{said}");
    cluster.down();
}
