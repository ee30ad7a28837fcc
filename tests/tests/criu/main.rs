//! Checkpoint and restore through Debian's CRIU, in a VM: this needs a kernel that CRIU knows.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use pintle_testkit::{repository, require_root, target_binary};
use std::process::{Command, Output};

/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];

fn boot() -> Output {
    let repository = repository();
    let bin = target_binary("pintle-runc").parent().unwrap().to_owned();
    Command::new(repository.join("vagrant/vm/run.sh"))
        .args(["-d", "512M", "-t", "800", "-s"])
        .arg(&repository)
        .arg("-s")
        .arg(&bin)
        .args(["--", "bash", "tests/tests/criu/guest.sh"])
        .current_dir(&repository)
        .env("GUEST_ENV", format!("BIN={}", bin.display()))
        .output()
        .unwrap()
}

#[test]
fn a_counting_process_is_checkpointed_and_goes_on_counting_where_it_was() {
    if !require_root("QEMU, a kernel with 9p, and CRIU from Debian's packages") {
        return;
    }
    let criu = Command::new("criu").arg("--version").output();
    assert!(criu.is_ok_and(|output| output.status.success()), "criu is missing; `make deps` installs it");
    let mut output = boot();
    // Software emulation dies now and then; the product's own failures have other codes and are not tried again.
    if output.status.code().is_some_and(|code| VM_FAILED.contains(&code)) {
        println!("the VM failed with {}, once more", output.status);
        output = boot();
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("criu: all is well"), "{}\n{said}", output.status);
    println!("{said}");
}
