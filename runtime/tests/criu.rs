//! `checkpoint` and `restore` up to the point where CRIU takes over; the rest needs a kernel that CRIU knows, and has a VM of
//! its own (tests/tests/criu).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Bundle, require_root, texts};
use std::process::Output;

fn with_path(bundle: &Bundle, path: &std::path::Path, args: &[&str]) -> Output {
    bundle.command(args).current_dir(bundle.path()).env("PATH", path).output().unwrap()
}

fn says(output: &Output, expected: &str) {
    let (out, err, code) = texts(output);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains(expected), "{expected}: {err}");
}

#[test]
fn without_criu_both_commands_say_so_and_how_to_get_it() {
    if !require_root("makes a container") {
        return;
    }
    let bundle = Bundle::new("sleep 100");
    let empty = bundle.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(bundle.create(), 0);
    says(&with_path(&bundle, &empty, &["checkpoint", "c"]), "Container cannot be checkpointed in created state");
    assert_eq!(bundle.runc(&["start", "c"]).status.code(), Some(0));
    let missing = "cannot find criu in $PATH";
    says(&with_path(&bundle, &empty, &["checkpoint", "c"]), missing);
    assert_eq!(bundle.status(), "running");
    let own = bundle.path().to_string_lossy();
    let restored = with_path(&bundle, &empty, &["restore", "--bundle", &own, "d"]);
    says(&restored, missing);
    says(&restored, "apt-get install criu");
    assert!(!bundle.root().join("d").exists() && !bundle.path().join("checkpoint").exists());
}

#[test]
fn flags_that_make_no_sense_are_refused_in_runcs_words() {
    if !require_root("makes a container") {
        return;
    }
    let bundle = Bundle::new("sleep 100");
    let empty = bundle.path().to_owned();
    for (flag, expected) in [
        ("--manage-cgroups-mode=x", "Invalid manage-cgroups-mode value"),
        ("--page-server=h", "Use --page-server ADDRESS:PORT to specify page server"),
        ("--empty-ns=pid", "namespace \\\"pid\\\" is not supported"),
        ("--parent-path=/abs", "--parent-path must be relative"),
        ("--parent-path=none", "invalid --parent-path"),
        ("--status-fd=77", "invalid --status-fd argument 77"),
    ] {
        says(&with_path(&bundle, &empty, &["checkpoint", flag, "c"]), expected);
    }
    says(&with_path(&bundle, &empty, &["checkpoint", "c"]), "container does not exist");
}
