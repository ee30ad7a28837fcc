//! The helpers themselves, on the real kernel.

use pintle_testkit::{Machine, Netns, Scope, link, require_root};
use std::path::Path;

#[test]
fn a_fresh_network_namespace_has_only_a_loopback_that_is_up_and_is_left_again() {
    if !require_root("network namespaces") {
        return;
    }
    let inside = |()| {
        let output = std::process::Command::new("ip").args(["-o", "link"]).output().expect("iproute2");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = inside(());
    let netns = Netns::fresh();
    let fresh = inside(());
    assert_eq!(fresh.lines().count(), 1, "{fresh}");
    assert!(fresh.contains("lo:") && fresh.contains("LOWER_UP"), "{fresh}");
    drop(netns);
    assert_eq!(inside(()), before);
}

#[test]
fn two_linked_machines_reach_each_other_and_leave_nothing() {
    if !require_root("machines made of namespaces") {
        return;
    }
    let hidden = Path::new("/var/lib/pintle-testkit");
    let (a, b) = (Machine::new("a", &[hidden]), Machine::new("b", &[]));
    link("seg0", (&a, "192.0.2.1/24"), (&b, "192.0.2.2/24"));
    a.sh("busybox ping -c1 -W2 192.0.2.2");
    a.sh("touch /var/lib/pintle-testkit/x /run/y");
    assert!(a.path(Path::new("/run/y")).exists() && !b.path(Path::new("/run/y")).exists());
    let scope = Scope { paths: vec![hidden.to_owned()], cgroup: "pintle-testkit-none".into() };
    let found = scope.leftovers(&a, &["seg0"]);
    assert!(found.iter().all(|f| f.starts_with("process")), "only the holder names the directory: {found:?}");
    assert_eq!(scope.leftovers(&a, &[]).len(), found.len() + 1, "a link nobody announced is found");
    drop((a, b));
    assert!(scope.processes().is_empty());
    std::fs::remove_dir(hidden).expect("nothing was written outside the machine");
}
