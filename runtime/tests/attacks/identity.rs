//! What the caller of the runtime has and a container must not get: capabilities, groups, keys, a process to signal.

use pintle_sys::cred;
use serde_json::json;

use crate::common::{Bundle, require_root, texts};

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
    line.split_whitespace().collect()
}

#[test]
fn no_capability_is_inheritable_whatever_the_caller_inherits() {
    if !require_root("runs containers") {
        return;
    }
    let own = cred::caps().unwrap();
    cred::set_caps(cred::CapSets { inheritable: own.permitted, ..own }).unwrap();
    let bundle = Bundle::new("cat /proc/self/status; exec sleep 1000");
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.runc(&["start", "c"]).status.success());
    crate::common::until("it has told", || bundle.out().contains("CapAmb"));
    let exec = texts(&bundle.runc(&["exec", "--cap", "CAP_SYS_CHROOT", "c", "cat", "/proc/self/status"])).0;
    for (status, bounding) in [(bundle.out(), "0000000020000421"), (exec, "0000000020040421")] {
        assert_eq!(field(&status, "CapInh:"), ["0000000000000000"], "CVE-2022-24769, CVE-2022-29162");
        assert_eq!(field(&status, "CapAmb:"), ["0000000000000000"]);
        assert_eq!(field(&status, "CapBnd:"), [bounding]);
    }
}

#[test]
fn a_process_without_capabilities_in_its_configuration_has_none() {
    if !require_root("runs containers") {
        return;
    }
    let mut bundle = Bundle::new("cat /proc/self/status");
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    let (status, err, code) = bundle.run();
    assert_eq!(code, 0, "{err}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
    }
}

#[test]
fn the_callers_groups_stay_outside() {
    if !require_root("runs containers") {
        return;
    }
    cred::set_groups(&[6, 1234, 54_321]).unwrap();
    let mut bundle = Bundle::new("cat /proc/self/status; exec sleep 1000");
    bundle.config["process"]["user"] = json!({"uid": 33, "gid": 44});
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.runc(&["start", "c"]).status.success());
    crate::common::until("it has told", || bundle.out().contains("voluntary"));
    let exec = |user: &str| texts(&bundle.runc(&["exec", "--user", user, "c", "cat", "/proc/self/status"])).0;
    for (status, uid, gid) in [(bundle.out(), "33", "44"), (exec("1"), "1", "44"), (exec("7:8"), "7", "8")] {
        assert_eq!(field(&status, "Groups:"), [""; 0], "{status}");
        assert_eq!(field(&status, "Uid:"), [uid; 4], "the user that was asked for and no other");
        assert_eq!(field(&status, "Gid:"), [gid; 4]);
    }
    let (_, err, code) = texts(&bundle.runc(&["exec", "--user", "root", "c", "id"]));
    assert!(code == 255 && err.contains("uid"), "a name is no number, and not taken for 0: {err}");
}

#[test]
fn the_callers_session_keys_stay_outside() {
    if !require_root("runs containers") {
        return;
    }
    let Ok(secret) = cred::join_session_keyring(c"pintle-secret") else {
        eprintln!("SKIPPED: this machine has no keyrings for us");
        return;
    };
    // From now on only who possesses it can see it: the kernel shows keys of the same user as well.
    cred::restrict_keyring(secret).unwrap();
    assert!(std::fs::read_to_string("/proc/keys").unwrap().contains("pintle-secret"));
    let mut bundle = Bundle::new("cat /proc/keys; exec sleep 1000");
    // Unmasked, so that the container can tell what it possesses.
    bundle.config["linux"]["maskedPaths"] = json!([]);
    assert_eq!(bundle.create(), 0, "{}", bundle.out());
    assert!(bundle.runc(&["start", "c"]).status.success());
    crate::common::until("it has told", || bundle.out().contains("_ses.c"));
    let exec = texts(&bundle.runc(&["exec", "c", "cat", "/proc/keys"])).0;
    for keys in [bundle.out(), exec] {
        assert!(keys.contains("_ses.c"), "a session keyring of the container's own: {keys}");
        assert!(!keys.contains("pintle-secret"), "the caller's: {keys}");
    }
}

#[test]
fn a_pid_namespace_by_path_does_not_make_init_the_only_one_to_kill() {
    if !require_root("runs containers") {
        return;
    }
    let holder = Bundle::new("exec sleep 1000");
    assert_eq!(holder.create(), 0, "{}", holder.out());
    let pid = std::fs::read_to_string(holder.path().join("pid")).unwrap();
    let mut guest = Bundle::new("sleep 1000 & echo ready; exec sleep 1001");
    guest.config["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
        {"type": "pid", "path": format!("/proc/{pid}/ns/pid")}
    ]);
    assert_eq!(guest.create(), 0, "{}", guest.out());
    assert!(guest.runc(&["start", "c"]).status.success());
    crate::common::until("both run", || guest.out().contains("ready"));
    let members = || {
        let all = guest.cgroup_dirs().into_iter().map(|dir| dir.join("c/cgroup.procs"));
        all.map(|file| std::fs::read_to_string(file).unwrap_or_default().lines().count()).max().unwrap_or(0)
    };
    assert_eq!(members(), 2);
    assert!(guest.runc(&["kill", "c", "KILL"]).status.success());
    crate::common::until("nobody is left", || members() == 0);
}
