//! SCTP, which the kernels of many machines lack: the table is replayed, and
//! an update rolls under load, in a VM with Debian's.

use crate::vm;

/// Set where the kernel must have SCTP.
pub const MUST: &str = "PINTLE_SCTP_MUST";

#[test]
fn the_table_holds_for_real_sctp_in_a_vm() {
    vm::run(
        "modprobe -a sctp nf_tables nft_chain_nat nf_conntrack veth",
        MUST,
        &[
            "replay::the_table_holds_for_real_sctp_over_ipv4_where_the_kernel_has_it",
            "replay::the_table_holds_for_real_sctp_over_ipv6_where_the_kernel_has_it",
        ],
    );
}

#[test]
fn a_rolling_update_under_load_fails_no_sctp_association_in_a_vm() {
    vm::run(
        "modprobe -a sctp nf_tables nft_chain_nat nf_conntrack veth",
        MUST,
        &["soak::a_rolling_update_under_load_fails_no_sctp_association_where_the_kernel_has_it"],
    );
}
