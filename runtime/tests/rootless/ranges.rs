//! More ids than one's own: newuidmap, newgidmap, /etc/subuid, /etc/subgid.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::json;

use crate::common::until;
use crate::user::{SUBIDS, SUBIDS_COUNT, UID, User, give, require_ranges, require_rootless};

#[test]
fn a_range_of_subordinate_ids_is_mapped_and_used() {
    if !require_ranges("maps subordinate ids") {
        return;
    }
    let mut user =
        User::with_ranges("id; echo mine > /tmp/f; cat /proc/self/uid_map; cat /proc/self/gid_map; exec sleep 1000");
    user.bundle.config["process"]["user"] = json!({"uid": 33, "gid": 44, "additionalGids": [55, 66]});
    std::fs::set_permissions(user.bundle.rootfs().join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    user.up();
    until("it has told", || user.bundle.out().lines().count() == 5);
    let out = user.bundle.out();
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["uid=33", "gid=44", "groups=55,66"], "{out}");
    let (own, first, count) = (UID.to_string(), SUBIDS.to_string(), SUBIDS_COUNT.to_string());
    for map in [&lines[1..3], &lines[3..5]] {
        assert_eq!(map, [["0", own.as_str(), "1"], ["1", &first, &count]]);
    }
    let file = std::fs::metadata(user.bundle.rootfs().join("tmp/f")).unwrap();
    assert_eq!((file.uid(), file.gid()), (SUBIDS + 32, SUBIDS + 43), "as the host sees it");
    let exec = |args: &[&str]| user.said(&[&["exec"], args].concat());
    assert_eq!(exec(&["--user", "7:8", "c", "id"]).0, "uid=7 gid=8 groups=55,66\n");
    assert_eq!(exec(&["--user", "0", "--additional-gids", "9", "c", "id"]).0, "uid=0 gid=44 groups=9\n");
    let (_, err, code) = exec(&["--user", "70000", "c", "id"]);
    assert!(code == 255 && err.contains("process.user.uid: 70000 is not mapped"), "{err}");
    assert_eq!(user.said(&["kill", "c", "KILL"]).2, 0);
    until("init is gone", || user.status() == "stopped");
    assert_eq!(user.said(&["delete", "c"]).2, 0);
    user.assert_nothing_is_left();
}

#[test]
fn what_newuidmap_refuses_is_told_in_its_words() {
    if !require_ranges("maps subordinate ids") {
        return;
    }
    for (subids, ranges) in [
        // No line for him at all.
        ("somebody:100000:65536\n".to_owned(), [(0, UID, 1), (1, SUBIDS, 10)]),
        // More than his line gives.
        (format!("pintle-rootless:{SUBIDS}:10\n"), [(0, UID, 1), (1, SUBIDS, 11)]),
        // Another user's own id.
        (format!("pintle-rootless:{SUBIDS}:10\n"), [(0, UID, 1), (1, 0, 1)]),
    ] {
        let mut user = User::with_ranges("true");
        user.subids = Some(subids);
        user.map(&ranges);
        let (_, err, code) = user.run();
        let what = ["linux.uidMappings: /usr/bin/newuidmap does not map", "not allowed", "/etc/subuid", "setuid root"];
        assert!(code == 1 && what.iter().all(|part| err.contains(part)), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        user.assert_nothing_is_left();
    }
}

#[test]
fn without_newuidmap_the_configuration_is_refused_before_anything_is_made() {
    if !require_rootless("refuses") {
        return;
    }
    let mut user = User::with_ranges("true");
    let empty = user.bundle.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    // setpriv and unshare are looked up there too; so is what stands in it by a relative name.
    for tool in ["setpriv", "unshare", "sh", "mount"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), empty.join(tool)).unwrap();
    }
    std::fs::copy("/bin/busybox", user.bundle.path().join("newuidmap")).unwrap();
    user.path = format!("{}:.:", empty.display());
    let (_, err, code) = user.run();
    let expected = "linux.uidMappings: an ordinary user can map his own id (61000, size 1) alone; more takes newuidmap, \
        which is not in $PATH";
    assert!(code == 1 && err.contains(expected) && err.contains("linux.gidMappings"), "{err}");
    user.assert_nothing_is_left();
}

/// They have more rights than their caller: they get numbers, and nothing of his surroundings.
#[test]
fn the_helpers_get_the_pid_and_the_ranges_and_nothing_else() {
    if !require_rootless("runs what stands for newuidmap") {
        return;
    }
    let mut user = User::with_ranges("true");
    user.subids = None;
    let bin = user.bundle.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["newuidmap", "newgidmap"] {
        let log = user.bundle.path().join(name);
        let script = format!(
            "#!/bin/busybox sh\nexec > {0}\n/bin/busybox tr '\\0' '\\n' < /proc/$$/cmdline; echo; pwd\n\
             /bin/busybox ls /proc/$$/fd; /bin/busybox tr '\\0' '\\n' < /proc/$$/environ; echo no such luck >&2; exit 9\n",
            log.display()
        );
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    give(user.bundle.path());
    user.path = format!("{}:{}", bin.display(), user.path);
    let (_, err, code) = user.run();
    assert!(code == 1 && err.contains("no such luck (exit status: 9)"), "{err}");
    let told = std::fs::read_to_string(user.bundle.path().join("newuidmap")).unwrap();
    let (arguments, rest) = told.split_once("\n\n").unwrap();
    let arguments: Vec<&str> = arguments.lines().skip_while(|word| !word.ends_with("/newuidmap")).skip(1).collect();
    let (pid, ranges) = arguments.split_first().unwrap();
    assert!(pid.parse::<i32>().unwrap() > 1, "{told}");
    assert_eq!(ranges, ["0", "61000", "1", "1", "2000000", "65536"]);
    let rest: Vec<&str> = rest.lines().collect();
    // Its shell has its script open as 10, ls its directory.
    assert_eq!(rest[0], "/");
    let fds: Vec<u32> = rest[1..].iter().map_while(|line| line.parse().ok()).filter(|fd| *fd < 10).collect();
    assert_eq!(fds, [0, 1, 2], "{told}");
    assert!(!told.contains("XDG_RUNTIME_DIR") && !told.contains("PATH="), "{told}");
    assert!(!user.bundle.path().join("newgidmap").exists(), "after the first failure comes nothing more");
    user.assert_nothing_is_left();
}
