//! A short version of what `make conformance-runtime` does with 1,000 containers.

use pintle_conformance::crowd;
use pintle_conformance::runner::Runtime;

#[test]
fn sixty_containers_in_twenty_workers_leave_nothing_behind() {
    if !pintle_testkit::require_root("containers") {
        return;
    }
    let program = pintle_testkit::target_binary("pintle-runc");
    let _mounts = pintle_testkit::MountNs::private();
    let work = tempfile::tempdir().expect("a temporary directory");
    let runtime = Runtime { name: "pintle".to_owned(), program, libraries: None };
    let outcome = crowd::run(&runtime, work.path(), 60, 20).expect("every command succeeds");
    assert_eq!(outcome.left, Vec::<String>::new());
}
