//! A machine made of namespaces: its own network, mounts and `/run`, on the real kernel.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// One machine. It lives as long as a process that holds its namespaces; that process dies with the test, and with it
/// whatever network and mounts were in them. Processes started in it are the test's own to end.
pub struct Machine {
    name: String,
    holder: Child,
}

impl Machine {
    /// A machine with `lo` up, an empty `/run`, and paths `private` (created when missing) empty and its own.
    ///
    /// # Panics
    /// Without root, or when the kernel refuses.
    pub fn new(name: &str, private: &[&Path]) -> Self {
        let mut script = String::from("set -e; mount -t tmpfs -o mode=755 tmpfs /run; ip link set lo up; ");
        for path in private {
            std::fs::create_dir_all(path).expect("a directory to hide");
            script.push_str(&format!("mount -t tmpfs -o mode=755 tmpfs '{}'; ", path.display()));
        }
        // A reader that never gets a byte: it ends when the test does, however the test ends.
        script.push_str("echo ready; exec cat");
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is part of util-linux");
        let mut ready = [0_u8; 6];
        holder.stdout.as_mut().expect("piped above").read_exact(&mut ready).expect("the namespaces of a machine");
        Self { name: name.to_owned(), holder }
    }

    /// The name given to [`Machine::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds the namespaces: `/proc/<pid>/ns/net` and `/proc/<pid>/root`.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A file of this machine, by its absolute path there.
    pub fn path(&self, inside: &Path) -> PathBuf {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(relative)
    }

    /// A command that will run in this machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let pid = self.pid();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(format!("--mount=/proc/{pid}/ns/mnt")).arg("--");
        command.arg(program);
        command
    }

    /// Runs a shell script in this machine and gives its standard output.
    ///
    /// # Panics
    /// When it fails, with everything it said.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(
            output.status.success(),
            "on {}: {script}: {}\n{}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell script in this machine.
    ///
    /// # Panics
    /// When it cannot be started at all.
    pub fn try_sh(&self, script: &str) -> Output {
        self.command("sh").args(["-c", script]).output().expect("nsenter is part of util-linux")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(e) = self.holder.wait() {
            eprintln!("the machine {} did not end: {e}", self.name);
        }
    }
}

/// Joins two machines by a veth pair, an Ethernet segment of two: interface `name` on each, with the addresses given
/// (`192.0.2.1/24`).
///
/// # Panics
/// When the kernel refuses.
pub fn link(name: &str, a: (&Machine, &str), b: (&Machine, &str)) {
    let peer = format!("{name}p");
    a.0.sh(&format!("ip link add {name} type veth peer name {peer} netns {}", b.0.pid()));
    b.0.sh(&format!("ip link set {peer} name {name}"));
    for (machine, address) in [a, b] {
        machine.sh(&format!("ip addr add {address} dev {name} && ip link set {name} up"));
    }
}
