//! Every command of a life, by a user without any privilege.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::common::{Bundle, until};
use crate::user::{UID, User, require_rootless};

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
    line.split_whitespace().collect()
}

#[test]
fn a_user_leads_a_container_through_its_life() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let user = User::new("echo started; sleep 1000 & exec sleep 1001");
    assert_eq!(user.create(), 0, "{}", user.bundle.out());
    assert_eq!((user.status().as_str(), user.bundle.out().as_str()), ("created", ""));
    let root = std::fs::metadata(user.runtime_dir().join("runc")).unwrap();
    assert_eq!(root.permissions().mode() & 0o7777, 0o1700, "nobody else's, and not to be tidied away");
    assert_eq!(user.said(&["start", "c"]), (String::new(), String::new(), 0));
    until("the program says so", || user.bundle.out() == "started\n");
    assert_eq!(user.status(), "running");
    let list: Value = serde_json::from_str(&user.said(&["list", "--format", "json"]).0).unwrap();
    assert_eq!((list[0]["id"].as_str(), list[0]["owner"].as_str()), (Some("c"), Some(format!("#{UID}").as_str())));

    let (ps, err, _) = user.said(&["ps", "--format", "json", "c"]);
    let pids: Vec<i32> = serde_json::from_str(&ps).unwrap();
    let init: i32 = std::fs::read_to_string(user.runtime_dir().join("pid")).unwrap().parse().unwrap();
    assert!(pids.len() == 2 && pids.contains(&init), "those of its pid namespace: {ps} {err}");

    let (_, err, code) = user.said(&["pause", "c"]);
    assert!(code == 1 && err.contains("cannot pause: this container has no cgroup"), "{err}");
    let (_, err, code) = user.said(&["update", "--pids-limit", "9", "c"]);
    assert!(code == 1 && err.contains("linux.resources.pids.limit"), "{err}");

    assert_eq!(user.said(&["kill", "--all", "c", "STOP"]).2, 0);
    let letter = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next())
    };
    until("the one that is not init got it as well", || {
        pids.iter().any(|pid| *pid != init && letter(pid) == Some('T'))
    });
    assert_eq!(user.said(&["kill", "c", "KILL"]).2, 0);
    until("init is gone", || user.status() == "stopped");
    assert_eq!(user.said(&["ps", "--format", "json", "c"]).0, "null\n");
    assert_eq!(user.said(&["delete", "c"]), (String::new(), String::new(), 0));
    user.assert_nothing_is_left();
}

#[test]
fn it_runs_in_namespaces_of_its_own_with_what_was_asked_for() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let script = "cat /proc/self/status /proc/self/uid_map; hostname; grep -c . /proc/net/dev; exit 7";
    let mut user = User::new(script);
    std::os::unix::fs::symlink("busybox", user.bundle.rootfs().join("bin/grep")).unwrap();
    let namespaces = user.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "network"}), json!({"type": "time"})]);
    user.bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    user.bundle.config["linux"]["sysctl"] =
        json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "77", "net.ipv4.ping_group_range": "0 0"});
    user.bundle.config["hostname"] = json!("rootless");
    user.bundle.config["process"]["args"][2] =
        json!(format!("cat /proc/uptime /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; {script}"));
    let (out, err, code) = user.run();
    assert_eq!(code, 7, "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].split('.').next().unwrap().parse::<u64>().unwrap() > 1_000_000, "its own boot time: {}", lines[0]);
    assert_eq!(lines[1..3], ["1", "77"], "its own sysctls");
    assert_eq!(field(&out, "CapEff:"), ["0000000020000420"], "those of the configuration, in the user namespace");
    assert_eq!((field(&out, "Groups:"), field(&out, "NoNewPrivs:")), (vec![], vec!["1"]));
    assert_eq!(lines[lines.len() - 3].split_whitespace().collect::<Vec<_>>(), ["0", &UID.to_string(), "1"]);
    assert_eq!(lines[lines.len() - 2..], ["rootless", "3"], "two lines of header and lo");
    user.assert_nothing_is_left();
}

#[test]
fn exec_comes_in_as_soon_as_start_is_over() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let user = User::new("exec sleep 1000");
    for round in 0..8 {
        user.up();
        let script = "cat /proc/self/status; hostname; readlink /proc/self/ns/user; readlink /proc/1/ns/user; exit $A";
        let (out, err, code) = user.said(&["exec", "--env", "A=5", "c", "sh", "-c", script]);
        assert_eq!(code, 5, "round {round}: {err}");
        assert_eq!((field(&out, "Uid:"), field(&out, "CapEff:")), (vec!["0"; 4], vec!["0000000020000420"]), "{out}");
        let lines: Vec<&str> = out.lines().collect();
        let [host, own, init] = lines[lines.len() - 3..] else { panic!("{out}") };
        assert_eq!((host, own), ("runc", init), "the container's namespaces");
        assert_eq!(user.said(&["delete", "--force", "c"]).2, 0);
    }
    user.assert_nothing_is_left();
}

/// Init must be visible for that. It has forgotten what its maker's environment holds, and what leads to the host.
#[test]
fn exec_comes_in_before_start_and_finds_nothing_of_the_caller() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let mut user = User::new("test -e /was-here && echo seen; exec sleep 1000");
    user.bundle.config["process"]["env"] = json!(["PATH=/bin", "OF=program"]);
    user.bundle.config["hooks"] =
        json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo $OF > /of-the-hook"]}]});
    user.write();
    let out = std::fs::File::create(user.bundle.path().join("out")).unwrap();
    let mut create = user.command(user.bundle.program.as_deref().unwrap(), &["create", "--pid-file", "run/pid", "c"]);
    create.env("TOKEN", "of-the-caller").stdout(out.try_clone().unwrap()).stderr(out);
    assert!(create.status().unwrap().success(), "{}", user.bundle.out());
    let script = "touch /was-here; tr -d '\\0' < /proc/1/environ | wc -c; readlink /proc/1/root; readlink /proc/1/cwd; \
        for fd in /proc/1/fd/*; do test -d $fd && readlink $fd; done; readlink /proc/self/ns/user; readlink /proc/1/ns/user; exit 6";
    std::os::unix::fs::symlink("busybox", user.bundle.rootfs().join("bin/wc")).unwrap();
    let (out, err, code) = user.said(&["exec", "c", "sh", "-c", script]);
    assert_eq!(code, 6, "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    let [environment, root, cwd, own, init] = lines[..] else { panic!("{out}{err}") };
    assert_eq!((environment, root, cwd, own), ("0", "/", "/", init), "{err}");
    assert_eq!(user.status(), "created");
    assert_eq!(user.said(&["start", "c"]), (String::new(), String::new(), 0));
    until("the program runs", || user.bundle.out().starts_with("seen"));
    let hook = std::fs::read_to_string(user.bundle.rootfs().join("of-the-hook")).unwrap();
    assert_eq!(hook, "program\n", "a hook without an environment has the program's");
    assert_eq!(user.said(&["delete", "--force", "c"]).2, 0);
    user.assert_nothing_is_left();
}

#[test]
fn a_filter_without_prctl_keeps_exec_out_until_the_start() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let mut user = User::new("exec sleep 1000");
    user.bundle.config["process"]["noNewPrivileges"] = json!(true);
    user.bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["prctl"], "action": "SCMP_ACT_ERRNO"}]
    });
    assert_eq!(user.create(), 0, "{}", user.bundle.out());
    assert_eq!(user.said(&["exec", "c", "true"]).2, 0, "a filter that follows no_new_privs comes after");
    assert_eq!(user.said(&["delete", "--force", "c"]).2, 0);
    user.assert_nothing_is_left();
}

#[test]
fn a_limit_that_the_user_may_not_raise_is_an_error() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let mut user = User::new("true");
    let limit = |number: u64| json!([{"type": "RLIMIT_NOFILE", "soft": number, "hard": number}]);
    user.bundle.config["process"]["rlimits"] = limit(1 << 30);
    let (out, err, code) = user.run();
    assert!(code == 1 && err.contains("cannot set RLIMIT_NOFILE to 1073741824:1073741824"), "{out}{err}");
    user.bundle.config["process"]["rlimits"] = limit(77);
    user.bundle.config["process"]["args"][2] = json!("ulimit -n");
    assert_eq!(user.run(), ("77\n".to_owned(), String::new(), 0));
    user.assert_nothing_is_left();
}

#[test]
fn its_terminal_belongs_to_the_user() {
    if !require_rootless("a terminal of an ordinary user") {
        return;
    }
    let mut user = User::new("stty size; stat -c %u /dev/pts/0; exec sleep 1000");
    user.bundle.config["process"]["terminal"] = json!(true);
    user.bundle.config["process"]["consoleSize"] = json!({"width": 91, "height": 17});
    user.write();
    let path = user.runtime_dir().join("console");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    crate::user::give(&user.runtime_dir());
    let (_, err, code) = user.said(&["create", "--console-socket", "run/console", "c"]);
    assert_eq!(code, 0, "{err}");
    let (client, _) = socket.accept().unwrap();
    let mut fds = Vec::new();
    pintle_sys::scm::receive(&client, &mut [0; 64], &mut fds).unwrap();
    let master = std::fs::File::from(fds.pop().unwrap());
    assert_eq!(user.said(&["start", "c"]).2, 0);
    let said = std::io::BufRead::lines(std::io::BufReader::new(master)).take(2);
    let said: Vec<String> = said.map(|line| line.unwrap().trim().to_owned()).collect();
    assert_eq!(said, ["17 91", "0"], "of the size asked for, and owned by the container's root");
}

/// CVE-2023-25809: beneath the host's /sys, bound, lie the host's cgroups, and some may be open to the user.
#[test]
fn the_hosts_cgroups_are_covered_and_read_only() {
    if !require_rootless("containers of an ordinary user") {
        return;
    }
    let holder = Bundle::new("");
    let name = holder.cgroup.trim_start_matches('/').to_owned();
    let host = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .map(std::path::Path::new)
        .into_iter()
        .find(|top| top.join("cgroup.procs").exists() && std::fs::create_dir(top.join(&name)).is_ok());
    let host = host.expect("a hierarchy of cgroups").join(&name);
    crate::user::delegate(&host);
    let inside = host.display();
    let script =
        format!("mkdir {inside}/escape && echo made; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x && echo made");
    let (out, err, code) = User::new(&format!("{script}; mount; exit 3")).run();
    let escaped = host.join("escape").exists();
    let _made_by_a_failure = std::fs::remove_dir(host.join("escape"));
    std::fs::remove_dir(&host).unwrap();
    assert!(!escaped && code == 3 && !out.contains("made"), "{out}{err}");
    assert!(out.lines().any(|line| line.contains(" on /sys/fs/cgroup")), "{out}");
}
