//! The units as a real systemd takes them, in a VM of its own: started, restarted, killed and stopped; and containers
//! whose cgroups systemd makes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{kubectl, repository, require_root, target_binary};
use std::path::Path;
use std::process::{Command, Output};

/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];
const UNITS: [&str; 3] = ["pintle-server.service", "pintle-agent.service", "pintle.service"];

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn systemd_finds_nothing_to_complain_about_in_the_units() {
    let scratch = tempfile::tempdir().unwrap();
    let bin = scratch.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/true", bin.join("pintle")).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in UNITS {
        let installed = scratch.path().join(unit);
        let text = std::fs::read_to_string(repository().join("dist/systemd").join(unit)).unwrap();
        std::fs::write(&installed, text.replace("@PREFIX@", scratch.path().to_str().unwrap())).unwrap();
        verify.arg(installed);
    }
    let output = verify.output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), ""));
}

/// One boot of the VM; the script gets the programs' directory as BIN.
fn boot(cgroups: &[&str], script: &str, variables: &str) -> Output {
    let repository = repository();
    let bin = target_binary("pintle-runc").parent().unwrap().to_owned();
    let variables = format!("BIN={} {variables}", bin.display());
    Command::new(repository.join("vagrant/vm/run.sh"))
        .args(cgroups)
        .args(["-S", "-d", "2G", "-m", "2048", "-t", "550", "-s"])
        .arg(&repository)
        .arg("-s")
        .arg(&bin)
        .args(["--", "bash"])
        .arg(Path::new("tests/tests/systemd").join(script))
        .current_dir(&repository)
        .env("GUEST_ENV", variables)
        .output()
        .unwrap()
}

/// Software emulation dies now and then; the product's own failures have other codes and are not tried again.
fn says_in_the_vm(words: &str, cgroups: &[&str], script: &str, variables: &str) {
    if !require_root("a kernel with 9p and QEMU from Debian's packages") {
        return;
    }
    let mut output = boot(cgroups, script, variables);
    if output.status.code().is_some_and(|code| VM_FAILED.contains(&code)) {
        println!("the VM failed with {}, once more", output.status);
        output = boot(cgroups, script, variables);
    }
    let said = text(&output);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains(words), "{said}");
    println!("{said}");
}

#[test]
fn under_systemd_a_restart_keeps_the_containers_and_a_stop_leaves_only_pods() {
    let kubectl = format!("KUBECTL={}", kubectl("v1.37").display());
    says_in_the_vm("systemd: all is well", &[], "guest.sh", &kubectl);
}

#[test]
fn a_container_is_a_unit_of_systemd_where_that_is_asked_for() {
    says_in_the_vm("systemd: containers are units", &[], "containers.sh", "");
}

fn on_cgroup_v1(kind: &str) {
    let words = format!("systemd: containers are units on {kind} cgroups");
    says_in_the_vm(&words, &["-L", kind], "containers-v1.sh", &format!("KIND={kind}"));
}

#[test]
fn on_cgroup_v1_too() {
    on_cgroup_v1("legacy");
}

#[test]
fn on_cgroup_v1_with_systemds_own_hierarchy_on_v2_too() {
    on_cgroup_v1("hybrid");
}
