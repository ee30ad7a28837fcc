//! Real nodes have cgroup v2 and no v1 controllers: a whole cluster in a VM that is so, on Debian's kernel.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{kubectl, repository, require_root, target_binary};
use std::process::{Command, Output};

/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];

fn guest() -> Output {
    let repository = repository();
    let bin = target_binary("pintle").parent().unwrap().to_owned();
    let variables = format!("BIN={} KUBECTL={}", bin.display(), kubectl("v1.37").display());
    Command::new(repository.join("vagrant/vm/run.sh"))
        .args(["-d", "2G", "-m", "2048", "-t", "280", "-s"])
        .arg(&repository)
        .arg("-s")
        .arg(&bin)
        .args(["--", "bash", "tests/tests/cgroup_v2/guest.sh"])
        .current_dir(&repository)
        .env("GUEST_ENV", variables)
        .output()
        .unwrap()
}

#[test]
fn a_cluster_runs_the_example_under_cgroup_v2_with_its_limits_in_the_kernel() {
    if !require_root("a kernel with 9p and QEMU from Debian's packages") {
        return;
    }
    let mut output = guest();
    // Software emulation dies now and then; the product's own failures have other codes and are not tried again.
    if output.status.code().is_some_and(|code| VM_FAILED.contains(&code)) {
        println!("the VM failed with {}, once more", output.status);
        output = guest();
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains("cgroup v2: all is well"), "{said}");
    println!("{said}");
}
