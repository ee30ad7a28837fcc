//! Every case against pintle-runc alone; `make conformance-runtime` runs them against runc and crun too.

use pintle_conformance::runner::{Runtime, Site};
use pintle_conformance::{case, run, surprise};

#[test]
fn pintle_runc_holds_to_every_sentence() {
    if !pintle_testkit::require_root("containers") {
        return;
    }
    let program = pintle_testkit::target_binary("pintle-runc");
    let _mounts = pintle_testkit::MountNs::private();
    let work = tempfile::tempdir().expect("a temporary directory");
    let site = Site::new(work.path()).expect("the tools of the cases");
    let runtime = Runtime { name: "pintle".to_owned(), program, libraries: None };
    let cases: Vec<_> = case::all().expect("the cases parse").into_iter().flat_map(|(_, cases)| cases).collect();
    let rows = run(&site, &cases, &[runtime], 4);
    assert_eq!(rows.len(), cases.len(), "every case has a row");
    let surprises: Vec<String> = rows.iter().filter_map(|row| surprise(row, 0)).collect();
    assert!(surprises.is_empty(), "{} surprises:\n{}", surprises.len(), surprises.join("\n"));
}
