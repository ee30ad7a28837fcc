//! Who is root in a user namespace alone, as those are whom Podman and Buildah call us for: with a user namespace of the
//! container's own beneath, and without.

use serde_json::json;

use crate::user::{UID, User, require_ranges, require_rootless};

/// A life in a shell that unshare(1) made root of a new user namespace.
const LIFE: &str = r#"
run="$1"; export XDG_RUNTIME_DIR="$2"
"$run" create --pid-file run/pid c > out 2>&1 < /dev/null || { cat out; exit 11; }
"$run" exec c true || echo "no exec before start"
"$run" start c || exit 12
"$run" exec c cat /proc/self/uid_map || exit 13
"$run" exec c sh -c 'echo x > /dev/null && stat -c %t:%T /dev/zero' || exit 14
"$run" ps --format json c || exit 15
"$run" kill c KILL || exit 16
"$run" delete --force c || exit 17
cat out
"#;

fn live(user: &User, unshare: &[&str]) -> (String, String, i32) {
    user.write();
    let program = user.bundle.program.as_deref().unwrap().to_string_lossy().into_owned();
    let run = user.runtime_dir().to_string_lossy().into_owned();
    let args = [unshare, &["--user", "--mount", "sh", "-c", LIFE, "sh", &program, &run]].concat();
    crate::common::texts(&user.command(std::path::Path::new("unshare"), &args).output().unwrap())
}

fn map(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn mapped_root_makes_a_container_in_a_user_namespace_beneath() {
    if !require_rootless("nested user namespaces") {
        return;
    }
    let mut user = User::new("id; exec sleep 1000");
    user.map(&[(0, 0, 1)]);
    let (out, err, code) = live(&user, &["--map-root-user"]);
    assert_eq!(code, 0, "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(map(lines[0]), ["0", "0", "1"], "seen from inside the outer one: {out}{err}");
    assert_eq!(lines[1], "1:5", "{out}");
    assert!(lines[2].starts_with('[') && out.contains("uid=0 gid=0"), "{out}");
    user.assert_nothing_is_left();
}

#[test]
fn mapped_root_needs_no_further_user_namespace() {
    if !require_ranges("maps subordinate ids") {
        return;
    }
    let mut user = User::with_ranges("id; exec sleep 1000");
    let linux = user.bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    linux["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "user");
    user.bundle.config["process"]["user"] = json!({"uid": 33, "gid": 44, "additionalGids": [5]});
    user.bundle.config["mounts"][2]["options"].as_array_mut().unwrap().push(json!("gid=5"));
    let (out, err, code) = live(&user, &["--map-root-user", "--map-auto"]);
    assert_eq!(code, 0, "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(map(lines[0]), ["0", &UID.to_string(), "1"], "{out}{err}");
    assert!(out.contains("uid=33 gid=44 groups=5"), "{out}");
    assert!(out.contains("\n1:5\n"), "the host's device, bound: {out}");
    user.assert_nothing_is_left();
}

#[test]
fn what_the_outer_namespace_does_not_map_is_refused() {
    if !require_rootless("nested user namespaces") {
        return;
    }
    let mut user = User::new("true");
    user.map(&[(0, 0, 1), (1, 1, 10)]);
    let (out, _, code) = live(&user, &["--map-root-user"]);
    let expected = "linux.uidMappings[1].hostID: the ids 1 to 10 do not all exist in this user namespace";
    assert!(code == 11 && out.contains(expected), "{out}");
    user.assert_nothing_is_left();
}
