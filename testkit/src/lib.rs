//! What tests share: root, throw-away namespaces, machines made of namespaces, checks that nothing is left behind, and
//! where the real clients lie.
//!
//! Nothing here is used by the product. Unlike the product, it may call `ip`, `nft` and `nsenter`: a test that checks
//! our rtnetlink code with our rtnetlink code would check nothing.

mod cgroup;
mod cluster;
mod leftovers;
mod machine;
mod namespaces;
mod programs;

pub use cgroup::Cgroup;
pub use cluster::{BUSYBOX_IMAGE, Cluster, build_busybox, feed};
pub use leftovers::Scope;
pub use machine::{Machine, link};
pub use namespaces::{MountNs, Netns};
pub use programs::{busybox, helm, kubectl, repository, target_binary};

/// Whether the test may go on. Without root it says so loudly and returns `false`; where the environment says that
/// nothing may be skipped (`CI=true`) it panics instead.
pub fn require_root(what: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "root is needed for {what}, and CI=true skips nothing");
    eprintln!("SKIPPED, NOT TESTED: {what} needs root");
    false
}

/// Waits until `condition` gives something, looking again every 20 ms.
///
/// # Panics
/// After `limit`, naming `what`.
pub fn eventually<T>(what: &str, limit: std::time::Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = std::time::Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(std::time::Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
