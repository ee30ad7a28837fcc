//! An ordinary user with a bundle of his own: uid and gid 61000, no capabilities, no place in anybody's cgroups.
//!
//! The tests run as root and drop to him by setpriv(1). Who needs ids of /etc/subuid sees a copy of it and of
//! /etc/passwd, in a mount namespace of each command.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::common::{Bundle, texts};

pub const UID: u32 = 61_000;
/// The first of the ids that the private /etc/subuid and /etc/subgid give him.
pub const SUBIDS: u32 = 2_000_000;
pub const SUBIDS_COUNT: u32 = 65_536;

pub struct User {
    pub bundle: Bundle,
    /// Lines of his /etc/subuid and /etc/subgid; `None`: the machine's own files.
    pub subids: Option<String>,
    /// $PATH.
    pub path: String,
    /// Run before the drop, as root, in a mount namespace of the command.
    pub before: String,
}

/// Also says whether user namespaces are open to ordinary users here: without them nothing of this can be.
pub fn require_rootless(what_for: &str) -> bool {
    if !crate::common::require_root(what_for) {
        return false;
    }
    let made = Command::new("setpriv").args(identity()).args(["unshare", "--user", "true"]).output().unwrap();
    let refused = texts(&made).1;
    assert!(made.status.success() || std::env::var_os("CI").is_none(), "CI needs user namespaces for users: {refused}");
    if !made.status.success() {
        eprintln!("SKIPPED: no user namespaces for ordinary users here ({}): {what_for}", refused.trim());
    }
    made.status.success()
}

/// The same, with newuidmap and newgidmap.
pub fn require_ranges(what_for: &str) -> bool {
    let helpers = ["newuidmap", "newgidmap"].map(|name| Path::new("/usr/bin").join(name).exists());
    assert!(helpers == [true; 2] || std::env::var_os("CI").is_none(), "CI needs newuidmap and newgidmap (uidmap)");
    if helpers != [true; 2] {
        eprintln!("SKIPPED: needs newuidmap and newgidmap (uidmap): {what_for}");
    }
    helpers == [true; 2] && require_rootless(what_for)
}

/// His bounding set is whole, as a login leaves it: newuidmap gets its rights from there.
fn identity() -> [String; 4] {
    let (uid, gid) = (format!("--reuid={UID}"), format!("--regid={UID}"));
    [uid, gid, "--clear-groups".to_owned(), "--inh-caps=-all".to_owned()]
}

impl User {
    /// With the configuration that `spec --rootless` writes for him, but for the script and the terminal.
    pub fn new(script: &str) -> User {
        let mut bundle = Bundle::new(script);
        // The build may lie where only root can go.
        let program = bundle.path().join("pintle-runc");
        std::fs::copy(env!("CARGO_BIN_EXE_pintle-runc"), &program).unwrap();
        std::fs::create_dir(bundle.path().join("run")).unwrap();
        give(bundle.path());
        bundle.program = Some(program);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let mut user = User { bundle, subids: None, path, before: String::new() };
        let bundle = user.bundle.path().to_string_lossy().into_owned();
        let (_, err, code) = texts(&user.runc(&["spec", "--rootless", "--bundle", &bundle]));
        assert_eq!(code, 0, "{err}");
        let text = std::fs::read_to_string(user.bundle.path().join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["process"]["env"] = json!(["PATH=/bin"]);
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        user.bundle.config = config;
        user
    }

    /// With all the ids of his subids as the container's 1 and up, and /etc/subuid saying so.
    pub fn with_ranges(script: &str) -> User {
        let mut user = User::new(script);
        user.subids = Some(format!("pintle-rootless:{SUBIDS}:{SUBIDS_COUNT}\n"));
        user.map(&[(0, UID, 1), (1, SUBIDS, SUBIDS_COUNT)]);
        user
    }

    /// Sets both maps.
    pub fn map(&mut self, ranges: &[(u32, u32, u32)]) {
        let one =
            |(inside, outside, size): &(u32, u32, u32)| json!({"containerID": inside, "hostID": outside, "size": size});
        let map: Vec<Value> = ranges.iter().map(one).collect();
        self.bundle.config["linux"]["uidMappings"] = json!(map);
        self.bundle.config["linux"]["gidMappings"] = json!(map);
    }

    /// Any program, as him.
    pub fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut script = self.before.clone();
        if let Some(subids) = &self.subids {
            let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
            let line = format!("pintle-rootless:x:{UID}:{UID}::/:/bin/sh\n");
            for (file, text) in [("passwd", passwd + &line), ("subuid", subids.clone()), ("subgid", subids.clone())] {
                let copy = self.bundle.path().join(file);
                std::fs::write(&copy, text).unwrap();
                script += &format!("mount --bind '{}' /etc/{file} && ", copy.display());
            }
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{script} exec \"$@\""), "sh"]);
        command.arg("setpriv").args(identity()).arg(program).args(args);
        command.env_clear().env("PATH", &self.path).env("XDG_RUNTIME_DIR", self.runtime_dir());
        command.current_dir(self.bundle.path()).stdin(Stdio::null());
        command
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.bundle.path().join("run")
    }

    /// The runtime, as him, with its default --root.
    pub fn runc(&self, args: &[&str]) -> Output {
        self.command(self.bundle.program.as_deref().unwrap(), args).output().unwrap()
    }

    pub fn said(&self, args: &[&str]) -> (String, String, i32) {
        texts(&self.runc(args))
    }

    pub fn write(&self) {
        self.bundle.write();
        give(&self.bundle.rootfs());
    }

    /// Runs to the end; stdout, stderr, exit code.
    pub fn run(&self) -> (String, String, i32) {
        self.write();
        self.said(&["run", "c"])
    }

    /// Creates with output going to a file, which a waiting init would otherwise keep open.
    pub fn create(&self) -> i32 {
        self.write();
        let log = std::fs::File::create(self.bundle.path().join("out")).unwrap();
        let mut command =
            self.command(self.bundle.program.as_deref().unwrap(), &["create", "--pid-file", "run/pid", "c"]);
        command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().code().unwrap()
    }

    /// Creates and starts.
    pub fn up(&self) {
        assert_eq!(self.create(), 0, "{}", self.bundle.out());
        let (_, err, code) = self.said(&["start", "c"]);
        assert_eq!(code, 0, "{err}");
    }

    pub fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.said(&["state", "c"]).0).unwrap_or_default();
        state["status"].as_str().unwrap_or("none").to_owned()
    }

    /// Neither state nor processes of his are left.
    pub fn assert_nothing_is_left(&self) {
        let root = self.runtime_dir().join("runc");
        let ids: Vec<_> =
            std::fs::read_dir(&root).map(|list| list.map(|e| e.unwrap().path()).collect()).unwrap_or_default();
        assert_eq!(ids, Vec::<PathBuf>::new());
        let bundle = self.bundle.path().to_string_lossy().into_owned();
        let ours = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            entry.file_name().to_string_lossy().parse::<i32>().is_ok()
                && String::from_utf8_lossy(&command).contains(&bundle)
        });
        assert_eq!(ours.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _may_never_have_been = self.runc(&["delete", "--force", "c"]);
    }
}

/// To him, with all that is in it.
pub fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(UID), Some(UID)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// A cgroup of his in every hierarchy, as an administrator delegates one.
pub fn delegate(cgroup: &Path) {
    chown(cgroup, Some(UID), Some(UID)).unwrap();
    for file in ["cgroup.procs", "tasks", "cgroup.subtree_control"] {
        let _of_another_version = chown(cgroup.join(file), Some(UID), Some(UID));
    }
}
