//! Real nodes have cgroup v2 and no v1 controllers: a whole cluster in a VM that is so, on Debian's kernel.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{kubectl, repository, require_root, target_binary};
use std::path::Path;
use std::process::{Command, Output};

/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];

const POWER_CUT: &str = "cgroup v2: now the power fails";

/// One boot of the VM on `disk`; `part` is a function of guest.sh.
fn boot(part: &str, disk: &Path) -> Output {
    let repository = repository();
    let bin = target_binary("pintle").parent().unwrap().to_owned();
    let variables = format!("BIN={} KUBECTL={}", bin.display(), kubectl("v1.37").display());
    Command::new(repository.join("vagrant/vm/run.sh"))
        .args(["-d", "2G", "-m", "2048", "-t", "550", "-s"])
        .arg(&repository)
        .arg("-s")
        .arg(&bin)
        .arg("-D")
        .arg(disk)
        .args(["--", "bash", "tests/tests/cgroup_v2/guest.sh", part])
        .current_dir(&repository)
        .env("GUEST_ENV", variables)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Software emulation dies now and then; the product's own failures have other codes and are not tried again.
fn emulation_died(output: &Output) -> bool {
    output.status.code().is_some_and(|code| VM_FAILED.contains(&code))
}

/// Everything up to the power cut, on a fresh disk.
fn until_the_power_fails(disk: &Path) -> String {
    for _ in 0..2 {
        let output = boot("first", disk);
        let said = text(&output);
        if said.contains(POWER_CUT) {
            return said;
        }
        assert!(emulation_died(&output), "{}\n{said}", output.status);
        println!("the VM failed with {}, once more", output.status);
        std::fs::remove_file(disk).unwrap();
    }
    panic!("the VM failed twice");
}

#[test]
fn a_cluster_runs_the_example_under_cgroup_v2_with_its_limits_in_the_kernel_and_is_back_after_a_power_cut() {
    if !require_root("a kernel with 9p and QEMU from Debian's packages") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    println!("{}", until_the_power_fails(&disk));
    let mut output = boot("second", &disk);
    if emulation_died(&output) {
        println!("the VM failed with {}, once more", output.status);
        output = boot("second", &disk);
    }
    let said = text(&output);
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains("cgroup v2: all is well after a power cut"), "{said}");
    println!("{said}");
}
