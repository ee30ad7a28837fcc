//! Cgroups: without, with those that were delegated, and what `--rootless` says to that.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use crate::common::{Bundle, Guest, until};
use crate::user::{UID, User, delegate, require_rootless};

#[test]
fn a_limit_without_a_cgroup_is_refused_by_its_place() {
    if !require_rootless("limits of an ordinary user") {
        return;
    }
    let mut user = User::new("true");
    user.bundle.config["linux"]["resources"] = json!({"pids": {"limit": 9}});
    let (_, err, code) = user.run();
    assert!(code == 1 && err.contains("linux.resources.pids.limit") && err.contains("delegate a cgroup"), "{err}");
    user.assert_nothing_is_left();
    user.bundle.config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let (_, err, code) = user.run();
    assert_eq!((err.as_str(), code), ("", 0), "who can make no devices needs no rules for them");
    user.bundle.config["linux"]["cgroupsPath"] = json!("/pintle-not-for-you/c");
    let (_, err, code) = user.run();
    assert!(code == 1 && err.contains("linux.cgroupsPath: cannot make cgroup") && err.contains("delegated"), "{err}");
    user.assert_nothing_is_left();
}

#[test]
fn rootless_says_whether_closed_cgroups_matter() {
    if !require_rootless("cgroups of an ordinary user") {
        return;
    }
    let user = User::new("echo ran");
    user.write();
    let (_, err, code) = user.said(&["--rootless=false", "run", "c"]);
    assert!(code == 1 && err.contains("cannot make cgroup") && err.contains("permission denied"), "{err}");
    assert_eq!(user.said(&["--rootless=true", "run", "c"]).0, "ran\n");
    assert_eq!(user.said(&["--rootless", "auto", "run", "c"]).0, "ran\n");
    user.assert_nothing_is_left();
}

/// The same for root, whose cgroups are read-only: a container in a container.
#[test]
fn root_goes_without_read_only_cgroups_only_if_told() {
    if !require_rootless("read-only cgroups") {
        return;
    }
    let mut bundle = Bundle::new("echo ran");
    bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    bundle.write();
    let script = "for m in $(grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5); do \
        mount -o remount,bind,ro $m; done; exec \"$@\"";
    let run = |rootless: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_pintle-runc")).arg("--root").arg(bundle.root());
        command.args([rootless, "run", "--bundle", &bundle.path().to_string_lossy(), "c"]);
        crate::common::texts(&command.output().unwrap())
    };
    let (_, err, code) = run("--rootless=auto");
    assert!(code == 1 && err.contains("cannot make cgroup") && err.contains("EROFS"), "{err}");
    assert_eq!(run("--rootless=true"), ("ran\n".to_owned(), String::new(), 0));
}

/// Cgroups of a test in every hierarchy, given to the user; gone at its end. On v2 there is one more in it, for who calls the
/// runtime: a process may only be moved within what its mover was given (cgroups(7), "Delegation Containment Rules").
struct Delegated(Vec<PathBuf>);

const ON_V2: &str = "/sys/fs/cgroup/cgroup.procs";

impl Delegated {
    fn new(name: &str) -> Delegated {
        let top = Path::new("/sys/fs/cgroup");
        let v2 = Path::new(ON_V2).exists();
        let tops: Vec<PathBuf> = if v2 {
            vec![top.to_owned()]
        } else {
            let unified = top.join("unified");
            std::fs::read_dir(top).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir() && *p != unified).collect()
        };
        let made: Vec<PathBuf> = tops.iter().map(|top| top.join(name.trim_start_matches('/'))).collect();
        for (cgroup, top) in made.iter().zip(&tops) {
            std::fs::create_dir(cgroup).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let (false, Ok(text)) = (v2, std::fs::read_to_string(top.join(file))) {
                    std::fs::write(cgroup.join(file), text).unwrap();
                }
            }
            delegate(cgroup);
        }
        if v2 {
            std::fs::create_dir(made[0].join("login")).unwrap();
            delegate(&made[0].join("login"));
        }
        Delegated(made)
    }

    /// Has the user's commands begin in it, where that is needed.
    fn enter(&self, user: &mut User) {
        let login = self.0[0].join("login");
        if login.exists() {
            user.before = format!("echo $$ > '{}/cgroup.procs' && ", login.display());
        }
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _only_on_v2 = std::fs::remove_dir(self.0[0].join("login"));
        for cgroup in &self.0 {
            let removed = std::fs::remove_dir(cgroup);
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", cgroup.display());
        }
    }
}

#[test]
fn a_delegated_cgroup_is_used() {
    if !require_rootless("delegated cgroups") {
        return;
    }
    let mut user = User::new("exec sleep 1000");
    let delegated = Delegated::new(&user.bundle.cgroup);
    delegated.enter(&mut user);
    user.bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/c", user.bundle.cgroup));
    user.bundle.config["linux"]["resources"] = json!({"pids": {"limit": 20}, "memory": {"limit": 100_000_000}});
    user.up();
    let limit = delegated.0.iter().map(|cgroup| cgroup.join("c/pids.max")).find(|file| file.exists()).unwrap();
    assert_eq!(std::fs::read_to_string(&limit).unwrap(), "20\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&limit).unwrap());
    assert_eq!(owner, UID, "made by the user");
    assert_eq!(user.said(&["pause", "c"]), (String::new(), String::new(), 0));
    assert_eq!(user.status(), "paused");
    assert_eq!(user.said(&["resume", "c"]).2, 0);
    assert_eq!(user.said(&["update", "--pids-limit", "30", "c"]), (String::new(), String::new(), 0));
    assert_eq!(std::fs::read_to_string(&limit).unwrap(), "30\n");
    let (out, err, code) = user.said(&["exec", "c", "cat", "/proc/self/cgroup"]);
    let controller = if Path::new(ON_V2).exists() { "0::/" } else { "pids" };
    assert!(code == 0 && out.lines().any(|line| line.contains(controller)), "{out}{err}");
    let mut exec = user.command(user.bundle.program.as_deref().unwrap(), &["exec", "--detach", "c", "sleep", "1001"]);
    assert!(exec.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let ps: Vec<i32> = serde_json::from_str(&user.said(&["ps", "--format", "json", "c"]).0).unwrap();
    assert_eq!(ps.len(), 2, "an exec is in the container's cgroup");
    let procs = std::fs::read_to_string(limit.with_file_name("cgroup.procs")).unwrap();
    assert_eq!(procs.lines().count(), 2);
    assert_eq!(user.said(&["kill", "--all", "c", "KILL"]).2, 0);
    until("init is gone", || user.status() == "stopped");
    assert_eq!(user.said(&["delete", "c"]), (String::new(), String::new(), 0));
    assert!(!limit.parent().unwrap().exists());
    user.assert_nothing_is_left();
}

#[test]
fn on_v2_a_caller_outside_of_what_was_delegated_goes_without() {
    if !require_rootless("delegated cgroups") || !Path::new(ON_V2).exists() {
        return;
    }
    let mut user = User::new("exec sleep 1000");
    let delegated = Delegated::new(&user.bundle.cgroup);
    user.bundle.config["linux"]["cgroupsPath"] = json!(format!("{}/c", user.bundle.cgroup));
    let code = user.create();
    assert!(code == 1 && user.bundle.out().contains("linux.cgroupsPath"), "{}", user.bundle.out());
    assert!(!delegated.0[0].join("c").exists());
    user.bundle.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    user.up();
    assert_eq!(user.said(&["delete", "--force", "c"]).2, 0);
    user.assert_nothing_is_left();
}

#[test]
fn the_same_holds_on_cgroup_v2_in_a_vm() {
    crate::common::again_in_a_vm(Guest::PureV2, &["cgroups::"]);
}
