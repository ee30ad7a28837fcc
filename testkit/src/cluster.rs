//! A whole cluster for a test: `pintle up` on a [`Machine`] of its own, with directories and a cgroup of its own.

use crate::{Machine, Scope, helm, kubectl, repository, target_binary};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The image every [`Cluster`] holds: Debian's static busybox with all its applets, `/bin/sh`, `/tmp` and `/etc/passwd`.
pub const BUSYBOX_IMAGE: &str = "pintle.example/busybox:1";

/// One cluster with one node. Dropping it takes it down without checking; [`Cluster::down`] checks.
pub struct Cluster {
    machine: Machine,
    scratch: tempfile::TempDir,
    cgroup: String,
    is_up: bool,
}

impl Cluster {
    /// A machine with a Ready node and [`BUSYBOX_IMAGE`] in its store.
    ///
    /// # Panics
    /// Without root, or when `pintle up` fails, with everything it said.
    pub fn start() -> Self {
        let mut cluster = Self::prepare();
        cluster.up();
        cluster
    }

    /// The same, before `pintle up`.
    ///
    /// # Panics
    /// Without root, or when the image cannot be built.
    pub fn prepare() -> Self {
        let scratch = tempfile::Builder::new().prefix("pintle-e2e-").tempdir().expect("a temporary directory");
        let cgroup = format!("pintle-e2e-{}", std::process::id());
        let machine = Machine::new("host", &[]);
        let cluster = Self { machine, scratch, cgroup, is_up: false };
        cluster.build_image();
        cluster
    }

    /// The machine that plays the host: what `up` must not change.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A directory for the test's own files, gone with the cluster.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// `--state-dir`.
    pub fn state_dir(&self) -> PathBuf {
        self.scratch().join("state")
    }

    /// `--run-dir`, as seen inside the machine.
    pub fn run_dir(&self) -> PathBuf {
        self.scratch().join("run")
    }

    /// The flags that give this cluster its own cgroups and logs.
    pub fn node_flags(&self) -> [String; 2] {
        [
            format!("--cgroup-root=/{}", self.cgroup),
            format!("--pod-logs-dir={}", self.scratch().join("pod-logs").display()),
        ]
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state_dir().join("kubeconfig")
    }

    /// `pintle SUBCOMMAND` in the machine, with the directories of this cluster.
    pub fn pintle(&self, subcommand: &[&str]) -> Command {
        self.pintle_by(&[], subcommand)
    }

    /// The same, started by another program: `setpriv …`.
    fn pintle_by(&self, prefix: &[&str], subcommand: &[&str]) -> Command {
        let program = target_binary("pintle");
        let mut words = prefix.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        let mut command = self.machine.command(words.next().unwrap_or_default());
        command.args(words).args(subcommand);
        command.env("PINTLE_STATE_DIR", self.state_dir()).env("PINTLE_RUN_DIR", self.run_dir());
        command
    }

    /// A command on the host side of the machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.machine.command(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.scratch());
        command
    }

    /// kubectl of a version (`v1.37`, `v1.33`), as the administrator.
    pub fn kubectl(&self, version: &str) -> Command {
        self.client(&kubectl(version))
    }

    /// helm, as the administrator.
    pub fn helm(&self, version: &str) -> Command {
        self.client(&helm(version))
    }

    fn client(&self, program: &Path) -> Command {
        self.command(program.to_str().expect("the repository's path is UTF-8"))
    }

    /// Starts the cluster; on a running one this must change nothing.
    ///
    /// # Panics
    /// When it fails, with everything it said.
    pub fn up(&mut self) -> String {
        self.up_by(&[])
    }

    /// The same, started by another program: `setpriv …`.
    ///
    /// # Panics
    /// When it fails, with everything it said.
    pub fn up_by(&mut self, prefix: &[&str]) -> String {
        let mut command = self.pintle_by(prefix, &["up"]);
        command.args(self.node_flags());
        command.arg(format!("--runtime={}", target_binary("pintle-runc").display()));
        // Our own ends of its pipes must not outlive it in the daemons it leaves behind.
        let output = command.stdin(Stdio::null()).output().expect("pintle can be started");
        let said = text(&output);
        assert!(output.status.success(), "pintle up: {}\n{said}\n{}", output.status, self.logs());
        self.is_up = true;
        said
    }

    /// Stops the cluster and checks that nothing is left but the state directory.
    ///
    /// # Panics
    /// When it fails, or something is left.
    pub fn down(&mut self) -> String {
        let output = self.pintle(&["down"]).output().expect("pintle can be started");
        let said = text(&output);
        assert!(output.status.success(), "pintle down: {}\n{said}", output.status);
        self.is_up = false;
        let found = self.leftovers();
        assert!(found.is_empty(), "left behind by pintle down: {found:#?}\n{said}");
        said
    }

    /// Whatever of the cluster is still there besides its state directory.
    pub fn leftovers(&self) -> Vec<String> {
        let scope = Scope { paths: vec![self.scratch().to_owned()], cgroup: self.cgroup.clone() };
        let mut found = scope.leftovers(&self.machine, &[]);
        for path in [self.run_dir(), self.scratch().join("pod-logs"), self.state_dir().join("log")] {
            if path.exists() {
                found.push(format!("directory {}", path.display()));
            }
        }
        found
    }

    /// Our processes by role: `monitor`, `server`, `agent`, and a `shim` per pod.
    pub fn processes(&self) -> Vec<(String, i32)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            // A process that ended meanwhile is none.
            let Ok(raw) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let words: Vec<_> = raw.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
            if let Some(role) = role(&words, &self.scratch().to_string_lossy()) {
                found.push((role.to_owned(), pid));
            }
        }
        found.sort();
        found
    }

    /// The ends of the components' logs.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for name in ["monitor", "server", "agent"] {
            let path = self.state_dir().join("log").join(format!("{name}.log"));
            let Ok(log) = std::fs::read_to_string(&path) else { continue };
            let lines: Vec<_> = log.lines().collect();
            all.push_str(&format!("--- {name}.log\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n")));
        }
        all
    }

    fn build_image(&self) {
        build_busybox(self.pintle(&["image", "build"]));
    }
}

/// Completes a `pintle image build` to one of [`BUSYBOX_IMAGE`] and runs it.
///
/// # Panics
/// When it fails.
pub fn build_busybox(mut build: Command) {
    let applets = Command::new(crate::busybox()).arg("--list").output().expect("busybox runs");
    let applets = String::from_utf8_lossy(&applets.stdout).into_owned();
    build.arg(format!("--name={BUSYBOX_IMAGE}"));
    build.arg(format!("--file={}", repository().join("examples/busybox.yaml").display()));
    build.args(applets.lines().filter(|a| *a != "busybox").map(|a| format!("--symlink=busybox:/bin/{a}")));
    let output = build.output().expect("pintle can be started");
    assert!(output.status.success(), "pintle image build: {}\n{}", output.status, text(&output));
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_up || self.run_dir().exists() {
            if std::thread::panicking() {
                eprintln!("{}", self.logs());
            }
            match self.pintle(&["down"]).output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => eprintln!("pintle down: {}", text(&output)),
                Err(e) => eprintln!("pintle down: {e}"),
            }
        }
    }
}

/// What a process of ours is, by its command line.
fn role(words: &[String], scratch: &str) -> Option<&'static str> {
    let program = words.first()?.rsplit('/').next()?;
    if !words.iter().any(|w| w.contains(scratch)) {
        return None;
    }
    match (program, words.get(1).map(String::as_str)) {
        ("pintle", Some("up")) => Some("monitor"),
        ("pintle", Some("server")) => Some("server"),
        ("pintle", Some("agent")) => Some("agent"),
        ("pintle-runc", _) => Some("shim"),
        _ => None,
    }
}

/// Runs a command with `stdin` as its input.
///
/// # Panics
/// When it cannot be started or fed.
pub fn feed(mut command: Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started");
    let mut pipe = child.stdin.take().expect("piped above");
    match pipe.write_all(stdin.as_bytes()) {
        // It need not read all of it; its exit status tells.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other.expect("feed the command"),
    }
    drop(pipe);
    child.wait_with_output().expect("the command's output")
}

/// Standard output and error together, for people.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
