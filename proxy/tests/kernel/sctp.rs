//! SCTP, which the kernels of many machines lack: this very program replays the table in a VM with Debian's.

use std::process::{Command, Output};

use pintle_testkit::{repository, require_root};

/// Set where the kernel must have SCTP.
pub const MUST: &str = "PINTLE_SCTP_MUST";
/// run.sh: time-out, and death of the VM itself.
const VM_FAILED: [i32; 2] = [124, 125];
const REPLAYS: [&str; 2] = [
    "replay::the_table_holds_for_real_sctp_over_ipv4_where_the_kernel_has_it",
    "replay::the_table_holds_for_real_sctp_over_ipv6_where_the_kernel_has_it",
];

fn boot() -> Output {
    let program = std::env::current_exe().unwrap();
    let shell = "modprobe -a sctp nf_tables nft_chain_nat nf_conntrack veth && exec \"$@\"";
    Command::new(repository().join("vagrant/vm/run.sh"))
        .args(["-t", "280", "-s"])
        .arg(program.parent().unwrap())
        .args(["--", "sh", "-c", shell, "sh"])
        .arg(&program)
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .args(REPLAYS)
        .current_dir("/")
        .env("GUEST_ENV", format!("{MUST}=1"))
        .output()
        .unwrap()
}

#[test]
fn the_table_holds_for_real_sctp_in_a_vm() {
    if !require_root("a kernel with 9p and QEMU from Debian's packages") {
        return;
    }
    let mut output = boot();
    // Software emulation dies now and then; failed tests have another code and are not tried again.
    if output.status.code().is_some_and(|code| VM_FAILED.contains(&code)) {
        println!("the VM failed with {}, once more", output.status);
        output = boot();
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains("2 passed"), "{said}");
}
