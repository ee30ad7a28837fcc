//! Runs kubectl and judges what it says: exit code, output, and silence on stderr (no warnings, no fallbacks).

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pintle_testkit::Cluster;

/// One kubectl binary talking to one cluster, from the machine the cluster runs on.
pub struct Kubectl<'a> {
    cluster: &'a Cluster,
    version: &'a str,
}

impl<'a> Kubectl<'a> {
    /// `version` is a directory name such as `v1.37`.
    pub fn new(cluster: &'a Cluster, version: &'a str) -> Kubectl<'a> {
        Kubectl { cluster, version }
    }

    /// The command, ready to be spawned.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.kubectl(self.version);
        command.args(args);
        command
    }

    /// helm must succeed; returns stdout.
    pub fn helm(&self, args: &[&str]) -> String {
        let output = self.cluster.helm(self.version).args(args).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "helm {args:?} ended with {}:\n{stdout}{stderr}", output.status);
        stdout.into_owned()
    }

    fn output(&self, args: &[&str], stdin: &str) -> Output {
        pintle_testkit::feed(self.command(args), stdin)
    }

    /// Must succeed and say nothing on stderr; returns stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "")
    }

    /// The same with text on stdin.
    pub fn ok_with(&self, args: &[&str], stdin: &str) -> String {
        let (stdout, stderr) = self.succeeds(args, stdin);
        assert!(stderr.is_empty(), "kubectl {args:?} complained:\n{stderr}");
        stdout
    }

    /// Must succeed; returns stdout and stderr.
    pub fn succeeds(&self, args: &[&str], stdin: &str) -> (String, String) {
        let output = self.output(args, stdin);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {args:?} ended with {}:\n{stdout}{stderr}", output.status);
        (stdout, stderr)
    }

    /// Must fail with `code`; returns stderr.
    pub fn fails(&self, code: i32, args: &[&str], stdin: &str) -> String {
        let output = self.output(args, stdin);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "kubectl {args:?}:\n{stderr}");
        stderr
    }

    /// `apply -f -` of a manifest.
    pub fn apply(&self, manifest: &str) -> String {
        self.ok_with(&["apply", "-f", "-"], manifest)
    }

    /// A process that goes on, its output kept.
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Repeats `args` until the output satisfies `wanted`, at most a minute.
    pub fn until(&self, args: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let output = self.output(args, "");
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && wanted(&stdout) {
                return stdout;
            }
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(start.elapsed() < Duration::from_secs(60), "kubectl {args:?} never said it:\n{stdout}{stderr}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// `get` with a jsonpath.
    pub fn field(&self, what: &str, path: &str) -> String {
        self.ok(&["get", what, "-o", &format!("jsonpath={path}")])
    }
}

/// Panics with the whole text unless it contains each of `parts`.
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
}
