//! What a newcomer types: `make up`, again `make up`, `make down`, with every default, on a machine of namespaces.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{Machine, Scope, repository, require_root};
use std::path::{Path, PathBuf};

fn make(machine: &Machine, state_dir: &Path, target: &str) -> String {
    let mut command = machine.command("make");
    command.arg("-C").arg(repository()).arg(target).arg(format!("STATE_DIR={}", state_dir.display()));
    // What cargo and the test runner told this process is not what a person's shell says.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let kept = ["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name.as_str());
        if !kept && ["CARGO", "NEXTEST", "PINTLE", "RUST_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = pintle_testkit::feed(command, "");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "make {target}: {}\n{said}", output.status);
    said
}

#[test]
fn make_up_shows_ten_answers_twice_and_make_down_leaves_only_the_state_directory() {
    if !require_root("make up") {
        return;
    }
    let scratch = tempfile::Builder::new().prefix("pintle-make-").tempdir().unwrap();
    let state_dir = scratch.path().join("state");
    let machine = Machine::new("host", &[Path::new("/var/log/pods")]);
    for _ in 0..2 {
        let said = make(&machine, &state_dir, "up");
        println!("{said}");
        assert_eq!(said.matches("answered by  web-").count(), 10, "{said}");
        assert!(said.contains("export KUBECONFIG="), "{said}");
    }
    make(&machine, &state_dir, "down");
    make(&machine, &state_dir, "down");
    let paths = vec![state_dir, PathBuf::from("/run/pintle"), PathBuf::from("/var/log/pods")];
    let left = Scope { paths, cgroup: "pintle".to_owned() }.leftovers(&machine, &[]);
    assert!(left.is_empty(), "left behind: {left:#?}");
    assert!(!machine.path(Path::new("/run/pintle")).exists());
    assert_eq!(machine.sh("ls -A /var/log/pods"), "");
}
