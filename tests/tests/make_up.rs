//! What a newcomer types: `make up`, again `make up`, `make down`, with every default, on a machine of namespaces; and
//! `make install`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{Machine, Scope, repository, require_root};
use std::path::{Path, PathBuf};

fn make(machine: &Machine, target: &str, variables: &[String]) -> String {
    let mut command = machine.command("make");
    command.arg("-C").arg(repository()).arg(target).args(variables);
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
    let variables = [format!("STATE_DIR={}", state_dir.display())];
    for _ in 0..2 {
        let said = make(&machine, "up", &variables);
        println!("{said}");
        assert_eq!(said.matches("answered by  web-").count(), 10, "{said}");
        assert!(said.contains("export KUBECONFIG="), "{said}");
    }
    make(&machine, "down", &variables);
    make(&machine, "down", &variables);
    let paths = vec![state_dir, PathBuf::from("/run/pintle"), PathBuf::from("/var/log/pods")];
    let left = Scope { paths, cgroup: "pintle".to_owned() }.leftovers(&machine, &[]);
    assert!(left.is_empty(), "left behind: {left:#?}");
    assert!(!machine.path(Path::new("/run/pintle")).exists());
    assert_eq!(machine.sh("ls -A /var/log/pods"), "");
}

/// Files below `dir`, relative to it.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn make_install_puts_programs_units_completions_and_manual_pages_and_uninstall_removes_them() {
    if !require_root("a machine of namespaces") {
        return;
    }
    let scratch = tempfile::Builder::new().prefix("pintle-install-").tempdir().unwrap();
    let machine = Machine::new("host", &[]);
    let variables = [format!("DESTDIR={}", scratch.path().display()), "PREFIX=/opt/pintle".to_owned()];
    make(&machine, "install", &variables);
    let root = scratch.path().join("opt/pintle");
    let installed = files(&root);
    for expected in [
        "bin/pintle",
        "bin/pintle-runc",
        "lib/systemd/system/pintle.service",
        "lib/systemd/system/pintle-server.service",
        "lib/systemd/system/pintle-agent.service",
        "share/bash-completion/completions/pintle",
        "share/zsh/site-functions/_pintle",
        "share/fish/vendor_completions.d/pintle.fish",
        "share/man/man1/pintle.1",
        "share/man/man1/pintle-up.1",
        "share/man/man1/pintle-server.1",
        "share/man/man1/pintle-agent.1",
    ] {
        assert!(installed.iter().any(|f| f == expected), "{expected} is not among {installed:#?}");
    }
    let unit = std::fs::read_to_string(root.join("lib/systemd/system/pintle.service")).unwrap();
    assert!(unit.contains("ExecStart=/opt/pintle/bin/pintle up --foreground") && !unit.contains('@'), "{unit}");
    machine.sh(&format!("bash -n '{}'", root.join("share/bash-completion/completions/pintle").display()));
    machine.sh(&format!("'{}' version", root.join("bin/pintle").display()));
    make(&machine, "uninstall", &variables);
    assert_eq!(files(&root), Vec::<String>::new());
}
