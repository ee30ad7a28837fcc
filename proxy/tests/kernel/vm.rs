//! What this machine's kernel cannot show: this very program runs some of its tests again in a VM with Debian's kernel.

use std::process::{Command, Output};

use pintle_testkit::{repository, require_root};

/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];

/// Runs tests of this program, in a kernel that `prepare` (a shell command) has made ready, with `must` set in their
/// environment; all of them must pass.
pub fn run(prepare: &str, must: &str, tests: &[&str]) {
    if !require_root("a kernel with 9p and QEMU from Debian's packages") {
        return;
    }
    let mut output = boot(prepare, must, tests);
    // Software emulation dies now and then; failed tests have another code and are not tried again.
    if output.status.code().is_some_and(|code| VM_FAILED.contains(&code)) {
        println!("the VM failed with {}, once more", output.status);
        output = boot(prepare, must, tests);
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains(&format!("{} passed", tests.len())), "{said}");
}

fn boot(prepare: &str, must: &str, tests: &[&str]) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(repository().join("vagrant/vm/run.sh"))
        .args(["-t", "280", "-s"])
        .arg(program.parent().unwrap())
        .args(["--", "sh", "-c", &format!("{prepare} && exec \"$@\""), "sh"])
        .arg(&program)
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .args(tests)
        .current_dir("/")
        .env("GUEST_ENV", format!("{must}=1"))
        .output()
        .unwrap()
}
