//! What an ordinary user cannot have: refused by its place in config.json, with the way out, and nothing is left behind.

use serde_json::{Value, json};

use crate::user::{User, require_rootless};

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut user = User::new("true");
    change(&mut user.bundle.config);
    let (out, err, code) = user.run();
    assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{out}{err}");
    user.assert_nothing_is_left();
    err
}

#[test]
fn a_container_without_a_user_namespace() {
    if !require_rootless("refuses") {
        return;
    }
    let said = refused(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        linux.insert("namespaces".to_owned(), json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]));
    });
    assert!(said.contains("linux.namespaces: rootless container requires user namespaces"), "{said}");
}

#[test]
fn ids_and_groups_that_are_not_mapped() {
    if !require_rootless("refuses") {
        return;
    }
    let said = refused(|config| config["process"]["user"] = json!({"uid": 33, "gid": 0}));
    assert!(said.contains("process.user.uid: 33 is not mapped into the container (linux.uidMappings)"), "{said}");
    let said = refused(|config| config["process"]["user"]["additionalGids"] = json!([0]));
    assert!(said.contains("process.user.additionalGids: cannot set any additional groups"), "{said}");
    let said = refused(|config| config["mounts"][2]["options"].as_array_mut().unwrap().push(json!("gid=5")));
    assert!(said.contains("gid=5 is not mapped into the container (linux.gidMappings): leave it out"), "{said}");
}

#[test]
fn devices_of_the_host_that_are_other_devices() {
    if !require_rootless("refuses") {
        return;
    }
    let said = refused(|config| {
        config["linux"]["devices"] = json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 3}]);
    });
    assert!(said.contains(r#"use the host's \"/dev/zero\" as device 1:3, which it is not"#), "{said}");
}

#[test]
fn namespaces_of_others_and_moved_devices() {
    if !require_rootless("refuses") {
        return;
    }
    let said = refused(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "network", "path": "/proc/1/ns/net"}));
    });
    assert!(said.contains("linux.namespaces[6].path: an ordinary user can only join namespaces"), "{said}");
    let said = refused(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "network"}));
        config["linux"]["netDevices"] = json!({"lo": {"name": "lo9"}});
    });
    assert!(said.contains("linux.netDevices: an ordinary user cannot take network devices"), "{said}");
}
